"""Stored replay as a source: what can be asked of a shard without a run, its episodes, clips of its shards."""
