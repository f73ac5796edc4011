"""Errors of pictures, on pictures whose answers are known."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from learner.video_quality.image_quality import psnr, squared_error, ssim


def pictures(seed: int, count: int = 3, size: tuple[int, int] = (20, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_the_error_of_a_picture_is_the_mean_over_its_values() -> None:
    a = torch.zeros(2, 1, 2, 1, dtype=torch.uint8)
    b = torch.tensor([[51, 0], [255, 255]], dtype=torch.uint8).view(2, 1, 2, 1)
    assert squared_error(a, b).tolist() == pytest.approx([0.02, 1.0])
    assert squared_error(a[:, None], b[:, None]).shape == (2, 1)


def test_psnr_is_that_of_the_mean_error() -> None:
    assert psnr(torch.tensor([0.01])) == pytest.approx(20)
    assert psnr(torch.tensor([0.02, 0.0])) == pytest.approx(20)  # the mean of PSNRs would be infinite
    assert psnr(torch.tensor([0.001, 0.1])) == pytest.approx(-10 * math.log10(0.0505))
    assert psnr(torch.zeros(3)) == 100


def test_ssim_of_known_pictures() -> None:
    row, column = np.mgrid[:16, :20]
    a = (row * 13 + column * 7) % 256
    others = (row * 13 + column**2 * 3) % 256, np.minimum(a + 20, 255), a
    got = [float(ssim(*(torch.from_numpy(x.astype(np.uint8))[None, ..., None] for x in (a, b)))) for b in others]
    # scikit-image 0.26: structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert got == pytest.approx([0.01161434, 0.99193195, 1.0], abs=1e-6)


def test_ssim_is_the_mean_of_a_gaussian_window() -> None:
    a = pictures(0)
    b = np.clip(a + np.random.default_rng(1).integers(-60, 61, a.shape), 0, 255).astype(np.uint8)

    def blurred(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, sigma=(0, 1.5, 1.5, 0), radius=5)[:, 5:-5, 5:-5]

    x, y = a / 255, b / 255
    mx, my = blurred(x), blurred(y)
    xx, yy, xy = blurred(x * x) - mx * mx, blurred(y * y) - my * my, blurred(x * y) - mx * my
    expected = (2 * mx * my + 1e-4) * (2 * xy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (xx + yy + 9e-4))
    assert ssim(torch.from_numpy(a), torch.from_numpy(b)).numpy() == pytest.approx(expected.mean((1, 2, 3)), abs=1e-5)


def test_ssim_refuses_pictures_below_its_window() -> None:
    small = torch.from_numpy(pictures(0, size=(10, 32)))
    with pytest.raises(ValueError, match="11x11 pixels, got 10x32"):
        ssim(small, small)
