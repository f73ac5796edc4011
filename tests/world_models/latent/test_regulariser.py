"""SIGReg: 0 for Gaussian latents alone, whatever the batch, and gradients that lead there."""

import math

import pytest
import torch
from torch import Tensor

from world_models.latent.regulariser import gaussianity, random_directions


def drawn(rows: int, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def statistic(latents: Tensor, **options: float) -> float:
    directions = random_directions(latents.shape[1], 64, torch.Generator().manual_seed(1))
    return float(gaussianity(latents, directions, **options))  # type: ignore[arg-type]


def test_directions_have_unit_length_and_repeat() -> None:
    one, same, other = (random_directions(5, 40, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one.shape == (5, 40) and torch.equal(one, same) and not torch.equal(one, other)
    torch.testing.assert_close(one.norm(dim=0), torch.ones(40))
    assert float(one.mean().abs()) < 0.1


def test_gaussian_latents_cost_almost_nothing_and_less_the_more_there_are() -> None:
    null = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)  # N times the mean of the statistic, all knots
    for rows in (64, 4096):
        repeated = [statistic(drawn(rows, seed=seed)) for seed in range(10)]
        assert sum(repeated) / 10 == pytest.approx(null / rows, rel=0.3)


@pytest.mark.parametrize(
    "latents",
    [
        pytest.param(torch.zeros(512, 8), id="collapsed"),
        pytest.param(3 * drawn(512), id="too wide"),
        pytest.param(0.3 * drawn(512), id="too narrow"),
        pytest.param(drawn(512) + 1, id="off centre"),
        pytest.param(drawn(512) * torch.tensor([1.0] * 4 + [0] * 4), id="half collapsed"),
        pytest.param(drawn(512)[:, :1].expand(-1, 8), id="all numbers alike"),
        pytest.param(0.3 * drawn(512) + drawn(512, 1, seed=2).sign(), id="two clusters"),
    ],
)
def test_what_is_no_isotropic_gaussian_costs_more(latents: Tensor) -> None:
    assert statistic(latents) > 5 * statistic(drawn(512))


def test_the_integral_is_that_of_the_collapsed_case() -> None:
    """|1 - g|^2 g with g = exp(-t^2 / 2), over all t; 3 standard deviations have nearly all of it."""
    exact = math.sqrt(2 * math.pi) * (1 - 2 / math.sqrt(2) + 1 / math.sqrt(3))
    assert statistic(torch.zeros(4, 8), reach=8.0, knots=200) == pytest.approx(exact, rel=1e-4)
    assert statistic(torch.zeros(4, 8)) == pytest.approx(exact, rel=0.02)


def test_descending_makes_latents_gaussian() -> None:
    latents = (0.1 * drawn(256, 4) * torch.tensor([1.0, 1, 0.1, 0.1]) + 1).requires_grad_()
    solver = torch.optim.Adam([latents], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        solver.zero_grad()
        gaussianity(latents, random_directions(4, 32, generator)).backward()
        solver.step()
    found = latents.detach()
    assert float(found.mean(0).abs().max()) < 0.1
    torch.testing.assert_close(found.T.cov(), torch.eye(4), atol=0.15, rtol=0)
