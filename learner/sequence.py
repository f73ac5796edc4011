"""Lengths of the sequences that the learner samples from replay. Torch-free: actors and shards need them too."""

from learner.config import LearnerConfig

CONTEXT = 1
"""Replayed steps before the training columns."""


def sample_length(config: LearnerConfig) -> int:
    """Steps of one replayed sequence: the context and all training columns cut from it."""
    return CONTEXT + config.consecutive * config.batch_length


def start_items(config: LearnerConfig) -> int:
    """Number of sequences in replay at which training starts."""
    return config.start_items or config.batch_size * config.batch_length
