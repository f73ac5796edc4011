"""V-JEPA 2-AC as planners see it: what it remembers, what it makes of pictures, states and actions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.datasets.view import View
from tests.world_models.jepa.small_vjepa2_ac import build
from tests.world_models.small_agent import CONTINUOUS, DISCRETE
from world_models.frames import normalise
from world_models.jepa.planning import VJEPA2ACPlanning
from world_models.protocol import leaves


def pictures(seed: int, height: int = 8, width: int = 8, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(rows, height, width, 3), dtype=np.uint8)


ACTION = torch.tensor([[0.5, -1.0], [0.2, 0.3]])


def test_observed_frames_are_remembered_until_the_context_is_full() -> None:
    inner = build()
    planning = VJEPA2ACPlanning(inner, context=2)
    clip = np.stack([pictures(0), pictures(1)], 1)
    latents = inner.encode(normalise(torch.from_numpy(clip)))
    with torch.no_grad():
        expected = inner.step(inner.begin(latents, ACTION[:, None]), ACTION)
        first = planning.encode(clip[:, 0], planning.initial(2), ACTION)  # what is before a blank state is nothing
        torch.testing.assert_close(first.latent, latents[:, 0])
        second = planning.encode(clip[:, 1], first, ACTION, torch.zeros(2, dtype=torch.bool))
        torch.testing.assert_close(planning.step(second, ACTION).latent, expected.latent)
        alone = planning.encode(clip[:, 1])
        assert not torch.allclose(planning.step(alone, ACTION).latent, expected.latent, atol=1e-4)
        for again in (
            planning.encode(clip[:, 1], second, ACTION),  # full
            planning.encode(clip[:, 1], first, ACTION, torch.tensor([False, True])),
            VJEPA2ACPlanning(inner).encode(clip[:, 1], first, ACTION),
        ):
            assert all(map(torch.equal, leaves(again), leaves(alone)))


@pytest.mark.parametrize(("height", "width"), [(20, 20), (12, 19), (15, 8)])
def test_pictures_are_cropped_and_resized_as_in_training(height: int, width: int) -> None:
    planning = VJEPA2ACPlanning(build())
    seen = pictures(0, height, width)
    views = np.concatenate([View(size=8)(picture[None], np.random.default_rng(0)) for picture in seen])
    torch.testing.assert_close(planning.encode({"image": seen}).latent, planning.encode(views).latent)
    assert torch.equal(planning.features(planning.encode(seen)), planning.encode(seen).latent.flatten(1))


def test_vectors_of_an_observation_are_the_state() -> None:
    planning = VJEPA2ACPlanning(build(state=3), image="camera")
    position, height = np.ones((2, 2), np.float32), np.zeros(2, np.float32)
    state = planning.encode({"position": position, "height": height, "camera": pictures(0), "goal": pictures(1)}).state
    assert state.tolist() == [[0, 1, 1], [0, 1, 1]]
    for observation in ({"camera": pictures(0), "position": position}, pictures(0)):
        with pytest.raises(ValueError, match="takes states of 3 numbers, but the vectors of the observation have"):
            planning.encode(observation)
    with pytest.raises(ValueError, match="has image, but no picture in 'camera'"):
        planning.encode({"image": pictures(0)})


def test_actions_are_the_tasks_or_from_minus_one_to_one() -> None:
    (space,) = VJEPA2ACPlanning(build()).action_space.values()
    assert (space.shape, space.low, space.high) == ((2,), -1, 1)
    spaces = {"button": DISCRETE, "stick": CONTINUOUS}
    assert VJEPA2ACPlanning(build(action=5), spaces).action_space is spaces
    for wrong, message in (
        (lambda: VJEPA2ACPlanning(build(), spaces), r"\(button, stick\) have 5 numbers, .* trained with 2"),
        (lambda: VJEPA2ACPlanning(build(extrinsics=6, use_extrinsics=True)), "needs a camera's extrinsics"),
        (lambda: VJEPA2ACPlanning(build(), context=0), "context=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def test_the_goal_itself_is_at_no_distance() -> None:
    planning = VJEPA2ACPlanning(build())
    state = planning.encode(pictures(0))

    def distance(other: Tensor) -> float:
        return float((planning.features(state) - other).abs().mean())

    assert distance(planning.features(planning.encode(pictures(0)))) == 0
    assert distance(planning.features(planning.encode(pictures(1)))) > 0
