"""DreamerV3 (Hafner et al., Nature 2025): world model, imagination and actor-critic."""
