"""Replay in checksummed files."""
