"""Parts of vision transformers: patches against convolutions, positions, rotations, kept keys and values."""

import inspect

import pytest
import torch
import torch.nn.functional as F

from world_models.rope import Rotation, apart, axis_rotation, grid_positions, rotate, rotation_3d, together
from world_models.vit import Attention, Block, PatchEmbed, causal_attention, initialize, sincos_2d, take_tokens


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 3, 4, 8, 12)])
def test_patches_are_embedded_as_by_a_convolution(shape: tuple[int, ...]) -> None:
    embed, x = PatchEmbed(3, 16, 4, 2 if len(shape) == 5 else 0), torch.randn(shape)
    assert torch.allclose(embed(x), embed.proj(x).flatten(2).transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 1, 8, 8), torch.float32, r"takes images \[B 3 height width\], got \[2, 1, 8, 8\]"),
        ((2, 3, 4, 8, 8), torch.float32, r"takes images \[B 3 height width\], got \[2, 3, 4, 8, 8\]"),
        ((2, 3, 8, 8), torch.uint8, r"takes normalised pixels, got torch.uint8; see world_models.frames.normalise"),
        ((2, 3, 8, 9), torch.float32, "Images of 8x9 pixels do not divide into patches of 4"),
    ],
)
def test_what_is_no_image_is_named(shape: tuple[int, ...], dtype: torch.dtype, message: str) -> None:
    grid = inspect.unwrap(PatchEmbed.grid)  # users have no checks of shapes
    with pytest.raises(ValueError, match=message):
        grid(PatchEmbed(3, 16, 4), torch.zeros(shape, dtype=dtype))
    with pytest.raises(ValueError, match=r"takes clips \[B 3 T height width\], got \[2, 3, 8, 8\]"):
        grid(PatchEmbed(3, 16, 4, 2), torch.zeros(2, 3, 8, 8))


def test_positions_by_hand() -> None:
    table = sincos_2d(8, 2, 3)
    row, column = 1.0, 2.0
    angles = torch.tensor([column, column / 100, row, row / 100])
    expected = torch.cat([angles[:2].sin(), angles[:2].cos(), angles[2:].sin(), angles[2:].cos()])
    assert torch.allclose(table[5], expected)
    with pytest.raises(ValueError, match="width=6"):
        sincos_2d(6, 2, 2)


def test_token_numbers() -> None:
    ids = torch.arange(2 * 3 * 4)
    t, h, w = grid_positions(ids, 3, 4).unbind(-1)
    assert torch.equal((t * 3 + h) * 4 + w, ids)
    assert grid_positions(torch.tensor([17]), 3, 4).tolist() == [[1, 1, 1]]


def test_one_axis_by_hand() -> None:
    """Angles are tiled over 4 features while pairs are neighbours: the second of a pair turns by another angle."""
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    a, b = torch.tensor(5.0), torch.tensor(0.05)
    expected = [a.cos() - 2 * a.sin(), 2 * b.cos() + b.sin(), 3 * a.cos() - 4 * a.sin(), 4 * b.cos() + 3 * b.sin()]
    rotation = Rotation(*(apart(table) for table in axis_rotation(torch.tensor([5]), 4)))
    assert torch.allclose(together(rotate(apart(x), rotation)), torch.stack(expected)[None])


def test_each_axis_turns_its_own_features() -> None:
    x = torch.randn(1, 1, 1, 20)  # 6 features an axis, 2 that stay
    for axis in range(3):
        place = torch.zeros(1, 3)
        place[0, axis] = 2
        turned = together(rotate(apart(x), rotation_3d(place, 20)))
        changed = (turned != x)[0, 0, 0].nonzero().flatten().tolist()
        assert changed == list(range(6 * axis, 6 * axis + 6))


def test_the_gradient_of_a_rotation() -> None:
    x = torch.randn(1, 2, 3, 8, dtype=torch.float64, requires_grad=True)
    tables = rotation_3d(grid_positions(torch.arange(3), 1, 2), 8)
    rotation = Rotation(*(table.double() for table in tables))
    assert torch.autograd.gradcheck(lambda x: rotate(x, rotation), (x,))


def test_attention_to_kept_keys_and_values_equals_causal_attention() -> None:
    attention, x = Attention(16, 2), torch.randn(2, 6, 16)
    rotation = rotation_3d(grid_positions(torch.arange(6), 1, 2), 8)
    whole, seen = attention(x, rotation, 3)
    late = Rotation(rotation.cos[:, 2:], rotation.sin[:, 2:])
    part, both = attention(x[:, 2:], late, 2, seen.first(2))
    assert torch.allclose(part, whole[:, 2:], atol=1e-6)
    assert torch.allclose(both.keys, seen.keys, atol=1e-6)


def test_causal_attention_equals_attention_under_a_mask() -> None:
    query, key, value = torch.randn(3, 2, 4, 12, 8)
    frame = torch.arange(3).repeat_interleave(4)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=frame[:, None] >= frame)
    assert torch.allclose(causal_attention(query, key, value, 3), expected.transpose(1, 2), atol=1e-6)


def test_taking_tokens_mask_by_mask() -> None:
    x = torch.arange(2 * 4).view(2, 4, 1).float()
    ids = torch.tensor([[[0, 1], [2, 3]], [[3, 3], [0, 2]]])
    assert take_tokens(x, ids).flatten(1).tolist() == [[0, 1], [6, 7], [3, 3], [4, 6]]
    assert take_tokens(x, ids[0]).flatten(1).tolist() == [[0, 1], [6, 7]]


def test_initial_weights() -> None:
    torch.manual_seed(0)
    blocks = [Block(128, 4, 4.0) for _ in range(4)]
    initialize(torch.nn.ModuleList(blocks), blocks)
    assert float(blocks[3].attn.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(blocks[3].mlp.fc2.weight.detach().std()) == pytest.approx(0.02 / 8**0.5, rel=0.05)
    assert not blocks[3].mlp.fc2.bias.any()
    x = torch.randn(1, 3, 128)
    layer = blocks[0].norm1
    assert torch.allclose(layer(x), F.layer_norm(x, (128,), eps=1e-6), atol=1e-6)
