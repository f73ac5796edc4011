"""Files and directories that are complete or absent, memory-mapped files, checksums."""
