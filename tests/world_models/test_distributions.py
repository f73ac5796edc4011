"""Output distributions: literal numbers and properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from world_models.distributions import (
    Binary,
    BoundedNormal,
    Categorical,
    SquaredError,
    TwoHot,
    categorical_entropy,
    categorical_kl,
    one_hot,
    over_classes,
    pick_class,
    straight_through,
    symexp,
    symlog,
    two_hot_bins,
    unimix,
)

FLOATS = st.floats(-1e6, 1e6, width=32)


@given(FLOATS)
def test_symexp_inverts_symlog(x: float) -> None:
    squashed = symlog(torch.tensor(x))
    assert torch.allclose(symexp(squashed), torch.tensor(x), rtol=1e-4, atol=1e-6)
    assert torch.equal(symlog(torch.tensor(-x)), -squashed)


@pytest.mark.parametrize("bins", [2, 5, 8, 255])
def test_bins_are_antisymmetric_and_rise(bins: int) -> None:
    positions = two_hot_bins(bins)
    assert len(positions) == bins
    assert torch.equal(positions, -positions.flip(0))
    assert (positions.diff() >= 0).all() and positions[-1] == pytest.approx(math.exp(20) - 1, rel=1e-6)


@pytest.mark.parametrize("bins", [8, 255])
def test_constant_logits_predict_exactly_zero(bins: int) -> None:
    assert TwoHot(torch.full((3, bins), 5.0), two_hot_bins(bins)).pred().tolist() == [0, 0, 0]


@given(FLOATS)
def test_the_two_hot_target_has_the_expectation_of_the_target(x: float) -> None:
    bins = two_hot_bins(41)
    logits = torch.zeros(41, requires_grad=True)
    TwoHot(logits, bins).loss(torch.tensor(x)).backward()
    assert logits.grad is not None
    target = 1 / 41 - logits.grad.double()  # the gradient is softmax minus target
    assert target.sum().item() == pytest.approx(1, abs=1e-5)
    assert (target > 1e-5).sum() <= 2
    nearest = bins[bins >= abs(x)][0].item()
    assert (target * bins).sum().item() == pytest.approx(x, abs=1e-4 * max(1e-3, nearest) + 1e-7 * bins[-1].item())


def test_targets_out_of_range_fall_on_the_end_bins() -> None:
    bins = two_hot_bins(5)
    dist = TwoHot(torch.arange(5.0).expand(2, 5), bins)
    losses = dist.loss(torch.tensor([-1e12, 1e12]))
    torch.testing.assert_close(losses, -dist.log_probs[0, [0, 4]], rtol=1e-6, atol=0)


def test_interpolation_is_linear_in_raw_space() -> None:
    bins = torch.tensor([0.0, 1.0, 9.0])
    dist = TwoHot(torch.tensor([0.3, -0.2, 1.0]), bins)
    expected = -(0.25 * dist.log_probs[2] + 0.75 * dist.log_probs[1])
    assert torch.allclose(dist.loss(torch.tensor(3.0)), expected)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6), st.floats(0.001, 0.5))
def test_unimix_is_normalised_and_keeps_every_class(logits: list[float], mix: float) -> None:
    probs = unimix(torch.tensor(logits), mix).exp()
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    assert (probs >= mix / len(logits) * 0.999).all()


@pytest.mark.parametrize("classes", [1, 4, 15, 16, 40])
def test_classes_are_normalised_alike_whatever_their_number(classes: int) -> None:
    logits = torch.randn(5, 3, classes)
    assert torch.allclose(over_classes(torch.softmax, logits), logits.softmax(-1), atol=1e-6)
    assert torch.allclose(over_classes(torch.log_softmax, logits[0, 0]), logits[0, 0].log_softmax(-1), atol=1e-6)


def test_the_cross_entropy_is_linear_in_the_target_and_so_is_its_gradient() -> None:
    logits = torch.randn(4, 9, requires_grad=True)
    dist = TwoHot(logits, two_hot_bins(9))
    targets = torch.randn(4) * 3, torch.tensor([0.0, -1e12, 1e12, 2.0])
    index, weight = zip(*(dist.encode(target) for target in targets), strict=True)
    together = dist.cross_entropy(torch.cat(index, -1), torch.cat([weight[0], 0.3 * weight[1]], -1))
    soft = sum(w * torch.zeros(4, 9).scatter_add_(-1, i, v) for i, v, w in zip(index, weight, (1, 0.3), strict=True))
    plain = -(soft * logits.log_softmax(-1)).sum(-1)
    assert torch.allclose(together, plain, atol=1e-5)
    assert torch.allclose(together, dist.loss(targets[0]) + 0.3 * dist.loss(targets[1]), atol=1e-5)
    scale = torch.randn(4)
    ours, theirs = (torch.autograd.grad(loss, logits, scale)[0] for loss in (together, plain))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_no_mix_is_the_softmax() -> None:
    logits = torch.tensor([1.0, 2.0, 4.0])
    assert torch.allclose(unimix(logits, 0.0).exp(), logits.softmax(-1))


def test_kl_and_entropy_literals() -> None:
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert categorical_kl(p, q).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-6)
    assert categorical_kl(p, p).item() == 0
    assert categorical_entropy(p).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(("draw", "index"), [(0.0, 0), (0.19, 0), (0.2, 1), (0.69, 1), (0.7, 2), (0.999999, 2)])
def test_a_class_is_picked_by_the_cumulative_distribution(draw: float, index: int) -> None:
    assert pick_class(torch.tensor([0.2, 0.5, 0.3]), torch.tensor(draw)).item() == index


def test_an_integer_draw_is_the_class_itself() -> None:
    assert pick_class(torch.tensor([[0.2, 0.8]]), torch.tensor([0], dtype=torch.int32)).tolist() == [0]


def test_impossible_classes_are_never_picked() -> None:
    probs = torch.tensor([0.0, 1.0, 0.0]).expand(1000, 3)
    assert pick_class(probs, torch.linspace(0, 1, 1001)[:-1]).unique().tolist() == [1]


def test_straight_through_has_the_value_of_the_sample_and_the_gradient_of_the_probabilities() -> None:
    probs = torch.tensor([[0.2, 0.8]], requires_grad=True)
    sample = straight_through(probs, torch.tensor([0]))
    assert sample.tolist() == [[1, 0]]
    (sample * torch.tensor([3.0, 5.0])).sum().backward()
    assert probs.grad is not None and probs.grad.tolist() == [[3, 5]]
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_categorical_sums_over_its_event_axes() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    action = torch.tensor([1, 2])
    single, event = Categorical(logits), Categorical(logits, event=1)
    assert torch.allclose(event.logp(action), single.logp(action).sum())
    assert torch.allclose(event.entropy(), single.entropy().sum())
    assert torch.equal(event.loss(action), -event.logp(action))
    assert event.pred().tolist() == [1, 2]
    assert event.entropy_range is None and single.entropy_range == (0.0, math.log(3))


def test_bounded_normal_is_a_plain_gaussian() -> None:
    mean, std = torch.tensor([[0.3, -2.0]]), torch.tensor([[0.0, 5.0]])
    dist = BoundedNormal(mean, std, 0.1, 1.0)
    reference = torch.distributions.Normal(mean.tanh(), 0.9 * (std + 2).sigmoid() + 0.1)
    action = torch.tensor([[1.7, -0.2]])  # outside [-1, 1]: no clipping, no Jacobian
    assert torch.allclose(dist.logp(action), reference.log_prob(action).sum(-1))
    assert torch.allclose(dist.entropy(), reference.entropy().sum(-1))
    assert torch.equal(dist.sample(torch.zeros(1, 2)), dist.pred())
    assert torch.allclose(dist.sample(torch.ones(1, 2)) - dist.pred(), dist.std)


def test_binary_takes_soft_targets_and_far_logits() -> None:
    dist = Binary(torch.tensor([0.0, 100.0, -100.0]))
    assert torch.allclose(dist.loss(torch.tensor([0.25, 0.0, 0.0])), torch.tensor([math.log(2), 100.0, 0.0]))
    assert dist.pred().tolist() == [False, True, False]
    assert dist.prob().tolist() == pytest.approx([0.5, 1.0, 0.0])


def test_squared_error_has_no_half() -> None:
    mean, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert SquaredError(mean, event=1).loss(target).tolist() == [5]
    squashed = SquaredError(mean, event=1, symlog_target=True).loss(target)
    assert squashed.item() == pytest.approx(1 + (2 - math.log(5)) ** 2, rel=1e-6)


def test_a_two_hot_prediction_has_a_gradient_also_after_one_without() -> None:
    logits = torch.randn(4, 7, requires_grad=True)
    dist = TwoHot(logits, two_hot_bins(7))
    with torch.no_grad():
        constant = dist.pred()
    (grad,) = torch.autograd.grad(dist.pred().sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(-1) @ dist.bins).sum(), logits)
    assert torch.allclose(dist.pred(), constant) and torch.allclose(grad, expected, rtol=1e-3)
