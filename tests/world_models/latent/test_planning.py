"""Latent world models as planners see them: what they remember, what they make of pictures and actions."""

import numpy as np
import pytest
import torch

from learner.datasets.view import View
from tests.world_models.latent.small import build
from tests.world_models.small_agent import CONTINUOUS, DISCRETE
from world_models.latent.planning import LatentPlanning
from world_models.protocol import leaves


def pictures(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(2, height, width, 3), dtype=np.uint8)


ACTION = torch.tensor([[0.5, -1.0], [0.2, 0.3]])


def test_as_many_frames_are_remembered_as_predictions_are_made_from() -> None:
    planning = LatentPlanning(build(history=2))
    with torch.no_grad():
        first = planning.encode(pictures(0), planning.initial(2), ACTION)  # what is before a blank state is nothing
        assert first.past[0].shape == (2, 0, 6)
        second = planning.encode(pictures(1), first, ACTION, torch.zeros(2, dtype=torch.bool))
        third = planning.encode(pictures(2), second, -ACTION)
        for state, before, action in ((second, first, ACTION), (third, second, -ACTION)):
            assert torch.equal(state.past[0][:, 0], before.latent) and torch.equal(state.past[1][:, 0], action)
        alone = planning.encode(pictures(1))
        assert not torch.allclose(planning.step(second, ACTION).latent, planning.step(alone, ACTION).latent)
        again = planning.encode(pictures(1), first, ACTION, torch.tensor([False, True]))
        assert all(map(torch.equal, leaves(again), leaves(alone)))


@pytest.mark.parametrize(("height", "width"), [(20, 20), (12, 19), (15, 8)])
def test_pictures_are_cropped_and_resized_as_in_training(height: int, width: int) -> None:
    planning = LatentPlanning(build())
    seen = pictures(0, height, width)
    views = np.concatenate([View(size=8)(picture[None], np.random.default_rng(0)) for picture in seen])
    torch.testing.assert_close(planning.encode({"image": seen}).latent, planning.encode(views).latent)


def test_actions_are_the_tasks_or_from_minus_one_to_one() -> None:
    (space,) = LatentPlanning(build()).action_space.values()
    assert (space.shape, space.low, space.high) == ((2,), -1, 1)
    spaces = {"button": DISCRETE, "stick": CONTINUOUS}
    assert LatentPlanning(build(action=5), spaces).action_space is spaces
    with pytest.raises(ValueError, match=r"\(button, stick\) have 5 numbers, .* trained with 2"):
        LatentPlanning(build(), spaces)
    with pytest.raises(ValueError, match="has image, but no picture in 'camera'"):
        LatentPlanning(build(), image="camera").encode({"image": pictures(0)})


def test_the_goal_itself_is_at_no_distance() -> None:
    planning = LatentPlanning(build())
    state, other = planning.encode(pictures(0)), planning.encode(pictures(1))
    assert torch.equal(planning.features(state), planning.features(planning.encode(pictures(0))))
    assert not torch.allclose(planning.features(state), planning.features(other))
