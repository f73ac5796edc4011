"""Stored replay as users name it: sources, reports, episode files, data sets, forecasts."""
