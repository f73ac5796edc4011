"""Reports on the world model's health: files, verdicts."""
