"""Real programs beside the servers: PostgreSQL, Redis, nginx, started and ended by their own id."""
