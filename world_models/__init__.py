"""World models: DreamerV3, and the layers, distributions and snapshots that model families share."""
