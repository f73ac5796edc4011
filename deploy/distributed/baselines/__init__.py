"""RLlib's PPO and SAC on the tasks of Nexus, with the same logs as its own runs."""

import logging
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # RLlib imports everything that it can adapt; a machine without a display warns
    import ray.rllib

logging.getLogger(ray.rllib.__name__).setLevel(logging.ERROR)  # it recommends to turn off what is used here
