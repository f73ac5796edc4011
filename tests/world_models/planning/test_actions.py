"""Dict actions as vectors and back."""

import numpy as np
import pytest
import torch

from tests.world_models.small_agent import CONTINUOUS, DISCRETE, MULTI_DISCRETE, SCALAR, random_values
from world_models.layers import concat_dict, total_width
from world_models.planning.actions import ActionLayout
from world_models.space import Space

SPACES = {"stick": CONTINUOUS, "button": DISCRETE, "keys": MULTI_DISCRETE, "pedal": SCALAR}


def test_vectors_are_laid_out_as_world_models_take_them() -> None:
    layout = ActionLayout(SPACES)
    actions = {k: torch.as_tensor(v) for k, v in random_values(np.random.default_rng(0), SPACES, 5).items()}
    vector = layout.vector(actions)
    torch.testing.assert_close(vector, concat_dict(SPACES, actions))
    assert vector.shape == (5, layout.width) == (5, total_width(SPACES))
    back = layout.by_key(vector)
    assert back.keys() == actions.keys()
    for key, value in actions.items():
        torch.testing.assert_close(back[key], value.to(back[key].dtype))


def test_bounds_of_the_model_are_mapped_to_those_of_the_actors() -> None:
    torque = {"torque": Space(dtype=np.dtype(np.float32), shape=(1,), low=-2.0, high=4.0)}
    layout = ActionLayout(torque)
    assert layout.by_key(torch.tensor([[-2.0], [1.0], [4.0]]))["torque"].tolist() == [[-1.0], [0.0], [1.0]]
    assert layout.vector({"torque": torch.tensor([[-1.0], [1.0]])}).tolist() == [[-2.0], [4.0]]


def test_a_missing_bound_counts_as_one() -> None:
    layout = ActionLayout({"free": Space(dtype=np.dtype(np.float32), shape=(2,))})
    assert layout.low.tolist() == [-1, -1] and layout.high.tolist() == [1, 1]


def test_uniform_actions_cover_bounds_and_classes() -> None:
    layout = ActionLayout(SPACES)
    actions = layout.uniform(3000, generator=torch.Generator().manual_seed(0))
    assert (actions >= layout.low).all() and (actions <= layout.high).all()
    torch.testing.assert_close(actions.mean(0), layout.middle, atol=0.05, rtol=0)
    assert (layout.nearest(actions) == actions).all(), "they are actions, not means of some"


def test_samples_follow_the_frequencies_of_their_mean() -> None:
    layout = ActionLayout({"button": DISCRETE})
    mean = torch.tensor([[[0.7, 0.3, 0.0]]])
    noise = torch.zeros(1, 4000, 1, 3)
    drawn = layout.sample(mean, noise, 0.0, torch.Generator().manual_seed(0)).mean((0, 1, 2))
    torch.testing.assert_close(drawn, mean[0, 0], atol=0.03, rtol=0)
    mixed = layout.sample(mean, noise, 0.3, torch.Generator().manual_seed(0)).mean((0, 1, 2))
    torch.testing.assert_close(mixed, torch.tensor([0.59, 0.31, 0.1]), atol=0.03, rtol=0)


def test_a_model_without_actions_cannot_be_planned() -> None:
    with pytest.raises(ValueError, match="takes no actions, so there is nothing to plan"):
        ActionLayout({})
