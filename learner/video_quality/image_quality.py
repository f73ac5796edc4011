"""How close predicted pictures are to the true ones.

Legend: N pictures, H W pixels, C channels; values 0 to 255, errors in units of 255.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

_FLOOR = 1e-10  # of a mean squared error: 100 dB, so that every PSNR is finite
WINDOW = 11
"""Pixels a side of the window of SSIM."""
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def squared_error(a: UInt8[Tensor, "*N H W C"], b: UInt8[Tensor, "*N H W C"]) -> Float[Tensor, "*N"]:
    """Mean squared error of each picture, the range of values being 1."""
    return (a.float() - b.float()).square().mean((-3, -2, -1)) / 255**2


def psnr(errors: Float[Tensor, "*N"]) -> float:
    """Peak signal-to-noise ratio in dB, `-10 log10(mean(errors))`, at most 100.

    Of the mean error: the mean of each picture's PSNR would be ruled by pictures in which nothing moves.
    """
    return float(decibels(errors.double().mean()))


def decibels(error: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """`-10 log10` of mean squared errors."""
    return -10 * error.clamp_min(_FLOOR).log10()


def ssim(a: UInt8[Tensor, "N H W C"], b: UInt8[Tensor, "N H W C"]) -> Float[Tensor, " N"]:
    """Structural similarity, 1 for equal pictures (Wang et al. 2004, IEEE TIP 13(4), eq. 13): the mean over channels
    and over windows that lie inside of

        `(2 m_a m_b + C1) (2 s_ab + C2) / ((m_a^2 + m_b^2 + C1) (s_a^2 + s_b^2 + C2))`

    with means m and covariances s under a Gaussian of 11x11 pixels and sigma 1.5, C1 = 0.01^2, C2 = 0.03^2. ValueError:
    pictures smaller than the window.
    """
    if min(a.shape[-3:-1]) < WINDOW:
        raise ValueError(
            f"SSIM needs pictures of at least {WINDOW}x{WINDOW} pixels, got {a.shape[-3]}x{a.shape[-2]}; leave it "
            "out for smaller ones."
        )
    x, y = (z.movedim(-1, 1).flatten(0, 1)[:, None].float() / 255 for z in (a, b))  # [N*C 1 H W]
    window = _window(x)
    mx, my, xx, yy, xy = (F.conv2d(F.conv2d(z, window), window.mT) for z in (x, y, x * x, y * y, x * y))
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    return (luminance * structure).unflatten(0, (len(a), -1)).mean((1, 2, 3, 4))


def _window(like: Tensor) -> Float[Tensor, "1 1 1 11"]:
    """The Gaussian along a row; along a column it is the same."""
    places = torch.arange(WINDOW, device=like.device) - WINDOW // 2
    return torch.softmax(-(places**2) / (2 * _SIGMA**2), 0)[None, None, None]
