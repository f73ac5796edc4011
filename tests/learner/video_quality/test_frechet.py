"""The distance of Gaussians, where it is known, and its features."""

import pytest
import torch
from scipy.linalg import sqrtm

from learner.video_quality.frechet import clip_features, frechet_distance
from world_models.jepa.config import EncoderConfig, PredictorConfig, VJEPA2Config
from world_models.jepa.vjepa2 import VJEPA2


def test_distances_of_known_gaussians() -> None:
    a = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3) == pytest.approx(9)
    assert frechet_distance(a, 3 * a) == pytest.approx((3 - 1) ** 2 + (18**0.5 - 2**0.5) ** 2)


def test_the_distance_is_that_of_the_matrix_root() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 5, generator=generator, dtype=torch.float64) @ torch.randn(5, 5, generator=generator).double()
    b = torch.randn(40, 5, generator=generator, dtype=torch.float64) + 1
    first, second = torch.cov(a.T), torch.cov(b.T)
    root = torch.from_numpy(sqrtm((first @ second).numpy()).real)
    expected = (a.mean(0) - b.mean(0)).square().sum() + (first + second - 2 * root).trace()
    assert frechet_distance(a, b) == pytest.approx(float(expected))
    assert frechet_distance(b, a) == pytest.approx(float(expected))


def test_fewer_clips_than_features_are_compared() -> None:
    a = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 clips of each kind, got 6 and 1"):
        frechet_distance(a, a[:1])


def test_features_are_one_vector_for_each_clip_of_any_size() -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(size=32, patch=8, tubelet=2, width=24, depth=1, heads=2)
    model = VJEPA2(VJEPA2Config(encoder=encoder, predictor=PredictorConfig(width=24, depth=1, heads=2), frames=4))
    frames = torch.randint(256, (3, 4, 48, 48, 3), dtype=torch.uint8)
    features = clip_features(model.eval(), frames)
    assert features.shape == (3, 24)
    assert not torch.allclose(features[0], features[1])
