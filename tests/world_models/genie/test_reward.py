"""Reward heads: which values they know, and that they are saved whole."""

import numpy as np
import pytest
import torch

from tests.world_models.genie.small import clips
from world_models.genie.reward import MOST_VALUES, RewardHead


def test_a_reward_is_one_of_those_seen() -> None:
    torch.manual_seed(0)
    head = RewardHead.for_rewards(np.array([0, 1, 0, -0.5, 1], np.float32), 3)
    assert head.values.tolist() == [-0.5, 0, 1]
    before, after = clips(6, 2).unbind(1)
    assert set(head.reward(before, after).tolist()) <= {-0.5, 0.0, 1.0}
    head.logits.bias.data[:] = torch.tensor([0.0, 0.0, 50.0])
    assert head.reward(before, after).tolist() == [1.0] * 6


def test_the_nearest_value_counts() -> None:
    head = RewardHead(torch.tensor([0.0, 1.0]), 3)
    before, after = clips(4, 2).unbind(1)
    losses = [head.losses(before, after, torch.full((4,), x))["cross_entropy"] for x in (0.9, 1.0, 0.1)]
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


def test_many_values_become_quantiles() -> None:
    head = RewardHead.for_rewards(np.random.default_rng(0).random(5000, np.float32), 3)
    assert len(head.values) == MOST_VALUES and (head.values.diff() > 0).all()
    assert float((head.values - torch.linspace(0, 1, MOST_VALUES)).abs().max()) < 0.05


def test_it_is_loaded_as_it_was_saved() -> None:
    head = RewardHead(torch.tensor([0.0, 2.0]), 1, width=4).eval()
    again = RewardHead.from_arrays(head.arrays(), "reward.safetensors")
    frames = clips(5, 2)[..., :1].unbind(1)
    assert torch.equal(head(*frames), again(*frames))
    with pytest.raises(ValueError, match=r"reward\.safetensors holds no reward head"):
        RewardHead.from_arrays({}, "reward.safetensors")
