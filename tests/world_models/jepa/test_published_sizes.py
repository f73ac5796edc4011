"""Every published size on the meta device: numbers of parameters, keys and shapes of the official checkpoints."""

import pytest
import torch
from torch import nn

from world_models.jepa import presets
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def blocks(name: str, depth: int, width: int, hidden: int) -> Shapes:
    out: Shapes = {}
    for i in range(depth):
        at = f"{name}.{i}"
        out |= norm(f"{at}.norm1", width) | linear(f"{at}.attn.qkv", width, 3 * width)
        out |= linear(f"{at}.attn.proj", width, width) | norm(f"{at}.norm2", width)
        out |= linear(f"{at}.mlp.fc1", width, hidden) | linear(f"{at}.mlp.fc2", hidden, width)
    return out


def image_encoder(pixels: int, patch: int, width: int, depth: int, hidden: int) -> Shapes:
    return (
        {"pos_embed": (1, (pixels // patch) ** 2, width), "patch_embed.proj.weight": (width, 3, patch, patch)}
        | {"patch_embed.proj.bias": (width,)}
        | blocks("blocks", depth, width, hidden)
        | norm("norm", width)
    )


def video_encoder(width: int, depth: int, hidden: int) -> Shapes:
    patches: Shapes = {"patch_embed.proj.weight": (width, 3, 2, 16, 16), "patch_embed.proj.bias": (width,)}
    return patches | blocks("blocks", depth, width, hidden) | norm("norm", width)


def around_predictor(width: int, inner: int, depth: int) -> Shapes:
    return (
        linear("predictor_embed", width, inner)
        | blocks("predictor_blocks", depth, inner, 4 * inner)
        | norm("predictor_norm", inner)
        | linear("predictor_proj", inner, width)
    )


def shapes(module: nn.Module) -> Shapes:
    return {name: tuple(x.shape) for name, x in module.state_dict().items()}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("size", "pixels", "patch", "width", "depth", "hidden", "predictor_depth", "published"),
    [
        ("vith14", 224, 14, 1280, 32, 5120, 12, 632e6),
        ("vith16_448", 448, 16, 1280, 32, 5120, 12, 632e6),
        ("vitg16", 224, 16, 1408, 40, 6144, 16, 1012e6),
    ],
)
def test_ijepa(
    size: str, pixels: int, patch: int, width: int, depth: int, hidden: int, predictor_depth: int, published: float
) -> None:
    with torch.device("meta"):
        model = IJEPA(presets.ijepa(size))
    assert count(model.encoder) == pytest.approx(published, rel=0.01)
    expected = image_encoder(pixels, patch, width, depth, hidden)
    assert shapes(model.encoder) == shapes(model.target_encoder) == expected
    tokens: Shapes = {"mask_token": (1, 1, 384), "predictor_pos_embed": (1, (pixels // patch) ** 2, 384)}
    assert shapes(model.predictor) == tokens | around_predictor(width, 384, predictor_depth)
    assert {block.attn.heads for block in model.encoder.blocks} == {16}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("size", "width", "depth", "heads", "hidden", "published"),
    [
        ("vitl", 1024, 24, 16, 4096, 304e6),
        ("vith", 1280, 32, 16, 5120, 632e6),
        ("vitg", 1408, 40, 22, 6144, 1012e6),
        ("vitg_384", 1408, 40, 22, 6144, 1012e6),
    ],
)
def test_vjepa2(size: str, width: int, depth: int, heads: int, hidden: int, published: float) -> None:
    with torch.device("meta"):
        model = VJEPA2(presets.vjepa2(size))
    assert count(model.encoder) == pytest.approx(published, rel=0.01)
    assert shapes(model.encoder) == shapes(model.target_encoder) == video_encoder(width, depth, hidden)
    tokens: Shapes = {f"mask_tokens.{i}": (1, 1, 384) for i in range(10)}
    assert shapes(model.predictor) == tokens | around_predictor(width, 384, 12)
    assert {block.attn.heads for block in model.encoder.blocks} == {heads}  # type: ignore[union-attr]
    assert {block.attn.heads for block in model.predictor.predictor_blocks} == {12}  # type: ignore[union-attr]
    assert model.config.encoder.size == (384 if size.endswith("384") else 256)


def test_vjepa2_ac() -> None:
    with torch.device("meta"):
        model = VJEPA2AC(presets.vjepa2_ac("vitg"))
    assert count(model.predictor) == pytest.approx(305e6, rel=0.01)
    assert shapes(model.encoder) == video_encoder(1408, 40, 6144)
    conditions = linear("action_encoder", 7, 1024) | linear("state_encoder", 7, 1024)
    conditions |= linear("extrinsics_encoder", 6, 1024)
    assert shapes(model.predictor) == conditions | around_predictor(1408, 1024, 24)
    assert {block.attn.heads for block in model.predictor.predictor_blocks} == {16}  # type: ignore[union-attr]
    assert model.predictor.frame_tokens == 2 + 256
