"""An untrained world, of which much is known, measured on clips of the block world."""

import math

import numpy as np
import pytest
import torch

from learner.video_quality.evaluation import evaluate
from learner.video_quality.image_quality import psnr, squared_error
from learner.video_quality.latent_action import changes, consistency, latent_action_measures
from learner.video_quality.rollout import roll_out
from learner.video_quality.tokenizer import tokenizer_measures
from tests.learner.video_quality.small_world import FRAMES, batches, world
from world_models.genie.dynamics import Sampling
from world_models.jepa.config import EncoderConfig, PredictorConfig, VJEPA2Config
from world_models.jepa.vjepa2 import VJEPA2


def test_measures_are_finite_repeat_and_name_what_was_asked() -> None:
    model = world()
    found = evaluate(model, batches())
    assert evaluate(model, iter(batches())) == found
    assert evaluate(model, batches(), seed=1)["psnr_4"] != found["psnr_4"]
    assert found["clips"] == 16
    for k in (1, 4):
        assert found[f"psnr_{k}"] < found[f"copy_psnr_{k}"]  # nothing was learnt
        low, high = found[f"delta_psnr_{k}_interval"]
        assert low <= found[f"delta_psnr_{k}"] <= high and low < high
        assert -1 < found[f"ssim_{k}"] < found[f"copy_ssim_{k}"] < 1
    assert 0 <= found["token_accuracy"] < 0.5
    assert 1 <= found["codebook_perplexity"] <= found["codebook_used"] <= 16
    assert 0 <= found["action_nmi"] <= 1
    assert not [key for key, value in found.items() if isinstance(value, float) and not math.isfinite(value)]
    one = evaluate(model, batches()[:1], horizons=(1,))
    assert "psnr_1" in one and "psnr_4" not in one


def test_the_last_frame_is_copied_from_the_same_clips() -> None:
    frames = torch.cat([batch["frames"] for batch in batches()]).double() / 255
    found = evaluate(world(), batches())
    for k in (1, 4):
        error = (frames[:, FRAMES - 5 + k] - frames[:, FRAMES - 5]).square().mean()
        assert found[f"copy_psnr_{k}"] == pytest.approx(-10 * math.log10(float(error)), abs=1e-4)


def test_actions_that_the_world_ignores_do_nothing() -> None:
    model = world()
    assert model.dynamics.action is not None
    torch.nn.init.zeros_(model.dynamics.action.weight)
    found = evaluate(model, batches())
    assert found["delta_psnr_4"] == 0 and found["delta_psnr_4_interval"] == [0, 0]
    assert found["action_shuffle_ratio"] == pytest.approx(1)


def test_recorded_actions_stand_in_for_inferred_ones() -> None:
    model = world(real_actions=5)
    found = evaluate(model, batches())
    assert "action_nmi" not in found and found["action_shuffle_ratio"] != 1
    with pytest.raises(ValueError, match="the clips have none"):
        evaluate(model, [{"frames": batches()[0]["frames"]}])


def test_clips_must_be_longer_than_what_is_generated() -> None:
    with pytest.raises(ValueError, match="Clips of 4 frames leave none"):
        evaluate(world(), [{"frames": batches()[0]["frames"][:, :4]}])


def test_an_encoder_adds_the_distance_of_features() -> None:
    encoder = EncoderConfig(size=32, patch=16, tubelet=2, width=12, depth=1, heads=2)
    predictor = PredictorConfig(width=12, depth=1, heads=2)
    model = VJEPA2(VJEPA2Config(encoder=encoder, predictor=predictor, frames=4)).eval()
    found = evaluate(world(), batches(), encoder=model)
    assert 0 <= found["copy_frechet_distance"] < found["frechet_distance"]


def test_a_rollout_follows_its_actions() -> None:
    model, frames, generator = world(), batches()[0]["frames"], torch.Generator().manual_seed(0)
    actions = torch.randint(6, (8, FRAMES - 1), generator=generator)
    likeliest = Sampling(steps=2, temperature=0.0)
    shown = roll_out(model, frames, actions, 3, generator, likeliest)
    state = model.start(frames[:, :3], actions[:, :2])
    for k in range(3):
        state = model.step(state, actions[:, 2 + k], generator, likeliest)
        assert torch.equal(shown.generated[:, k], state.frame)
    assert torch.equal(shown.truth, frames[:, 3:]) and torch.equal(shown.copied[:, 2], frames[:, 2])
    assert not torch.equal(shown.random, shown.generated)


def test_latent_actions_that_name_the_true_ones_agree_with_them() -> None:
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(rng.integers(5, size=(40, 50)))
    true = torch.eye(5)[numbers]
    moved = torch.ones(40, 50, dtype=torch.bool)
    found = consistency((numbers + 3) % 5, true, moved)
    assert found["action_nmi"] == pytest.approx(1) and found["shuffled_nmi"] < 0.02
    moved[:20] = False  # where nothing moves, latent actions may be anything
    assert consistency(torch.where(moved, numbers, 0), true, moved)["action_nmi"] == pytest.approx(1)
    assert consistency(numbers, true * 0.5, moved) == {}


def test_frames_change_where_any_pixel_does() -> None:
    frames = torch.zeros(1, 3, 2, 2, 3, dtype=torch.uint8)
    frames[0, 2, 1, 1, 2] = 1
    assert changes(frames).tolist() == [[False, True]]


def test_each_stage_is_measured_alone() -> None:
    model, frames = world(), batches()[0]["frames"]
    found = tokenizer_measures(model.tokenizer, batches()[:1])
    assert found["tokenizer_psnr"] == psnr(squared_error(model.decode(model.encode(frames)), frames))
    assert model.latent_action is not None
    found = latent_action_measures(model.latent_action, batches())
    assert found.keys() >= {"psnr_1", "copy_psnr_1", "action_perplexity", "actions_used", "action_nmi"}
    bare = [{"frames": batch["frames"]} for batch in batches()]
    assert "action_nmi" not in latent_action_measures(model.latent_action, bare)
