"""The world model's health, measured on windows of replay that are read for this only."""
