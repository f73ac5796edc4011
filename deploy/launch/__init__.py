"""Runs started elsewhere: jobs of a Ray cluster, of Slurm, of Kubernetes and of Docker Compose."""
