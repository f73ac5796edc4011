"""optimizer.npz: LaProp with AGC over twenty updates, under several configurations."""

import torch
from torch import Tensor

from learner.optimizer import LaProp
from tests.parity.check import Check
from tests.parity.official_config import optimizer_config


def check_optimizer(check: Check) -> None:
    """Every variant that has a configuration, from the same start and gradients."""
    start, grads = check.tensors("init/"), check.tensors("grad/")
    for variant in check.groups():
        if f"{variant}/config" in check.arrays:
            check_variant(check, variant, start, grads)


def check_variant(check: Check, at: str, start: dict[str, Tensor], grads: dict[str, Tensor]) -> None:
    params = {name: value.clone() for name, value in start.items()}
    config = optimizer_config(check.json(f"{at}/config"))
    optimizer = LaProp(params.items(), config, lambda name: name.endswith("/kernel"))
    rows: dict[str, dict[str, list[Tensor]]] = {
        kind: {name: [] for name in params} for kind in ("params", "update", "agc_grad")
    }
    for step in range(len(next(iter(grads.values())))):
        for name, p in params.items():
            p.grad = grads[name][step].clone()
        clipped = optimizer.clip([p.grad for p in params.values() if p.grad is not None])
        # The increments from a copy of the state: `step` advances the moments itself.
        twin = LaProp([(name, p.clone()) for name, p in params.items()], config, lambda name: name.endswith("/kernel"))
        twin.load_state_dict(optimizer.state_dict())
        updates = twin.increments(clipped)
        optimizer.step()
        for name, p, update, grad in zip(params, params.values(), updates, clipped, strict=True):
            rows["params"][name].append(p.clone())
            rows["update"][name].append(update)
            rows["agc_grad"][name].append(grad)
    for name in params:
        values = torch.stack(rows["params"][name])
        # The official bias correction is a float32 `1 - beta2^t`, at first off by 1e-5: an error in every step so far.
        steps = torch.arange(1, len(values) + 1).view(-1, *[1] * (values.ndim - 1))
        scale = values.abs().div(8).clamp_min(1) + 10 * config.lr * steps
        check.compare(f"{at}/params/{name}", values, "parameters", scale=scale)
        check.compare(f"{at}/update/{name}", torch.stack(rows["update"][name]))
        check.compare(f"{at}/agc_grad/{name}", torch.stack(rows["agc_grad"][name]), "gradient")
    for name, nu, mu in zip(params, optimizer.nu, optimizer.mu, strict=True):
        check.compare(f"{at}/final_nu/{name}", nu, "gradient")
        check.compare(f"{at}/final_mu/{name}", mu, "gradient")
