"""Learner: batches from replay, one update, latents back to replay, snapshots out. Runs without Ray."""
