"""What updates leave, when the host runs ahead of the device: written back later, and never lost."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.wiring.task import replay_schema
from learner.config import LearnerConfig
from learner.learner import Learner, NonFiniteError
from learner.write_back import WriteBack
from replay.memory.memory_store import MemoryStore
from replay.store import ShardDownError
from tests.world_models.small_agent import CONFIG, CONTINUOUS, VECTOR, build, random_values

OBSERVATION, ACTION = {"vector": VECTOR}, {"steer": CONTINUOUS}
LEARNER = LearnerConfig(batch_size=3, batch_length=4, device="cpu")


class Noting(MemoryStore):
    """Notes the latents that it was given."""

    def __init__(self, *arguments: object, **options: object):
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.given: list[np.ndarray] = []

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        self.given.append(latents["deter"].copy())
        return super().write_back(keys, latents)


def learner(folder: Path, ahead: int, kind: type[Noting] = Noting) -> tuple[Learner, Any]:
    schema, rng = replay_schema(OBSERVATION, ACTION, CONFIG), np.random.default_rng(0)
    store = kind(schema, length=1 + 4, capacity=100, chunk_length=7, online=False)
    rows = {key: np.zeros((40, *field.shape), field.dtype) for key, field in schema.all.items()}
    store.append(3, 0, rows | random_values(rng, OBSERVATION | ACTION, 40))
    made = Learner(build(OBSERVATION, ACTION), LEARNER, store, seed=0, faults=folder)
    made._ahead = ahead  # as on CUDA
    return made, store


def test_latents_are_written_later_and_none_is_lost(tmp_path: Path) -> None:
    at_once, other = learner(tmp_path, 0)
    later, store = learner(tmp_path, 2)
    for update in range(1, 6):
        at_once.update()
        later.update()
        assert len(other.given) == update and len(store.given) == max(0, update - 2)
    later.settle()
    np.testing.assert_array_equal(store.given[0], other.given[0])  # later ones began from what was written back
    assert len(store.given) == 5
    later.update()
    later.state()
    assert len(store.given) == 6, "a checkpoint has them all"


def test_what_is_not_finite_is_reported_with_its_own_batch(tmp_path: Path) -> None:
    made, store = learner(tmp_path, 2)
    made.update()
    with torch.no_grad():
        next(made.agent.parameters()).fill_(torch.nan)
    made.update()
    made.update()
    with pytest.raises(NonFiniteError, match=r"Update 2 produced non-finite .*loss/total"):
        made.update()
    folder = tmp_path / "nonfinite-00000002"
    assert json.loads((folder / "report.json").read_text())["update"] == 2
    assert (folder / "batch.safetensors").exists() and len(store.given) == 1


def test_no_checkpoint_is_made_of_what_is_not_finite(tmp_path: Path) -> None:
    made, _ = learner(tmp_path, 2)
    with torch.no_grad():
        next(made.agent.parameters()).fill_(torch.nan)
    made.update()
    with pytest.raises(NonFiniteError, match="Update 1 produced"):
        made.state()


class Slow(Noting):
    """Waits to be let on before it writes."""

    def __init__(self, *arguments: object, **options: object):
        super().__init__(*arguments, **options)
        self.go = threading.Semaphore(0)

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        assert self.go.acquire(timeout=30)
        return super().write_back(keys, latents)


def test_a_thread_writes_in_order_and_holds_few(tmp_path: Path) -> None:
    made, store = learner(tmp_path, 0, Slow)
    made.write_back = WriteBack(store, behind=2)
    made.update()
    made.update()
    assert not store.given, "nobody has waited"
    threading.Timer(0.2, store.go.release).start()
    made.update()
    assert len(store.given) == 1, "a third one has to"
    for _ in range(2):
        store.go.release()
    made.state()
    assert len(store.given) == 3
    made.write_back.close()


def test_an_error_of_the_thread_reaches_the_learner(tmp_path: Path) -> None:
    made, store = learner(tmp_path, 0)
    made.write_back = back = WriteBack(store, behind=1)
    back(np.zeros((1, 1, 2), np.int64), {"deter": np.zeros((9, 9))})  # not such latents
    with pytest.raises(ValueError, match="deter"):
        made.state()
    back.close()


def test_what_nobody_takes_any_more_is_given_up(tmp_path: Path) -> None:
    made, store = learner(tmp_path, 2, Closed)
    made.write_back = WriteBack(store, behind=1)
    made.update()
    made.write_back.give_up()
    made.state()  # a checkpoint needs no shard
    assert not store.given
    with pytest.raises(ShardDownError, match="is closed"):
        WriteBack(store)(np.zeros((1, 1, 2), np.int64), {})


class Closed(Noting):
    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        raise ShardDownError("The store is closed.")
