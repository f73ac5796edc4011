"""The policy of a baseline, as evaluations take it."""

from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from deploy.distributed.baselines.environment import Layout

Arrays = dict[str, np.ndarray]


class BaselinePolicy:
    """Samples actions of RLlib's networks; the same `draw` gives the same ones."""

    def __init__(self, module: Any, layout: Layout, seed: int) -> None:
        self._module, self._layout, self._seed = module, layout, seed

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        batch = {Columns.OBS: torch.from_numpy(self._layout.observation(observation))}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # training draws as if nobody had looked
            torch.manual_seed((self._seed << 20) + draw)
            inputs = self._module.forward_exploration(batch)[Columns.ACTION_DIST_INPUTS]
            actions = self._module.get_exploration_action_dist_cls().from_logits(inputs).sample()
        return None, self._layout.action(actions.numpy()), {}
