"""Replay on Redis servers."""
