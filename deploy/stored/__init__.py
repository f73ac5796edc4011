"""Stored replay: sources that users name, reports, episode files, datasets, size forecasts."""
