"""I-JEPA, V-JEPA 2 and V-JEPA 2-AC: properties that no stored number shows."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from world_models.jepa import presets
from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig, VJEPA2ACConfig
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.probe import AttentiveProbe
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    return a.shape == b.shape and float((a - b).detach().abs().max()) < tolerance


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_ijepa_trains_on_its_own_masks_and_only_the_encoder_and_predictor_learn() -> None:
    model = IJEPA(presets.ijepa())
    images, masks = torch.rand(4, 3, 32, 32), model.masks()(4, torch.Generator().manual_seed(0))
    loss = model(images, *masks)["prediction"]
    assert loss.shape == (4,)
    loss.mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith("target_encoder.")}
    before = model.target_encoder.norm.weight.clone()
    with torch.no_grad():
        model.encoder.norm.weight.add_(1)
    model.update_target(0.75)
    assert close(model.target_encoder.norm.weight, before + 0.25)
    assert model.encode(images).shape == (4, 64, 64)


def test_pixels_of_other_channels_or_sizes_are_named() -> None:
    for encode, shape, message in (
        (IJEPA(presets.ijepa()).encode, (2, 1, 32, 32), r"takes images \[B 3 height width\], got \[2, 1, 32, 32\]"),
        (IJEPA(presets.ijepa()).encode, (2, 3, 30, 32), "30x32 pixels do not divide into patches of 4"),
        (VJEPA2(presets.vjepa2()).encode, (2, 4, 8, 32, 32), r"takes clips \[B 3 T height width\], got \[2, 4, 8"),
        (VJEPA2(presets.vjepa2()).encode, (2, 3, 7, 32, 32), "7 frames do not divide into tubelets of 2"),
        (VJEPA2AC(presets.vjepa2_ac()).encode, (2, 1, 8, 32, 32), r"takes clips \[B 3 T height width\], got \[2, 1"),
        (VJEPA2AC(presets.vjepa2_ac()).encode, (2, 3, 8, 64, 64), "Frames are 64x64, this V-JEPA 2-AC takes 32x32"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(torch.zeros(shape))


def test_a_loss_is_the_same_for_each_image_alone() -> None:
    model = IJEPA(presets.ijepa())
    images, masks = torch.rand(3, 3, 32, 32), model.masks()(3, torch.Generator().manual_seed(0))
    together = model.losses(images, *masks)["prediction"]
    alone = [model.losses(images[i : i + 1], *(ids[:, i : i + 1] for ids in masks))["prediction"] for i in range(3)]
    assert close(together, torch.cat(alone))
    clips, video = [torch.rand(2, 3, n, 32, 32) for n in (8, 4)], VJEPA2(presets.vjepa2())
    masks2 = [[sample(2, torch.Generator().manual_seed(0)) for sample in video.masks(n)] for n in (8, 4)]
    both = video.losses(clips, masks2)["prediction"]
    assert both.shape == (4,)
    assert close(both[2:], video.group_losses(clips[1], masks2[1], 1)["prediction"])


def test_several_context_masks() -> None:
    config = presets.ijepa()
    model = IJEPA(replace(config, masks=replace(config.masks, contexts=2)))
    images, masks = torch.rand(2, 3, 32, 32), model.masks()(2, torch.Generator().manual_seed(0))
    both = model.losses(images, *masks)["prediction"]
    each = [model.losses(images, ids[None], masks.target)["prediction"] for ids in masks.context]
    assert close(both, torch.stack(each).mean(0))


def test_other_image_sizes_are_encoded_and_odd_ones_refused() -> None:
    model = IJEPA(presets.ijepa())
    assert model.encode(torch.rand(1, 3, 24, 40)).shape == (1, 60, 64)
    with pytest.raises(ValueError, match="33x32"):
        model.encode(torch.rand(1, 3, 33, 32))
    with pytest.raises(ValueError, match="3 frames"):
        VJEPA2(presets.vjepa2()).encode(torch.rand(1, 3, 3, 32, 32))


def test_a_single_frame_is_a_tubelet_of_equal_frames() -> None:
    model, frame = VJEPA2(presets.vjepa2()), torch.rand(2, 3, 1, 32, 32)
    assert close(model.encode(frame), model.encode(frame.expand(-1, -1, 2, -1, -1)))


@pytest.mark.parametrize("kind", ["image", "video"])
def test_recomputing_activations_changes_no_gradient(kind: str) -> None:
    config = presets.ijepa() if kind == "image" else presets.vjepa2()
    model = (IJEPA if kind == "image" else VJEPA2)(config)  # type: ignore[arg-type]
    lean = type(model)(
        replace(
            config, encoder=replace(config.encoder, recompute=True), predictor=replace(config.predictor, recompute=True)
        )  # type: ignore[arg-type]
    )
    lean.load_state_dict(model.state_dict())
    grads = []
    for each in (model, lean):
        rng = torch.Generator().manual_seed(0)
        if isinstance(each, IJEPA):
            losses = each(torch.ones(2, 3, 32, 32), *each.masks()(2, rng))
        else:
            losses = each([torch.ones(2, 3, 8, 32, 32)], [[sample(2, rng) for sample in each.masks()]])
        losses["prediction"].mean().backward()
        grads.append([p.grad for p in each.parameters() if p.grad is not None])
    assert len(grads[0]) > 30 and all(close(a, b) for a, b in zip(*grads, strict=True))


AC_CASES = [
    pytest.param(presets.vjepa2_ac(action=2), id="no state"),
    pytest.param(presets.vjepa2_ac(action=3, state=3), id="state adds up"),
    pytest.param(replace(presets.vjepa2_ac(action=3, state=5), extrinsics=4, use_extrinsics=True), id="extrinsics"),
    pytest.param(replace(presets.vjepa2_ac(action=7, state=7), state_update="pose", rollout=4), id="arm"),
]


def ac_batch(config: VJEPA2ACConfig, frames: int = 6) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    states = torch.randn(2, frames, config.state) if config.state else None
    extrinsics = torch.randn(2, frames, config.extrinsics) if config.extrinsics else None
    return torch.rand(2, 3, frames, 32, 32), torch.randn(2, frames - 1, config.action), states, extrinsics


@pytest.mark.parametrize("config", AC_CASES)
def test_ac_learns_only_its_predictor_and_all_of_it(config: VJEPA2ACConfig) -> None:
    model = VJEPA2AC(config)
    losses = model(*ac_batch(config))
    assert {name: loss.shape for name, loss in losses.items()} == {"teacher_forcing": (2,), "rollout": (2,)}
    sum(losses.values()).mean().backward()
    learnt = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learnt == {name for name, _ in model.named_parameters() if name.startswith("predictor.")}


@pytest.mark.parametrize("config", AC_CASES)
def test_rollouts_with_kept_keys_and_values_equal_those_over_whole_sequences(config: VJEPA2ACConfig) -> None:
    model = VJEPA2AC(config).eval()
    clips, actions, states, extrinsics = ac_batch(config)
    latents = model.encode(clips)
    _, rollout = model.predictions(latents, actions, states, extrinsics)
    frames = latents[:, :1]
    for t in range(config.rollout):
        parts = (None if x is None else x[:, : t + 1] for x in (states, extrinsics))
        raw, _ = model.predictor(frames, actions[:, : t + 1], *parts)
        following = torch.nn.functional.layer_norm(raw[:, -1:], raw.shape[-1:])
        assert close(rollout[:, t : t + 1], following)
        frames = torch.cat([frames, following], 1)


@pytest.mark.parametrize("config", AC_CASES)
def test_the_future_does_not_reach_the_past(config: VJEPA2ACConfig) -> None:
    model = VJEPA2AC(config).eval()
    clips, actions, states, extrinsics = ac_batch(config)
    latents = model.encode(clips)
    forced, _ = model.predictions(latents, actions, states, extrinsics)
    changed = latents.clone()
    changed[:, 3] += 1
    other, _ = model.predictions(changed, actions, states, extrinsics)
    assert torch.equal(forced[:, :3], other[:, :3]) and not close(forced[:, 3], other[:, 3])


@pytest.mark.parametrize("config", AC_CASES)
def test_imagination_of_many_problems_equals_each_alone(config: VJEPA2ACConfig) -> None:
    model = VJEPA2AC(config).eval()
    clips, actions, states, extrinsics = ac_batch(config, frames=3)
    latents, plan = model.encode(clips), torch.randn(2, 3, config.action)
    together = model.imagine(model.begin(latents, actions, states, extrinsics), plan)
    assert together.shape == (2, 3, 64, 64)
    for i in range(2):
        row = slice(i, i + 1)
        one = model.begin(
            latents[row], actions[row], None if states is None else states[row],
            None if extrinsics is None else extrinsics[row],
        )  # fmt: skip
        assert close(together[row], model.imagine(one, plan[row]))


def test_states_follow_actions() -> None:
    hold = VJEPA2AC(presets.vjepa2_ac(action=2, state=3))
    add = VJEPA2AC(presets.vjepa2_ac(action=2, state=2))
    state, action = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    assert torch.equal(hold.next_state(torch.ones(1, 3), action), torch.ones(1, 3))
    assert torch.equal(add.next_state(state, action), torch.tensor([[1.5, 1.0]]))


def test_what_does_not_fit_is_refused_by_name() -> None:
    model = VJEPA2AC(presets.vjepa2_ac(action=2, state=3))
    with pytest.raises(ValueError, match="states of 3 numbers, got none"):
        model.losses(torch.rand(1, 3, 4, 32, 32), torch.rand(1, 3, 2))
    with pytest.raises(ValueError, match="16x16"):
        model.encode(torch.rand(1, 3, 4, 16, 16))
    with pytest.raises(ValueError, match="too short for a rollout of 2"):
        model.losses(torch.rand(1, 3, 2, 32, 32), torch.rand(1, 1, 2), torch.rand(1, 2, 3))
    with pytest.raises(ValueError, match=r"actions have the shape \(1, 3, 4\), not \(1, 3, 2\)"):
        model.losses(torch.rand(1, 3, 4, 32, 32), torch.rand(1, 3, 4), torch.rand(1, 4, 3))
    with pytest.raises(ValueError, match="state_update='pose'"):
        VJEPA2ACConfig(action=2)
    with pytest.raises(ValueError, match="multiple of"):
        EncoderConfig(size=30, patch=4)
    with pytest.raises(ValueError, match="predictor.width"):
        IJEPAConfig(predictor=PredictorConfig(width=30, heads=3))
    with pytest.raises(ValueError, match="no size 'big'"):
        presets.vjepa2("big")


def test_a_probe_sees_all_tokens() -> None:
    probe = AttentiveProbe(32, 5, heads=4, depth=2)
    tokens = torch.randn(3, 6, 32, requires_grad=True)
    logits = probe(tokens)
    assert logits.shape == (3, 5)
    (gradient,) = torch.autograd.grad(logits[0, 0], tokens)
    assert (gradient[0].abs().sum(-1) > 0).all() and not gradient[1:].any()
