"""Publishers against each other and against a database that fails them: processes, locks, lost commits."""
