"""Noise with a power spectrum of `1 / f^beta`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def coloured_noise(
    beta: float, rows: int, steps: int, generator: torch.Generator
) -> Float[Tensor, "rows steps"]:  # fmt: skip
    """Gaussian noise of unit variance whose power spectral density falls as `f^-beta`: 0 is white, 1 pink, 2 red.

    Timmer and Koenig 1995, *On generating power law noise*: Gaussian Fourier coefficients of standard deviation
    `f^(-beta / 2)`, transformed back; the frequency 0 has the coefficient of the lowest other one.
    """
    device = generator.device
    if steps == 1 or beta == 0:
        return torch.randn(rows, steps, generator=generator, device=device)
    frequencies = torch.fft.rfftfreq(steps, device=device)
    frequencies[0] = frequencies[1]
    scale = frequencies ** (-beta / 2)
    real, imaginary = torch.randn(2, rows, len(scale), generator=generator, device=device) * scale
    imaginary[:, 0] = 0  # these two coefficients are real, so that all their power is there
    real[:, 0] *= math.sqrt(2)
    power = scale.square() * 2
    if steps % 2 == 0:
        imaginary[:, -1] = 0
        real[:, -1] *= math.sqrt(2)
        power[-1] /= 2
    power[0] /= 2
    # Variance of a sample: 2 / steps^2 times the power of both halves of the spectrum.
    std = torch.sqrt(2 * power.sum()) / steps
    return torch.fft.irfft(torch.complex(real, imaginary), steps) / std
