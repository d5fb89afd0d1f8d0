"""Real programs and honest clients for the tests: one noun per module, every wait bounded."""
