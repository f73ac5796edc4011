"""Wires actors, replay and learner into runs: the `nexus` command and everything behind it."""
