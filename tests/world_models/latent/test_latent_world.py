"""Latent world models: shapes, causality, losses, what is refused, and their way through files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.world_models.latent.small import build, saved, small_config
from world_models.latent.config import EncoderConfig, PredictorConfig, RegulariserConfig
from world_models.latent.latent_world import LatentWorld
from world_models.latent.presets import SIZES, latent_world
from world_models.loading import load_model


def clips(rows: int = 3, frames: int = 4) -> torch.Tensor:
    return torch.randn(rows, 3, frames, 8, 8, generator=torch.Generator().manual_seed(0))


def actions(rows: int = 3, frames: int = 4) -> torch.Tensor:
    return torch.randn(rows, frames - 1, 2, generator=torch.Generator().manual_seed(1))


def test_every_frame_has_a_latent_of_its_own() -> None:
    model = build()
    latents = model.encode(clips())
    assert latents.shape == (3, 4, 6)
    torch.testing.assert_close(model.encode(clips()[:, :, 2:3])[:, 0], latents[:, 2])


def test_losses_are_of_each_clip_and_as_configured() -> None:
    names = {"prediction", "regulariser"}
    for options, more in (({"rollout": 1}, set()), ({}, {"rollout"}), ({"inverse": 0.5}, {"rollout", "inverse"})):
        losses = build(**options).losses(clips(), actions())
        assert losses.keys() == names | more
        assert all(loss.shape == (3,) and loss.isfinite().all() for loss in losses.values())
    heavy = build(inverse=2.0)
    light = build(inverse=1.0)
    one, other = (model.losses(clips(), actions(), torch.eye(6)) for model in (light, heavy))
    torch.testing.assert_close(other["inverse"], 2 * one["inverse"])
    torch.testing.assert_close(other["prediction"], one["prediction"])


@pytest.mark.parametrize("history", [1, 2])
def test_errors_are_those_of_stepping(history: int) -> None:
    model = build(history=history, frames=history + 2)
    latents, taken = model.encode(clips(frames=history + 3)), actions(frames=history + 3)
    errors = model.errors(latents, taken)
    assert len(errors) == 2
    for start in range(len(errors[1][0])):
        state = model.begin(latents[:, start])
        for t in range(start + 1, start + history):
            state = model.follow(state, taken[:, t - 1], latents[:, t])
        last = start + history - 1
        first = model.step(state, taken[:, last])
        second = model.step(first, taken[:, last + 1])
        expected = [(found.latent - latents[:, last + k]).square().mean(-1) for k, found in ((1, first), (2, second))]
        torch.testing.assert_close(errors[0].unflatten(1, (-1, history))[:, start, -1], expected[0])
        torch.testing.assert_close(errors[1][:, start], expected[1])


def test_gradients_reach_predictor_encoder_and_targets() -> None:
    model = build(inverse=1.0).train()
    sum(loss.mean() for loss in model.losses(clips(), actions()).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    latents = model.encode(clips()).detach().requires_grad_()
    model.errors(latents, actions(), 1)[0][:, -1].sum().backward()
    assert latents.grad is not None and (latents.grad[:, -1] != 0).any()


def test_roll_outs_train_the_predictor_alone() -> None:
    model = build().train()
    model.losses(clips(), actions())["rollout"].sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.predictor.parameters())


def test_a_frozen_encoder_stays_as_it_is() -> None:
    model = build(inverse=0.0)
    model.freeze_encoder()
    model.train()
    before = model.encode(clips())
    sum(loss.mean() for loss in model.losses(clips(), actions()).values()).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(model.encode(clips()), before)
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.predictor.parameters())


@pytest.mark.parametrize("size", [16, 32])
def test_convolutions_make_latents_too(size: int) -> None:
    encoder = EncoderConfig(kind="cnn", size=size, width=4, depth=3, hidden=16)
    model = LatentWorld(replace(small_config(), encoder=encoder)).eval()
    frames = torch.rand(3, 3, 4, size, size)
    assert model.encode(frames).shape == (3, 4, 6)
    with pytest.raises(ValueError, match=rf"Frames are 8x8, this latent world model takes {size}x{size}"):
        model.encode(clips())
    sum(loss.mean() for loss in model.train().losses(frames, actions()).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_settings_of_encoders_are_checked() -> None:
    with pytest.raises(ValueError, match=r"encoder\.kind='resnet' is not one of vit, cnn"):
        EncoderConfig(kind="resnet")
    with pytest.raises(ValueError, match=r"encoder\.size=60 must be a multiple of 16"):
        EncoderConfig(kind="cnn", size=60, depth=4)


def moving_points(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips `[32 3 4 8 8]` of a blurred point, and its moves `[32 3 2]`, -1 to 1."""
    moves = 2 * torch.rand(32, 3, 2, generator=generator) - 1
    start = torch.rand(32, 1, 2, generator=generator) * 0.6 + 0.2
    places = torch.cat([start, start + 0.15 * moves.cumsum(1)], 1)
    column, row = torch.exp(-20 * (places[..., None] - (torch.arange(8) + 0.5) / 8).square()).unbind(2)  # [B T 8]
    return (row[..., None] * column[:, :, None])[:, None].expand(-1, 3, -1, -1, -1), moves


