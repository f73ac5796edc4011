"""Runs as jobs of Slurm: one batch script, in whose allocation a Ray cluster of its own is started for each run."""
