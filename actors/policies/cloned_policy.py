"""A policy that imitates: a network over the newest frame, and what its choices mean as actions."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from actors.trivial_policies import Arrays

KEY = "action"


class ClonedPolicy:
    """Samples a class from the logits `[N A]` that `network` gives for the key `image` of N observations; `translate`
    makes a real action of it, where the network was trained on latent ones."""

    def __init__(
        self, network: Callable[[Tensor], Tensor], translate: Callable[[Tensor], Tensor] | None = None, seed: int = 0
    ):
        self.network, self.translate, self.seed = network, translate, seed

    def initial(self, rows: int) -> None:
        return None

    def act(self, carry: None, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[None, Arrays, Arrays]:
        generator = torch.Generator().manual_seed((self.seed << 32) + draw)
        with torch.inference_mode():
            logits = self.network(torch.as_tensor(observation["image"]))
            chosen = logits.softmax(-1).multinomial(1, generator=generator)[:, 0]
            actions = chosen if self.translate is None else self.translate(chosen)
        return None, {KEY: actions.numpy().astype(np.int32)}, {}
