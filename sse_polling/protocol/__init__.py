"""The pure part: no socket, no database, no clock of its own, only the standard library."""
