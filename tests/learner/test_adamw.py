"""AdamW: which parameters decay, and its state as flat tensors."""

import pytest
import torch

from learner.adamw import AdamW


def parameters(seed: int = 0) -> dict[str, torch.nn.Parameter]:
    rng = torch.Generator().manual_seed(seed)
    shapes = {"weight": (3, 2), "bias": (3,), "norm.weight": (3,), "mask_token": (1, 1, 3)}
    return {name: torch.nn.Parameter(torch.randn(shape, generator=rng)) for name, shape in shapes.items()}


def update(named: dict[str, torch.nn.Parameter], optimizer: AdamW, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for p in named.values():
        p.grad = torch.randn(p.shape, generator=rng)
    optimizer.step(lr=0.1, weight_decay=0.5)


def test_matrices_and_tokens_decay_biases_and_gains_do_not() -> None:
    named = parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = AdamW(named.items())
    for p in named.values():
        p.grad = torch.zeros_like(p)
    optimizer.step(lr=0.1, weight_decay=0.5)
    for name, p in named.items():
        factor = 0.95 if name in ("weight", "mask_token") else 1.0
        assert torch.allclose(p, factor * before[name]), name


def test_state_continues_exactly() -> None:
    named = parameters()
    optimizer = AdamW(named.items())
    update(named, optimizer, 1)
    copies = {name: torch.nn.Parameter(p.detach().clone()) for name, p in named.items()}
    again = AdamW(copies.items())
    again.load_state_dict(optimizer.state_dict())
    assert optimizer.state_dict().keys() == again.state_dict().keys()
    assert len(optimizer.state_dict()) == 12
    update(named, optimizer, 2)
    update(copies, again, 2)
    assert all(torch.equal(named[name], copies[name]) for name in named)


def test_what_does_not_fit_is_named() -> None:
    optimizer = AdamW(parameters().items())
    with pytest.raises(ValueError, match=r"exp_avg\.other"):
        optimizer.load_state_dict({"exp_avg.other": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"exp_avg\.weight.*\(2,\).*\(3, 2\)"):
        optimizer.load_state_dict({"exp_avg.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="no parameters"):
        AdamW([])
