"""LaProp with adaptive gradient clipping, the one optimiser of all DreamerV3 modules.

LaProp: Ziyin et al. 2020 (RMS scaling before momentum). AGC: Brock et al. 2021, here on the whole-tensor norm.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from learner.config import OptimizerConfig


def learning_rate(c: OptimizerConfig, step: Tensor) -> Tensor:
    """Learning rate of the update with number `step` (from 0), as a tensor operation."""
    after = (step - c.warmup).clamp_min(0)
    progress = (after / max(1, c.anneal - c.warmup)).clamp_max(1)
    if c.schedule == "linear":
        rate = c.lr * (1 - 0.9 * progress)
    elif c.schedule == "cosine":
        # The official call passes 0.1 * lr where a fraction is expected, so the floor is practically zero.
        floor = 0.1 * c.lr
        rate = c.lr * (floor + (1 - floor) * 0.5 * (1 + torch.cos(math.pi * progress)))
    else:
        rate = torch.full_like(progress, c.lr)
    if not c.warmup:
        return rate
    return torch.where(step < c.warmup, c.lr * step / c.warmup, rate)


class LaProp:
    """The official chain per tensor: AGC, RMS scaling, momentum (both bias-corrected), weight decay, learning rate.

    All state, the step number included, lives in tensors on the parameters' device and is updated in place by
    multi-tensor operations, so that a CUDA graph can capture `step`. `decayed(name)` says whether weight decay applies.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Tensor]],
        config: OptimizerConfig,
        decayed: Callable[[str], bool] = lambda name: name.endswith(".weight"),
    ):
        self.config = config
        named = list(parameters)
        if not named:
            raise ValueError("LaProp got no parameters; pass the model's trainable named_parameters().")
        self.names = [name for name, _ in named]
        self.params = [p for _, p in named]
        self.decay = [p for name, p in named if decayed(name)]
        self.nu = [torch.zeros_like(p) for p in self.params]
        self.mu = [torch.zeros_like(p) for p in self.params]
        self.count = torch.zeros((), dtype=torch.float64, device=self.params[0].device)

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def clip(self, grads: list[Tensor]) -> list[Tensor]:
        """AGC: `g / max(1, |g| / (agc max(pmin, |p|)))` with norms over the whole tensor."""
        if not self.config.agc:
            return grads
        limits = torch._foreach_norm(self.params)
        torch._foreach_clamp_min_(limits, self.config.pmin)
        torch._foreach_mul_(limits, self.config.agc)
        factors = torch._foreach_norm(grads)
        torch._foreach_div_(factors, limits)
        torch._foreach_clamp_min_(factors, 1.0)
        return list(torch._foreach_div(grads, factors))

    @torch.no_grad()
    def increments(self, grads: list[Tensor]) -> list[Tensor]:
        """Advance the moments by clipped gradients; returns the increments to add to the parameters."""
        c = self.config
        self.count += 1
        torch._foreach_mul_(self.nu, c.beta2)
        torch._foreach_addcmul_(self.nu, grads, grads, 1 - c.beta2)
        debias2 = (1 - c.beta2**self.count).float()
        scale = torch._foreach_div(self.nu, debias2)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, c.eps)
        scaled = torch._foreach_div(grads, scale)
        torch._foreach_mul_(self.mu, c.beta1)
        torch._foreach_add_(self.mu, scaled, alpha=1 - c.beta1)
        debias1 = (1 - c.beta1**self.count).float()
        updates = list(torch._foreach_div(self.mu, debias1))
        if c.weight_decay:
            decayed = {id(p) for p in self.decay}
            for update, p in zip(updates, self.params, strict=True):
                if id(p) in decayed:
                    update.add_(p, alpha=c.weight_decay)
        torch._foreach_mul_(updates, -learning_rate(c, self.count - 1).float())
        return updates

    @torch.no_grad()
    def step(self) -> dict[str, Tensor]:
        """Update the parameters from their gradients; returns norms as tensors, no host synchronisation."""
        raw = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.params]
        updates = self.increments(self.clip(raw))
        torch._foreach_add_(self.params, updates)
        return {
            "grad_norm": _norm(raw),
            "grad_rms": _rms(raw),
            "update_rms": _rms(updates),
            "param_rms": _rms(self.params),
            "learning_rate": learning_rate(self.config, self.count - 1).float(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: `nu.<name>`, `mu.<name>`, `count`."""
        state: dict[str, Any] = {"count": self.count}
        for name, nu, mu in zip(self.names, self.nu, self.mu, strict=True):
            state |= {f"nu.{name}": nu, f"mu.{name}": mu}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        own = self.state_dict()
        if own.keys() != state.keys():
            raise ValueError(
                f"Optimiser state does not fit: missing {sorted(own.keys() - state.keys())}, "
                f"unexpected {sorted(state.keys() - own.keys())}; load it into the model it was saved from."
            )
        with torch.no_grad():
            for key, tensor in own.items():
                tensor.copy_(state[key])


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def _rms(tensors: list[Tensor]) -> Tensor:
    return _norm(tensors) / math.sqrt(sum(t.numel() for t in tensors))
