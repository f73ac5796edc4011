"""Replay: streams of steps in, batches of sequences out. See `replay.store.Store` for the contract."""
