"""Measures of a representation, on features whose answers are known."""

import math
from collections.abc import Callable

import pytest
import torch

from learner.pretrain.measures import effective_rank, knn_accuracy, linear_accuracy, linear_r2


def test_the_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(torch.ones(50, 8)) == pytest.approx(1, abs=1e-3)  # collapsed
    assert effective_rank(torch.zeros(50, 8)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.eye(8).repeat(5, 1)) == pytest.approx(8, abs=1e-3)
    assert effective_rank(torch.diag(torch.tensor([3.0, 3, 3, 0, 0]))) == pytest.approx(3, abs=1e-3)


def test_the_effective_rank_weighs_directions_by_their_entropy() -> None:
    entropy = -sum(p * math.log(p) for p in (0.75, 0.25))
    assert effective_rank(torch.diag(torch.tensor([30.0, 10.0]))) == pytest.approx(math.exp(entropy), abs=1e-3)


def clusters(separation: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(400) % 4
    centres = separation * torch.eye(4, 6)[labels] + 5  # with a mean far from zero, as transformers have
    return centres + torch.randn(400, 6, generator=generator), labels


@pytest.mark.parametrize("accuracy", [linear_accuracy, knn_accuracy])
def test_classes_are_read_where_features_have_them(accuracy: Callable[..., float]) -> None:
    train, labels = clusters(8.0, seed=0)
    test, truth = clusters(8.0, seed=1)
    assert accuracy(train, labels, test, truth) > 0.98
    assert accuracy(train, labels, test, (truth + 1) % 4) < 0.02
    train, _ = clusters(0.0, seed=0)
    test, _ = clusters(0.0, seed=1)
    assert abs(accuracy(train, labels, test, truth) - 0.25) < 0.1  # nothing to read: chance
    assert accuracy(torch.ones(400, 6), labels, torch.ones(400, 6), truth) == pytest.approx(0.25, abs=0.01)  # collapsed


def test_a_linear_map_tells_what_is_linear() -> None:
    generator = torch.Generator().manual_seed(0)
    features, noise = (torch.randn(400, width, generator=generator) for width in (6, 2))
    told = 5 * features @ torch.randn(6, 2, generator=generator) + 100
    train, test = slice(0, 200), slice(200, 400)
    assert linear_r2(features[train], told[train], features[test], told[test]) > 0.999
    constant = torch.cat([told, torch.ones(400, 1)], 1)  # what does not vary does not count
    assert linear_r2(features[train], constant[train], features[test], constant[test]) > 0.999
    assert abs(linear_r2(features[train], noise[train], features[test], noise[test])) < 0.2
    collapsed = torch.zeros(400, 6)
    assert linear_r2(collapsed[train], told[train], collapsed[test], told[test]) == pytest.approx(0, abs=0.1)
    assert math.isnan(linear_r2(features[train], constant[train, 2:], features[test], constant[test, 2:]))
