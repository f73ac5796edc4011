"""A small world of the block world's size, untrained, and clips for it."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from deploy.stored.datasets import open_dataset
from learner.datasets.batches import Batches
from learner.datasets.dataset import Clip
from world_models.genie.config import (
    DynamicsConfig,
    GenieConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
)
from world_models.genie.genie import Genie

SMALL = TransformerConfig(width=16, depth=1, heads=2)
FRAMES = 6


def config(real_actions: int = 0) -> GenieConfig:
    codes = QuantizerConfig(codes=16, width=4)
    sizes: dict[str, Any] = {"size": 32, "frames": FRAMES, "patch": 8, "encoder": SMALL, "decoder": SMALL}
    return GenieConfig(
        tokenizer=TokenizerConfig(**sizes, quantizer=codes),
        latent_action=LatentActionConfig(**sizes, actions=6),
        dynamics=DynamicsConfig(transformer=SMALL, steps=2),
        real_actions=real_actions,
    )


def world(real_actions: int = 0) -> Genie:
    torch.manual_seed(0)
    model = Genie(config(real_actions)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # large enough for tokens to differ
    assert model.dynamics.action is not None
    torch.nn.init.normal_(model.dynamics.action.weight, std=5.0)  # and for actions to matter
    torch.nn.init.zeros_(model.dynamics.stay.bias)  # a fresh world stands still
    return model


@cache
def batches() -> list[dict[str, Tensor]]:
    data = open_dataset("generated:block_world", Clip(frames=FRAMES), split="test")
    found = Batches(data, size=8, seed=0, threads=0)
    return [{key: torch.from_numpy(value) for key, value in found.batch(k).items()} for k in range(2)]
