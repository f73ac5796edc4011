"""SIGReg: latents are pulled towards an isotropic Gaussian (LeJEPA, Balestriero and LeCun 2025, arXiv 2511.08544).

Legend: N latents, D features, M directions, K knots.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def random_directions(
    width: int, count: int, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Float[Tensor, "D M"]:
    """Unit vectors, uniform on the sphere."""
    drawn = torch.randn(width, count, generator=generator, device=device)
    return drawn / drawn.norm(dim=0).clamp_min(1e-12)


def gaussianity(
    latents: Float[Tensor, "N D"], directions: Float[Tensor, "D M"], knots: int = 17, reach: float = 3.0
) -> Float[Tensor, ""]:
    """How far the latents are from N(0, I): 0 for an infinite sample of it, 0.41 if all are 0.

    The mean over directions a of the Epps-Pulley statistic of their projections (LeJEPA, section 4; LeWorldModel,
    arXiv 2603.19312, appendix A), with the trapezoidal rule in place of the integral:

        integral from -reach to reach of |mean_n exp(i t a.z_n) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt

    It is not multiplied by N, so that its weight is the same for every batch; N Gaussian latents give about 1.06 / N.
    """
    with torch.autocast(latents.device.type, enabled=False):
        t = torch.linspace(0, reach, knots, device=latents.device)
        normal = torch.exp(-t.square() / 2)
        weights = torch.full_like(t, 2 * reach / (knots - 1))  # negative t give the same: twice the positive half
        weights[[0, -1]] /= 2
        angles = (latents.float() @ directions.float())[..., None] * t  # [N M K]
        apart = (angles.cos().mean(0) - normal).square() + angles.sin().mean(0).square()
        return (apart @ (weights * normal)).mean()
