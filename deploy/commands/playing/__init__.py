"""`nexus play`."""
