"""init_stats.npz: shapes and statistics of a fresh initialisation."""

import math

import numpy as np
import torch

from tests.parity.check import Check
from tests.parity.official_config import networks, rssm_config, spaces
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.official_names import official_names, to_official

POOLED = 2  # initialisations pooled by the file
SEEDS = range(16)  # and by us: many, so that the reference's own spread is nearly all there is
CUT = 1 / 0.87962566  # 1.1368: sigma of the normal before the cut, in standard deviations after it
KURTOSIS = 2.3655  # of a normal cut at two sigma
EDGE_DENSITY = 0.05399 / 0.95450  # of that normal at the cut, per sigma


def check_init(check: Check) -> None:
    """Every parameter of agents with the file's configuration, from several seeds."""
    config = check.json()
    values: dict[str, list[np.ndarray]] = {}
    with torch.random.fork_rng(devices=[]):
        for seed in SEEDS:
            torch.manual_seed(seed)
            agent = Dreamer(
                spaces(config["obs_space"]),
                spaces(config["act_space"]),
                DreamerConfig(**networks(config), rssm=rssm_config(config["rssm"])),
            )
            parameters = dict(agent.named_parameters())
            for ours, theirs in official_names(agent).items():
                values.setdefault(theirs, []).append(to_official(agent, ours, parameters[ours]))
    for name, arrays in values.items():
        pooled = np.stack(arrays).astype(np.float64)
        stats = np.array([pooled.mean(), pooled.std(), pooled.min(), pooled.max()])
        check.compare(f"{name}/shape", np.array(arrays[0].shape), "exact")
        check.compare(f"{name}/stats", stats, "statistics", scale=standard_errors(stats[1], arrays[0].size))


def standard_errors(std: float, size: int) -> np.ndarray:
    """Standard errors of the difference of [mean, std, min, max] between the file's sample and ours.

    Zero for constants, which must agree exactly. The extremes of n values lie about `sigma / (n density)` inside the
    cut, exponentially spread. All but the deviation, which is the one that the task names, get half as much room again:
    there are hundreds of them.
    """
    few, many = POOLED * size, len(SEEDS) * size
    per_value = math.sqrt(1 / few + 1 / many)
    rare = -math.log(math.erfc(6 / math.sqrt(2)))
    extreme = min(std * CUT / (few * EDGE_DENSITY) * rare / 4, std * CUT)
    return np.array([std * per_value * 1.5, std * per_value * math.sqrt((KURTOSIS - 1) / 4), extreme, extreme])