def test_it_learns_a_point_that_moves() -> None:
    """The next latent is told better than by copying, and latents stay apart."""
    torch.manual_seed(0)
    model, generator = LatentWorld(small_config(inverse=1.0)).train(), torch.Generator().manual_seed(0)
    solver = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        solver.zero_grad()
        sum(loss.mean() for loss in model.losses(*moving_points(generator)).values()).backward()  # type: ignore[union-attr]
        solver.step()
    shown, moves = moving_points(generator)
    with torch.no_grad():
        latents = model.eval().encode(shown)
        error = model.errors(latents, moves, 1)[0].mean()
    assert float(error / latents.diff(dim=1).square().mean()) < 0.5
    assert float(latents.flatten(0, 1).std(0).min()) > 0.3


def test_a_run_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    model = build(history=2, inverse=1.0)
    again = load_model(saved(tmp_path, history=2, inverse=1.0))
    torch.testing.assert_close(again.encode(clips()), model.encode(clips()))  # type: ignore[operator]


def test_presets_have_the_sizes_that_they_name() -> None:
    with torch.device("meta"):
        count = {size: sum(p.numel() for p in LatentWorld(latent_world(size)).parameters()) for size in SIZES}
    assert count["tiny"] < 1_000_000 and 13e6 < count["base"] < 17e6
    assert latent_world("tiny", action=5).action == 5
    with pytest.raises(ValueError, match="no size 'huge'; there are tiny, base"):
        latent_world("huge")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 2}, "frames=2 must be at least history=1 plus rollout=2"),
        ({"history": 0}, "history=0 must be at least 1"),
        ({"inverse": -1.0}, "inverse=-1.0 must not be negative"),
    ],
)
def test_configurations_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(small_config(), **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (EncoderConfig, {"size": 60}, "encoder.size=60 must be a multiple of encoder.patch=8"),
        (EncoderConfig, {"width": 6, "heads": 3}, "encoder.width=6 must be a multiple of 4 for two-dim"),
        (PredictorConfig, {"width": 33}, "predictor.width=33 must be a multiple of predictor.heads=16"),
        (PredictorConfig, {"depth": 0}, "predictor.depth=0 must be at least 1"),
        (RegulariserConfig, {"knots": 1}, "regulariser.knots=1 must be at least 2"),
        (RegulariserConfig, {"weight": -1.0}, "regulariser.weight=-1.0 must not be negative"),
        (RegulariserConfig, {"reach": 0.0}, "regulariser.reach=0.0 must be positive"),
    ],
)
def test_parts_that_cannot_be(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_inputs_that_do_not_fit() -> None:
    model = build(history=2)
    for call, message in (
        (lambda: model.encode(clips()[:, :1]), r"takes clips \[B 3 T height width\], got \[3, 1, 4, 8, 8\]"),
        (lambda: model.encode(torch.zeros(1, 3, 2, 16, 16)), "Frames are 16x16, this latent world model takes 8x8"),
        (lambda: model.losses(clips(frames=3), actions(frames=3)), "3 frames are too short for history=2 and 2"),
        (lambda: model.losses(clips(), torch.ones(3, 3, 5)), r"shape \(3, 3, 5\), not \(3, 3, 2\): pass one of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
