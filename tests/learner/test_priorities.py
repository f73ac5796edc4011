"""The learner's signal for prioritised replay."""

from pathlib import Path

import numpy as np
import torch

from deploy.wiring.task import replay_schema
from learner.config import LearnerConfig
from learner.learner import Learner
from replay.config import SelectionConfig
from replay.memory.memory_store import MemoryStore
from tests.world_models.small_agent import CONFIG, CONTINUOUS, VECTOR, build, random_batch, random_values

OBSERVATION, ACTION = {"vector": VECTOR}, {"steer": CONTINUOUS}
LEARNER = LearnerConfig(batch_size=3, batch_length=4, consecutive=2, device="cpu")


class Recording(MemoryStore):
    """Keeps what it was given."""

    given: list[tuple[np.ndarray, np.ndarray]]

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        used = super().set_priority(keys, values)
        assert used == values.size
        self.given = [*getattr(self, "given", []), (keys, values)]
        return used


def learner(prioritize: bool) -> tuple[Learner, Recording]:
    schema, rng = replay_schema(OBSERVATION, ACTION, CONFIG), np.random.default_rng(0)
    store = Recording(
        schema, length=1 + 8, capacity=100, chunk_length=7, online=False, selection=SelectionConfig(priority=0.5)
    )
    rows = {key: np.zeros((40, *field.shape), field.dtype) for key, field in schema.all.items()}
    store.append(3, 0, rows | random_values(rng, OBSERVATION | ACTION, 40))
    agent = build(OBSERVATION, ACTION)
    return Learner(agent, LEARNER, store, seed=0, faults=Path("faults"), prioritize=prioritize), store


def test_every_update_gives_its_steps_their_model_loss() -> None:
    made, store = learner(prioritize=True)
    for update in range(4):
        made.update()
        keys, values = store.given[update]
        assert keys.shape == (3, 4, 2) and values.shape == (3, 4)
        assert np.isfinite(values).all() and (values > 0).all()
    (first, _), (second, _) = store.given[:2]
    np.testing.assert_array_equal(first[:, -1] + [0, 1], second[:, 0])  # the second half of the same sequences


def test_without_priorities_nothing_is_sent() -> None:
    made, store = learner(prioritize=False)
    made.update()
    assert not hasattr(store, "given")


def test_the_signal_is_the_scaled_loss_of_the_world_model() -> None:
    agent = build(OBSERVATION, ACTION)
    batch = random_batch(agent, rows=2, time=4)
    made, _ = learner(prioritize=False)
    losses = agent.loss(batch.steps, batch.start, batch.previous_action, made.step.draws(2, 4)).losses
    parts = {"reconstruction/vector": 1.0, "reward": 1.0, "continuation": 1.0, "dynamics": 1.0, "representation": 0.1}
    expected = sum(scale * losses[key] for key, scale in parts.items())
    torch.testing.assert_close(agent.model_loss(losses), expected)
    others = {key for key in losses if key not in parts}
    assert others == {"policy", "value", "replay_value"}
