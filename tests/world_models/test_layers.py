"""Layers against their plain equivalents."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from world_models.layers import (
    MLP,
    BlockLinear,
    Conv2d,
    Linear,
    NormSilu,
    UpsampleConv2d,
    concat_dict,
    init_weight,
    module_key,
    rms_norm,
    total_width,
)
from world_models.space import Space


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(3, 4, 5), (2, 3, 3), (1, 2, 1), (2, 1, 7)])
def test_upsampling_convolution_equals_upsampling_then_convolution(inputs: int, outputs: int, kernel: int) -> None:
    layer = UpsampleConv2d(inputs, outputs, kernel)
    nn.init.normal_(layer.bias)
    fast, plain = (torch.randn(2, inputs, 4, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    fast.requires_grad_(), plain.requires_grad_()
    ours = layer(fast)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    ours_grads = [fast.grad, layer.weight.grad, layer.bias.grad]
    layer.zero_grad()
    up = F.interpolate(plain, scale_factor=2, mode="nearest")
    theirs = F.conv2d(up, layer.weight, layer.bias, padding=kernel // 2)
    (theirs * weight).sum().backward()
    assert torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(ours_grads, [plain.grad, layer.weight.grad, layer.bias.grad], strict=True):
        assert a is not None and b is not None and torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("shared", [0, 5])
def test_block_linear_equals_a_dense_block_diagonal_layer(shared: int) -> None:
    blocks, inputs, outputs = 3, 6, 9
    layer = BlockLinear(inputs, outputs, blocks, shared=shared)
    nn.init.normal_(layer.bias)
    dense = torch.zeros(inputs + shared, outputs)
    for g in range(blocks):
        columns = slice(g * 3, g * 3 + 3)
        dense[g * 2 : g * 2 + 2, columns] = layer.weight[g, :2]
        dense[inputs:, columns] = layer.weight[g, 2:]
    x, extra = torch.randn(4, inputs), torch.randn(4, shared) if shared else None
    full = torch.cat([x, extra], -1) if extra is not None else x
    assert torch.allclose(layer(x, extra), full @ dense + layer.bias, atol=1e-5)
    assert torch.equal(layer(x, extra, layer.split()), layer(x, extra))


def test_block_linear_names_the_width_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="outputs=10 is not divisible by 4 blocks"):
        BlockLinear(8, 10, 4)


def test_norm_silu_equals_the_chain_and_so_do_its_gradients() -> None:
    layer = NormSilu(7)
    nn.init.normal_(layer.weight)
    gain = layer.weight.detach().clone().requires_grad_()
    a = torch.randn(3, 2, 7, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    ours, theirs = layer(a), F.silu(rms_norm(b, gain))
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert layer.weight.grad is not None and gain.grad is not None and a.grad is not None and b.grad is not None
    assert torch.allclose(a.grad, b.grad, atol=1e-5) and torch.allclose(layer.weight.grad, gain.grad, atol=1e-5)


def test_rms_norm_literal_and_small_inputs() -> None:
    x = torch.tensor([[3.0, 4.0]])
    assert torch.allclose(rms_norm(x, torch.ones(2)), x / math.sqrt(12.5 + 1e-4))
    assert torch.allclose(rms_norm(torch.full((1, 2), 1e-6), torch.ones(2)), torch.full((1, 2), 1e-4), rtol=1e-3)


def test_norm_is_computed_in_float32_and_returned_in_the_inputs_type() -> None:
    x = torch.randn(4, 8, dtype=torch.bfloat16)
    out = NormSilu(8)(x)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), F.silu(rms_norm(x.float(), torch.ones(8))), atol=1e-2)


def test_initialisation_is_a_cut_normal_of_the_fan_in() -> None:
    weight = torch.empty(200, 500)
    init_weight(weight, fan_in=500, scale=2.0)
    assert weight.std().item() == pytest.approx(2 / math.sqrt(500), rel=0.02)
    assert weight.abs().max().item() <= 2 * 2 * 1.1368 / math.sqrt(500) * 1.0001
    block = BlockLinear(512, 512, 8)
    assert block.weight.std().item() == pytest.approx(1 / math.sqrt(512), rel=0.05)  # the full width counts
    assert (Linear(4, 4, scale=0.0).weight == 0).all() and (block.bias == 0).all()


def test_convolution_needs_an_odd_kernel() -> None:
    with pytest.raises(ValueError, match="kernel=4 is even.*such as 5"):
        Conv2d(1, 1, 4)
    assert Conv2d(3, 2, 5)(torch.zeros(1, 3, 6, 4)).shape == (1, 2, 6, 4)


def test_mlp_shapes() -> None:
    assert MLP(5, 6, 3)(torch.zeros(2, 7, 5)).shape == (2, 7, 6)


def test_concat_dict_is_alphabetical_and_blanks_what_is_not_available() -> None:
    spaces = {
        "b": Space(dtype=np.dtype(np.float32), shape=(2,)),
        "a": Space(dtype=np.dtype(np.int32), shape=(), classes=3),
        "c": Space(dtype=np.dtype(bool), shape=()),
    }
    values = {
        "b": torch.tensor([[1.0, -1.0], [-torch.inf, 2.0]]),
        "a": torch.tensor([2, -1], dtype=torch.int32),
        "c": torch.tensor([True, False]),
    }
    assert total_width(spaces) == 7
    assert concat_dict(spaces, values).tolist() == [[0, 0, 1, 1, -1, 0, 1], [0, 0, 0, 0, 0, 1, 0]]
    squashed = concat_dict(spaces, values, squash=True)[0, 3:5]
    assert squashed.tolist() == pytest.approx([math.log(2), -math.log(2)])


@pytest.mark.parametrize("key", ["image", "a/b", "a.b", "forward", "keys"])
def test_any_key_names_a_module(key: str) -> None:
    modules = nn.ModuleDict({module_key(key): nn.Identity()})
    assert module_key(key) in modules and "." not in module_key(key)
