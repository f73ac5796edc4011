"""Whole runs: real environments, real processes."""
