"""LaProp with AGC: literal steps, schedules, state."""

import math

import pytest
import torch

from learner.config import OptimizerConfig
from learner.optimizer import LaProp, learning_rate

PLAIN = OptimizerConfig(lr=0.1, warmup=0, agc=0.0)


def rates(config: OptimizerConfig, steps: int) -> list[float]:
    return [float(learning_rate(config, torch.tensor(float(step), dtype=torch.float64))) for step in range(steps)]


def test_warm_up_starts_at_exactly_zero() -> None:
    assert rates(OptimizerConfig(lr=1.0, warmup=4), 6) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    assert rates(OptimizerConfig(lr=1.0, warmup=4), 1) == [0.0]
    assert rates(OptimizerConfig(lr=1.0, warmup=0), 2) == [1, 1]


def test_schedules_run_behind_the_warm_up() -> None:
    linear = rates(OptimizerConfig(lr=1.0, warmup=2, anneal=12, schedule="linear"), 15)
    assert linear[2] == 1 and linear[7] == pytest.approx(0.55) and linear[12:] == pytest.approx([0.1] * 3)
    cosine = rates(OptimizerConfig(lr=1e-2, warmup=2, anneal=12, schedule="cosine"), 14)
    assert cosine[7] == pytest.approx(1e-2 * (0.5 + 0.5e-3), rel=1e-6) and cosine[12] == pytest.approx(1e-5)


def test_the_first_update_is_the_sign_of_the_gradient() -> None:
    p = torch.tensor([1.0, 2.0, 3.0, 4.0])
    p.grad = torch.tensor([1e-6, -5.0, 0.0, 1e5])
    LaProp([("p", p)], PLAIN).step()
    assert torch.allclose(p, torch.tensor([0.9, 2.1, 3.0, 3.9]))


def test_two_steps_by_hand() -> None:
    p, (g1, g2) = torch.tensor([0.0]), (2.0, -1.0)
    optimizer = LaProp([("p", p)], PLAIN)
    b1, b2 = PLAIN.beta1, PLAIN.beta2
    expected, nu, mu = 0.0, 0.0, 0.0
    for t, g in enumerate((g1, g2), 1):
        p.grad = torch.tensor([g])
        optimizer.step()
        nu = b2 * nu + (1 - b2) * g * g
        mu = b1 * mu + (1 - b1) * g / math.sqrt(nu / (1 - b2**t))  # scaled first, then averaged
        expected -= 0.1 * mu / (1 - b1**t)
        assert p.item() == pytest.approx(expected, rel=1e-5)


def test_clipping_uses_the_norm_of_the_whole_tensor() -> None:
    p, q, zero = torch.tensor([3.0, 4.0]), torch.tensor([30.0, 40.0]), torch.zeros(2)
    optimizer = LaProp([("p", p), ("q", q), ("zero", zero)], OptimizerConfig(agc=0.3, pmin=1e-3))
    grads = [torch.tensor([6.0, 8.0]), torch.tensor([6.0, 8.0]), torch.tensor([0.0, 1.0])]
    clipped = optimizer.clip(grads)
    assert torch.allclose(clipped[0], torch.tensor([0.9, 1.2]))  # norm 10 to 0.3 * 5
    assert torch.equal(clipped[1], grads[1])  # 10 < 0.3 * 50
    assert torch.allclose(clipped[2], torch.tensor([0.0, 3e-4]))  # as if the norm were pmin
    assert LaProp([("p", p)], PLAIN).clip(grads[:1])[0] is grads[0]


def test_decay_touches_the_named_parameters_alone() -> None:
    weight, bias = torch.tensor([2.0]), torch.tensor([2.0])
    weight.grad, bias.grad = torch.zeros(1), torch.zeros(1)
    LaProp([("a.weight", weight), ("a.bias", bias)], OptimizerConfig(lr=0.1, warmup=0, weight_decay=0.5)).step()
    assert weight.item() == pytest.approx(1.9) and bias.item() == 2


def test_a_parameter_without_gradient_stays() -> None:
    p, q = torch.ones(2), torch.ones(2)
    q.grad = torch.ones(2)
    metrics = LaProp([("p", p), ("q", q)], PLAIN).step()
    assert p.tolist() == [1, 1] and q.tolist() == pytest.approx([0.9, 0.9])
    assert metrics["grad_norm"].item() == pytest.approx(math.sqrt(2))
    assert metrics["update_rms"].item() == pytest.approx(0.1 / math.sqrt(2))


def test_state_restores_exactly() -> None:
    start, grads = torch.randn(5, generator=torch.Generator().manual_seed(0)), torch.randn(6, 5)
    config = OptimizerConfig(lr=0.1, warmup=3)

    def run(optimizer: LaProp, p: torch.Tensor, part: torch.Tensor) -> None:
        for g in part:
            p.grad = g
            optimizer.step()

    p = start.clone()
    run(LaProp([("p", p)], config), p, grads)
    q = start.clone()
    first = LaProp([("p", q)], config)
    run(first, q, grads[:3])
    second = LaProp([("p", q)], config)
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    run(second, q, grads[3:])
    assert torch.equal(p, q)


def test_errors() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        LaProp([], PLAIN)
    with pytest.raises(ValueError, match=r"missing \['mu.p', 'nu.p'\], unexpected \['nu.q'\]"):
        LaProp([("p", torch.zeros(1))], PLAIN).load_state_dict({"count": torch.zeros(()), "nu.q": torch.zeros(1)})
    with pytest.raises(ValueError, match="anneal=5 must exceed optimizer.warmup=10"):
        OptimizerConfig(schedule="linear", warmup=10, anneal=5)
    with pytest.raises(ValueError, match="'exponential' is not one of"):
        OptimizerConfig(schedule="exponential")
