"""Parameters as arrays, and back: all of them, or none and a message that names what does not fit."""

import numpy as np
import pytest
import torch
from torch import nn

from world_models.parameters import as_arrays, load_parameters


def module() -> nn.Module:
    out = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    out.register_buffer("count", torch.tensor(7))
    return out


def test_there_and_back() -> None:
    arrays = {name: np.add(array, 1, out=array.copy()) for name, array in as_arrays(module()).items()}
    assert arrays["count"].shape == () and arrays["0.weight"].shape == (2, 3)
    again = module()
    load_parameters(again, arrays, "model.safetensors")
    assert all(np.array_equal(arrays[name], array) for name, array in as_arrays(again).items())


def test_all_that_does_not_fit_is_named_and_nothing_is_loaded() -> None:
    arrays = {name: array + 1 for name, array in as_arrays(module()).items()}
    del arrays["count"]
    arrays |= {"0.bias": np.zeros(5), "2.scale": np.zeros(1)}
    one = module()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_parameters(one, arrays, "a.safetensors", "Give another.", shown={"count": "their.count"})
    assert str(caught.value) == (
        "a.safetensors does not fit the model; nothing is loaded. Missing: their.count. Unexpected: 2.scale. "
        "Of another shape: 0.bias [5], not [2]. Give another."
    )
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
    with pytest.raises(ValueError, match=r"Missing: none\. Unexpected: 2.scale\."):
        load_parameters(one, arrays, "a.safetensors", optional=("count",))


def test_many_are_counted() -> None:
    with pytest.raises(ValueError, match=r"x07, x08, x09, x10, .* and 10 more\. Of another shape: none\. Its config"):
        load_parameters(nn.Module(), {f"x{i:02}": np.zeros(1) for i in range(30)}, "a.safetensors")
