"""Background tasks: a table as the tasks framework's backend, a worker, and the agents that are its work."""
