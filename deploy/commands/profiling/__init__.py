"""`nexus profile`."""
