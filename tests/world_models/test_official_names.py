"""The mapping to the official parameter names: complete, one-to-one, strict."""

import numpy as np
import pytest
import torch

from tests.world_models.small_agent import CONTINUOUS, DISCRETE, IMAGE, INTEGER, VECTOR, build
from world_models.dreamer.official_names import (
    export_official,
    import_official,
    is_kernel,
    official_names,
    trainable,
)

OBSERVATION = {"image": IMAGE, "vector": VECTOR, "kind": INTEGER}
ACTION = {"steer": CONTINUOUS, "button": DISCRETE}


def test_round_trip() -> None:
    source, target = build(OBSERVATION, ACTION, seed=0), build(OBSERVATION, ACTION, seed=1)
    arrays = export_official(source)
    assert set(official_names(source)) == {name for name, _ in source.named_parameters()}
    import_official(target, arrays)
    state = source.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())
    again = export_official(target)
    assert all(np.array_equal(again[name], value) for name, value in arrays.items())


def test_names_and_layouts_are_the_official_ones() -> None:
    shapes = {name: value.shape for name, value in export_official(build(OBSERVATION, ACTION)).items()}
    assert shapes["enc/cnn0/kernel"] == (3, 3, 3, 2)  # HWIO
    assert shapes["enc/mlp0/kernel"] == (7, 6)  # 4 classes and 3 floats in
    assert shapes["dyn/dynhid0/kernel"] == (2, 4 + 3 * 6, 4)
    assert shapes["dyn/dyngru/kernel"] == (2, 4, 12)
    assert shapes["dyn/dyngru/bias"] == (24,)
    assert shapes["dec/vec/kind/logits/kernel"] == (6, 4)
    assert shapes["dec/vec/vector/pred/bias"] == (3,)
    assert shapes["dec/imgout/kernel"] == (3, 3, 2, 3)
    assert shapes["pol/head/steer/stddev/kernel"] == (6, 2)
    assert shapes["pol/head/button/logits/kernel"] == (6, 3)
    assert shapes["rew/mlp/norm0/scale"] == (6,)
    assert shapes["slowval/head/logits/kernel"] == (6, 9)
    assert shapes["retnorm/lo/value"] == shapes["slowval_count/value"] == ()


def test_what_does_not_fit_is_listed() -> None:
    agent = build(OBSERVATION, ACTION)
    arrays = export_official(agent)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    del arrays["enc/mlp0/bias"]
    arrays["dyn/extra"] = np.zeros(3, np.float32)
    arrays["dyn/prior0/bias"] = np.ones(5, np.float32)
    expected = r"missing \['enc/mlp0/bias'\], unexpected \['dyn/extra'\].*dyn/prior0/bias \(5,"
    with pytest.raises(ValueError, match=expected):
        import_official(agent, arrays)
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())  # nothing half loaded


def test_the_slow_value_is_not_trained_and_kernels_alone_decay() -> None:
    agent = build(OBSERVATION, ACTION)
    names = [name for name, _ in trainable(agent)]
    assert not [name for name in names if name.startswith("slow_value")]
    official = official_names(agent)
    assert {name for name in names if is_kernel(name)} == {n for n in names if official[n].endswith("/kernel")}
