"""Open-loop prediction: what it sees, what it must not see, and what its errors mean."""

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.batch import DeviceBatch
from tests.world_models.small_agent import CONTINUOUS, DISCRETE, IMAGE, INTEGER, SWITCH, VECTOR, build, random_batch
from world_models.distributions import symlog
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.open_loop import OpenLoop, open_loop
from world_models.dreamer.rssm import Sequence
from world_models.layers import concat_dict

OBSERVATION = {"image": IMAGE, "vector": VECTOR, "kind": INTEGER, "on": SWITCH}
ACTION = {"steer": CONTINUOUS, "button": DISCRETE}
ROWS, TIME, CONTEXT = 3, 8, 3


@pytest.fixture(scope="module")
def agent() -> Dreamer:
    return build(OBSERVATION, ACTION)


@pytest.fixture
def batch(agent: Dreamer) -> DeviceBatch:
    batch = random_batch(agent, ROWS, TIME)
    batch.steps["is_first"][:] = False
    batch.steps["is_first"][0, 1] = True
    return batch


def predict(agent: Dreamer, batch: DeviceBatch, draw: Tensor) -> OpenLoop:
    return open_loop(agent, batch.steps, batch.start, batch.previous_action, CONTEXT, draw)


def uniform(agent: Dreamer) -> Tensor:
    return torch.rand(ROWS, TIME, agent.config.rssm.stoch, generator=torch.Generator().manual_seed(5))


def observed(agent: Dreamer, batch: DeviceBatch, draw: Tensor) -> Sequence:
    """Filtering of all steps, as training does it."""
    action = concat_dict(agent.action_space, batch.previous_action)
    with torch.no_grad():
        return agent.rssm.observe(batch.start, agent.encoder(batch.steps), action, batch.steps["is_first"], draw)


def test_the_context_is_filtered_as_in_training(agent: Dreamer, batch: DeviceBatch) -> None:
    draw = uniform(agent)
    out, sequence = predict(agent, batch, draw), observed(agent, batch, draw)
    torch.testing.assert_close(out.deter[:, :CONTEXT], sequence.deter[:, :CONTEXT])
    assert torch.equal(out.stoch[:, :CONTEXT], sequence.stoch[:, :CONTEXT])
    assert not torch.allclose(out.deter[:, CONTEXT + 1 :], sequence.deter[:, CONTEXT + 1 :])


def test_forced_to_the_posterior_it_walks_through_the_filtered_states(agent: Dreamer, batch: DeviceBatch) -> None:
    sequence = observed(agent, batch, uniform(agent))
    out = predict(agent, batch, sequence.indices)
    assert torch.equal(out.stoch, sequence.stoch)
    torch.testing.assert_close(out.deter, sequence.deter)
    with torch.no_grad():
        decoded = agent.decoder(sequence.deter, sequence.stoch.flatten(-2))
    torch.testing.assert_close(out.prediction["image"], decoded["image"].pred())
    torch.testing.assert_close(symlog(out.prediction["vector"]), decoded["vector"].pred())
    assert torch.equal(out.prediction["kind"], decoded["kind"].pred())


def test_behind_the_context_only_actions_count(agent: Dreamer, batch: DeviceBatch) -> None:
    draw = uniform(agent)
    out = predict(agent, batch, draw)
    blind = {key: value.clone() for key, value in batch.steps.items()}
    for key in (*OBSERVATION, "reward"):
        blind[key][:, CONTEXT:] = 0
    unseen = predict(agent, batch._replace(steps=blind), draw)
    for key, value in out.prediction.items():
        assert torch.equal(value, unseen.prediction[key]), key

    moved = {key: value.clone() for key, value in batch.previous_action.items()}
    moved["steer"][:, CONTEXT + 2] += 0.7
    other = predict(agent, batch._replace(previous_action=moved), draw)
    torch.testing.assert_close(other.deter[:, : CONTEXT + 2], out.deter[:, : CONTEXT + 2], rtol=0, atol=0)
    assert (other.deter[:, CONTEXT + 2] != out.deter[:, CONTEXT + 2]).any(-1).all()


def test_errors_are_means_over_the_elements(agent: Dreamer, batch: DeviceBatch) -> None:
    out, truth = predict(agent, batch, uniform(agent)), batch.steps
    image, vector = truth["image"].numpy() / 255.0, truth["vector"].numpy()

    def squashed(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.log1p(np.abs(x))

    expected = {
        "image": np.abs(out.prediction["image"].numpy() - image).mean((2, 3, 4)),
        "vector": np.abs(squashed(out.prediction["vector"].numpy()) - squashed(vector)).mean(2),
        "kind": (out.prediction["kind"] != truth["kind"]).numpy(),
        "on": (out.prediction["on"] != truth["on"]).numpy(),
        "reward": np.abs(out.prediction["reward"].numpy() - truth["reward"].numpy()),
    }
    assert out.error.keys() == expected.keys() == out.still.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(
            out.error[key], value.reshape(ROWS, TIME, -1).mean(2), rtol=1e-5, atol=1e-6, err_msg=key
        )
    np.testing.assert_allclose(
        out.still["image"], np.abs(image - image[:, CONTEXT - 1 : CONTEXT]).mean((2, 3, 4)), rtol=1e-5, atol=1e-6
    )
    assert all((still[:, CONTEXT - 1] == 0).all() for still in out.still.values())


def test_a_new_episode_behind_the_context_ends_validity(agent: Dreamer, batch: DeviceBatch) -> None:
    batch.steps["is_first"][1, CONTEXT] = True
    batch.steps["is_first"][2, 6] = True
    valid = predict(agent, batch, uniform(agent)).valid
    assert valid.sum(1).tolist() == [TIME, CONTEXT, 6]  # the reset of row 0 lies in its context
    assert valid[:, :CONTEXT].all()


def test_draws_decide_everything(agent: Dreamer, batch: DeviceBatch) -> None:
    first, same = (predict(agent, batch, uniform(agent)) for _ in range(2))
    other = predict(agent, batch, 1 - uniform(agent))
    assert torch.equal(first.deter, same.deter) and not torch.equal(first.deter, other.deter)
