"""The variance and the spectrum of coloured noise."""

import pytest
import torch

from world_models.planning.coloured_noise import coloured_noise


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_variance_is_one_at_every_step(beta: float, steps: int) -> None:
    noise = coloured_noise(beta, 20_000, steps, torch.Generator().manual_seed(0))
    assert noise.shape == (20_000, steps)
    torch.testing.assert_close(noise.var(0), torch.ones(steps), atol=0.06, rtol=0)
    torch.testing.assert_close(noise.mean(0), torch.zeros(steps), atol=0.04, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_power_falls_as_a_power_of_frequency(beta: float) -> None:
    noise = coloured_noise(beta, 4000, 64, torch.Generator().manual_seed(0))
    power = torch.fft.rfft(noise).abs().square().mean(0)[1:-1]
    frequency = torch.fft.rfftfreq(64)[1:-1]
    slope = torch.linalg.lstsq(
        torch.stack([frequency.log(), torch.ones_like(frequency)], 1), power.log()[:, None]
    ).solution[0, 0]
    assert slope == pytest.approx(-beta, abs=0.05)
