"""How much actions steer, and how sure that is."""

import math

import pytest
import torch

from learner.video_quality.control import action_shuffle_ratio, delta_psnr


def test_delta_psnr_is_the_difference_of_the_mean_errors() -> None:
    found = delta_psnr(torch.tensor([0.01, 0.03]), torch.tensor([0.1, 0.3]))
    assert found.value == pytest.approx(10)
    assert found.low == pytest.approx(10) and found.high == pytest.approx(10)  # all clips differ by the same factor
    assert delta_psnr(torch.tensor([0.02]), torch.tensor([0.02])) == pytest.approx((0, 0, 0))


def test_the_interval_is_that_of_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, generator=generator)
    random, inferred = torch.full((2000,), 0.2), 0.1 + 0.02 * noise
    found = delta_psnr(inferred, random)
    mean, error = float(inferred.mean()), 1.96 * float(inferred.std()) / math.sqrt(2000)
    expected = [10 * math.log10(0.2 / (mean + sign * error)) for sign in (1, -1)]
    assert found[1:] == pytest.approx(expected, abs=0.005)
    assert found.low < found.value < found.high
    assert delta_psnr(inferred, random) == found  # seeded
    assert delta_psnr(inferred, random, seed=1) != found


def test_actions_that_do_nothing_are_within_the_interval() -> None:
    errors = torch.rand(2, 500, generator=torch.Generator().manual_seed(1))
    found = delta_psnr(*errors)
    assert found.low < 0 < found.high


def test_the_shuffle_ratio_is_one_where_actions_are_ignored() -> None:
    loss = torch.tensor([1.0, 3.0])
    assert action_shuffle_ratio(loss, loss.flip(0)) == 1
    assert action_shuffle_ratio(loss, torch.tensor([2.0, 4.0])) == pytest.approx(1.5)
