"""Stored replay as a source: what can be asked of a shard without a run, and clips drawn from shards."""
