"""Replay in the memory of a process, and its checkpoints."""
