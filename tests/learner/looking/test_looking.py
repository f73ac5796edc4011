"""What looks into models compute: colours, errors of patches, neighbours, futures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from learner.looking.errors import masked_errors, next_frame_errors, next_picture_errors, pixel_errors
from learner.looking.futures import features_ahead, latents_ahead, observations_ahead, pictures_ahead
from learner.looking.layers import patch_layers
from learner.looking.neighbours import nearest_by_cosine
from learner.looking.principal import principal_colours
from tests.deploy.reports.test_open_loop import CONTEXT, ROWS, TIME, broken
from tests.learner.probes import small
from tests.world_models.genie.small import clips, small_genie
from tests.world_models.jepa import small_vjepa2_ac
from tests.world_models.latent import small as small_latent
from tests.world_models.small_agent import CONTINUOUS, IMAGE, VECTOR, build
from world_models.frames import prepared
from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.losses import normalized
from world_models.jepa.vjepa2 import VJEPA2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_colours_are_the_directions_in_which_tokens_vary_most() -> None:
    factors = torch.rand(500, 3, generator=seeded()) * torch.tensor([10.0, 3.0, 1.0])
    directions, _ = torch.linalg.qr(torch.randn(20, 3, generator=seeded(1)))
    found = principal_colours(factors @ directions.T + 5)
    assert sum(found.shares) == pytest.approx(1, abs=1e-5) and found.shares[0] > 0.85 > 0.1 > found.shares[2]
    for colour, factor in zip(found.values.T, factors.T, strict=True):
        assert abs(np.corrcoef(colour, factor)[0, 1]) > 0.99
    assert found.values.min() == 0 and found.values.max() == 1


def test_an_outlier_does_not_take_the_colours_of_the_others() -> None:
    tokens = torch.rand(1000, 5, generator=seeded())
    tokens[0] = 1e4
    red = principal_colours(tokens).values[1:, 0]
    assert red.std() > 0.2


def test_features_that_do_not_vary_are_grey_and_few_of_them_leave_colours_out() -> None:
    assert (principal_colours(torch.full((9, 4), 2.5)).values == 0.5).all()
    narrow = principal_colours(torch.rand(50, 2, generator=seeded()))
    assert (narrow.values[:, 2] == 0.5).all() and narrow.shares[2] == 0


def test_layers_end_with_what_the_encoder_says() -> None:
    image, clip = small.model(), small.model(clips=True)
    pictures = small.pictures(3).frames
    frames = torch.from_numpy(np.broadcast_to(pictures[:3], (3, 1, 8, 8, 3)).copy())
    layers = patch_layers(image, frames)
    assert list(layers) == ["layer 1 of 1"] and layers["layer 1 of 1"].shape == (3, 1, 2, 2, 16)
    encoded = image.encode(prepared(frames, 3)[:, :, 0])
    assert torch.allclose(layers["layer 1 of 1"].flatten(1, 3), encoded, atol=1e-6)
    assert patch_layers(clip, clips(2))["layer 1 of 1"].shape == (2, 2, 2, 2, 16), "two tubelets"
    assert patch_layers(small_vjepa2_ac.build(), clips(2))["layer 1 of 1"].shape == (2, 4, 2, 2, 16)
    assert patch_layers(small_latent.build(), clips(2))["layer 1 of 1"].shape == (2, 4, 2, 2, 16)
    genie = patch_layers(small_genie(), clips(2))
    assert list(genie) == ["layer 1 of 2", "layer 2 of 2"] and genie["layer 2 of 2"].shape == (2, 4, 2, 2, 16)
    agent = build({"camera": IMAGE}, {"action": CONTINUOUS})
    maps = patch_layers(agent, clips(2, size=12))
    assert [tuple(x.shape) for x in maps.values()] == [(2, 4, 6, 6, 2), (2, 4, 3, 3, 4)]
    with pytest.raises(TypeError, match="no encoder of patches"):
        patch_layers(build({"position": VECTOR}, {"action": CONTINUOUS}), clips(2))


def half_noise(count: int, seed: int) -> torch.Tensor:
    """Pictures of 16x16 whose left half is noise, a shade for each patch, and whose right half is always the same."""
    shades = torch.randint(0, 256, (count, 4, 2), generator=seeded(seed))
    frames = torch.full((count, 1, 16, 16, 3), 90, dtype=torch.uint8)
    frames[:, 0, :, :8] = shades.repeat_interleave(4, 1).repeat_interleave(4, 2)[..., None].to(torch.uint8)
    return frames


def test_errors_are_largest_where_an_image_cannot_be_foreseen() -> None:
    encoder = EncoderConfig(size=16, patch=4, width=16, depth=1, heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = IJEPA(IJEPAConfig(encoder=encoder, predictor=PredictorConfig(width=16, depth=1, heads=2)))
    optimizer, masks, draws = torch.optim.Adam(model.parameters(), 0.01), model.masks(), seeded(3)
    for update in range(80):
        images = prepared(half_noise(16, update), 3)[:, :, 0]
        optimizer.zero_grad()
        model.losses(images, *masks(16, draws))["prediction"].mean().backward()
        optimizer.step()
    found = masked_errors(model.eval(), half_noise(16, 1000), seeded())
    assert found.error.shape == found.trivial.shape == (16, 1, 4, 4) and np.isfinite(found.error).all()
    left, right = found.error[..., :2].mean(), found.error[..., 2:].mean()
    assert left > 1.5 * right
    assert found.means[0] < found.means[1], "better than the mean token"
    again = masked_errors(model, half_noise(16, 1000), seeded())
    assert np.array_equal(found.error, again.error), "the seed decides"


def test_every_patch_of_a_clip_is_hidden_and_errors_are_those_of_the_predictor() -> None:
    model = small.model(clips=True)
    assert isinstance(model, VJEPA2)
    model.predictor.predictor_proj = nn.Linear(16, 16)
    nn.init.zeros_(model.predictor.predictor_proj.weight)
    nn.init.zeros_(model.predictor.predictor_proj.bias)  # it predicts 0 for each
    frames = clips(3)
    found = masked_errors(model, frames, seeded())
    targets = normalized(model.encode(prepared(frames, 3)))
    assert found.error.shape == (3, 2, 2, 2) and found.each == 2
    assert np.allclose(found.error.reshape(3, -1), targets.abs().mean(-1).numpy(), atol=1e-5)
    mean = (targets.mean((0, 1)) - targets).abs().mean(-1)
    assert np.allclose(found.trivial.reshape(3, -1), mean.numpy(), atol=1e-5)


def test_errors_of_next_frames_are_the_loss_patch_by_patch() -> None:
    model, frames = small_vjepa2_ac.build(frames=4), clips(3)
    actions = torch.randn(3, 3, 2, generator=seeded())
    found = next_frame_errors(model, frames, actions, None)
    loss = model.losses(prepared(frames, 3), actions)["teacher_forcing"]
    assert found.error.shape == (3, 3, 2, 2) and found.first == 1
    assert np.allclose(found.error.mean((1, 2, 3)), loss.detach().numpy(), atol=1e-5)
    still = next_frame_errors(model, frames[:, :1].expand_as(frames), actions, None)
    assert np.allclose(still.trivial, 0)


def test_errors_of_a_world_that_draws_are_those_of_pixels() -> None:
    model, frames = small_genie(), clips(2)
    found = next_picture_errors(model, frames, model.infer_actions(frames), seeded())
    assert found.error.shape == (2, 3, 2, 2) and 0 < found.means[0] < 1
    a = np.zeros((1, 4, 4, 3), np.uint8)
    b = a.copy()
    b[0, :2, 2:] = 255
    assert pixel_errors(a, b, 2).tolist() == [[[0, 1], [0, 0]]] and pixel_errors(a, b).sum() == 4
    assert np.array_equal(found.trivial[:, 0], pixel_errors(frames[:, 0].numpy(), frames[:, 1].numpy(), 4))


def test_neighbours_are_sorted_and_a_query_is_not_its_own() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # of mean 0
    queries = torch.tensor([[1.0, 0.1]])
    similarity, which = nearest_by_cosine(queries, bank, 3)
    assert which.tolist() == [[0, 1, 3]] and similarity[0, 0] == pytest.approx(0.995, abs=1e-3)
    _, which = nearest_by_cosine(queries, bank, 9, torch.tensor([[True, False, False, False]]))
    assert which[0, :3].tolist() == [1, 3, 2]


def test_latents_are_imagined_as_the_model_is_measured() -> None:
    model, frames = small_latent.build(), clips(3)
    actions = torch.randn(3, 3, 2, generator=seeded())
    latents = model.encode(prepared(frames, 3)).detach()
    found = latents_ahead(model, frames, actions, (frames.flatten(0, 1), latents.flatten(0, 1)), shown=2)
    expected = model.errors(latents, actions, 3)[-1][:, 0].detach().numpy()
    assert found.errors.shape == (3, 3) and np.allclose(found.errors[:, -1], expected, atol=1e-5)
    assert np.allclose(found.copied, (latents[:, :1] - latents[:, 1:]).square().mean(-1).numpy(), atol=1e-5)
    assert found.control is not None and np.array_equal(found.control, frames[:2].numpy()), "each is its own nearest"
    assert found.imagined.shape == (2, 4, 8, 8, 3) and np.array_equal(found.imagined[:, 0], frames[:2, 0].numpy())


def test_features_and_pictures_are_imagined_from_the_first_frame() -> None:
    frames = clips(3)
    ac, actions = small_vjepa2_ac.build(frames=4, rollout=3), torch.randn(3, 3, 2, generator=seeded())
    latents = ac.encode(prepared(frames, 3))
    found = features_ahead(ac, frames, actions, None, (frames.flatten(0, 1), latents.flatten(0, 1)), shown=2)
    rollout = ac.losses(prepared(frames, 3), actions)["rollout"].detach().numpy()
    assert np.allclose(found.errors.mean(1), rollout, atol=1e-4)
    assert np.allclose(found.maps.mean((2, 3)), found.errors[:2], atol=1e-5)
    world = small_genie()
    drawn = pictures_ahead(world, frames, world.infer_actions(frames), seeded(), shown=2)
    assert drawn.imagined.shape == (2, 4, 8, 8, 3) and drawn.maps.shape == (2, 3, 8, 8)
    assert np.allclose(drawn.maps.mean((2, 3)), drawn.errors[:2], atol=1e-6)


def test_what_follows_a_new_episode_does_not_count() -> None:
    found = observations_ahead(broken(), "camera", shown=2)
    error, copied = found.curves()
    assert found.imagined.shape[:2] == (2, TIME) and found.errors.shape == (ROWS, TIME - CONTEXT)
    assert error == pytest.approx(0.01 * np.arange(1, TIME - CONTEXT + 1)) and copied == pytest.approx(2 * error)
    assert np.isnan(found.maps[0, 2:]).all() and np.isfinite(found.maps[1]).all()
    gone = replace(found, errors=np.full_like(found.errors, np.nan))
    assert np.isnan(gone.curves()[0]).all()
