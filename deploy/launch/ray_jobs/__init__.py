"""Jobs of a Ray cluster, through its job server."""
