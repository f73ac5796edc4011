"""Policy snapshots: one buffer, checked on arrival."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.world_models.small_agent import CONFIG, CONTINUOUS, IMAGE, VECTOR, build
from world_models.dreamer.acting import ActingModel
from world_models.snapshot import load_snapshot, take_snapshot

OBSERVATION, ACTION = {"image": IMAGE, "vector": VECTOR}, {"action": CONTINUOUS}


def test_a_snapshot_carries_every_acting_parameter() -> None:
    agent = build(OBSERVATION, ACTION)
    snapshot = take_snapshot(ActingModel.sharing(agent), version=3, updates=40)
    model = ActingModel(OBSERVATION, ACTION, CONFIG)
    load_snapshot(model, snapshot)
    theirs = dict(agent.named_parameters())
    for name, p in model.named_parameters():
        assert torch.equal(p, theirs[name]), name
    assert (snapshot.version, snapshot.updates) == (3, 40)
    assert snapshot.buffer.dtype == np.float32
    again = take_snapshot(model, version=4, updates=41)
    assert again.checksum == snapshot.checksum and np.array_equal(again.buffer, snapshot.buffer)


def test_a_snapshot_is_a_copy() -> None:
    agent = build(OBSERVATION, ACTION)
    model = ActingModel.sharing(agent)
    before = take_snapshot(model, version=0, updates=0)
    kept = before.buffer.copy()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert np.array_equal(before.buffer, kept)


def test_another_size_and_damage_are_refused() -> None:
    model = ActingModel(OBSERVATION, ACTION, CONFIG)
    snapshot = take_snapshot(model, version=7, updates=1)
    with pytest.raises(ValueError, match=r"Snapshot 7 holds .* another configuration"):
        load_snapshot(ActingModel({"vector": VECTOR}, ACTION, CONFIG), snapshot)
    damaged = snapshot.buffer.copy()
    damaged[5] += 1
    with pytest.raises(ValueError, match="damaged"):
        load_snapshot(model, replace(snapshot, buffer=damaged))
