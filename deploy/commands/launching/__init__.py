"""`nexus launch`, `jobs` and `logs`."""
