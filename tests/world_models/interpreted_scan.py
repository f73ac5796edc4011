"""`python -m tests.world_models.interpreted_scan`: the scan's kernels beside the plain scan, on a CPU.

Prints one JSON object: for each case, how far the kernels' results are from the plain ones, relative to their size.
Triton decides whether it interprets when it is imported, thus a process of its own.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor
from triton.runtime.interpreter import interpreter_builder

from world_models.distributions import one_hot
from world_models.dreamer.config import RSSMConfig
from world_models.dreamer.kernels import fused
from world_models.dreamer.kernels.fused import Fused, Tiles
from world_models.dreamer.rssm import RSSM, State

TOKENS, ACTION = 5, 2
SMALL = RSSMConfig(deter=24, hidden=10, stoch=3, classes=5, blocks=2, unimix=0.1)
"""No size is a power of two."""
MANY = RSSMConfig(deter=40, hidden=18, stoch=5, classes=6, blocks=2, dynamics_layers=2)
ONE = Tiles(rows=16, deter=16, hidden=16, inner=16, programs=1)
CASES: dict[str, tuple[RSSMConfig, int, int, Tiles, dict[str, Any]]] = {
    "one row, one step": (SMALL, 1, 1, ONE, {}),
    "five rows": (SMALL, 5, 7, ONE, {}),
    "sixteen rows, without unimix": (replace(SMALL, unimix=0.0), 16, 7, ONE, {}),
    "two tiles of rows": (SMALL, 18, 2, ONE, {}),
    "two layers": (replace(SMALL, dynamics_layers=2, posterior_layers=2), 5, 4, ONE, {}),
    "three layers of one block": (replace(SMALL, blocks=1, dynamics_layers=3, posterior_layers=3), 3, 2, ONE, {}),
    "forced": (SMALL, 5, 3, ONE, {"forced": True}),
    "powers of two, several tiles and chunks": (
        RSSMConfig(deter=64, hidden=32, stoch=8, classes=4, blocks=2), 4, 3, ONE, {},
    ),
    "three programs, phase by phase": (MANY, 18, 2, replace(ONE, programs=3), {"apart": True}),
    "three programs that meet": (MANY, 18, 2, replace(ONE, programs=3), {"at_once": True}),
    "bfloat16": (SMALL, 5, 7, ONE, {"dtype": torch.bfloat16}),
    "bfloat16, two layers": (
        replace(SMALL, dynamics_layers=2, posterior_layers=2), 5, 3, ONE, {"dtype": torch.bfloat16},
    ),
}  # fmt: skip


class AtOnce:
    """A kernel whose programs are processes, on memory that they share: they run at the same time and really meet."""

    def __init__(self, kernel: Any):
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        def launch(*given: Any, **constants: Any) -> None:
            shared = [x.clone().share_memory_() if isinstance(x, Tensor) else x for x in given]
            children = []
            for program in range(grid[0]):
                if not (child := os.fork()):
                    signal.alarm(60)  # ends it if the others never come
                    self._run(program, grid[1], shared, constants)
                children.append(child)
            ended = [os.waitpid(child, 0)[1] for child in children]
            assert not any(ended), ended
            for x, found in zip(given, shared, strict=True):
                if isinstance(x, Tensor):
                    x.data.copy_(found)  # no write that autograd would see, as a kernel makes none

        return launch

    def _run(self, program: int, parts: int, given: list[Any], constants: dict[str, Any]) -> None:
        def at(x: int, y: int, z: int) -> None:
            interpreter_builder.grid_idx = (program, y, z)

        interpreter_builder.set_grid_idx = at
        try:
            self.kernel[1, parts](*given, **constants)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)


def distance(mine: Tensor, other: Tensor) -> float:
    return float(((mine - other).norm() / other.norm().clamp_min(1e-6)).detach())


def compared(config: RSSMConfig, rows: int, time: int, tiles: Tiles, more: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    rssm = RSSM(config, ACTION, TOKENS)
    for parameter in rssm.parameters():  # biases and gains too
        torch.nn.init.normal_(parameter, 0.1, 0.3)
    stoch = one_hot(torch.randint(config.classes, (rows, config.stoch)), config.classes)
    state = State(torch.rand(rows, config.deter) - 0.5, stoch)
    reset = torch.rand(rows, time) < 0.2
    shape, forced = (rows, time, config.stoch), more.get("forced", False)
    draw = torch.randint(config.classes, shape) if forced else torch.rand(shape)
    given = [torch.randn(rows, time, TOKENS), 2 * torch.randn(rows, time, ACTION)]
    weights: list[Tensor] = []
    results = []
    if more.get("at_once"):
        fused.forward_kernel, fused.backward_kernel = AtOnce(fused.forward_kernel), AtOnce(fused.backward_kernel)
    for walk in (None, Fused(tiles, more.get("apart", False))):
        rssm.walk = walk
        needed = [x.detach().requires_grad_() for x in (*state, *given)]
        with torch.autocast("cpu", more.get("dtype"), enabled="dtype" in more):
            found = rssm.observe(State(*needed[:2]), needed[2], needed[3], reset, draw)
        parts = [found.deter, found.stoch, found.posterior_logits]
        weights = weights or [torch.randn_like(x) for x in parts]
        loss = torch.stack([(x * weight).sum() for x, weight in zip(parts, weights, strict=True)]).sum()
        names = [name for name, _ in rssm.named_parameters()]
        grads = torch.autograd.grad(loss, [*needed, *rssm.parameters()], allow_unused=True)
        named = dict(zip(["deter", "stoch", "tokens", "action", *names], grads, strict=True))
        results.append((parts, {name: grad for name, grad in named.items() if grad is not None}, found.indices))
    if more.get("at_once"):
        fused.forward_kernel, fused.backward_kernel = fused.forward_kernel.kernel, fused.backward_kernel.kernel
    (plain, plain_grads, plain_indices), (ours, our_grads, our_indices) = results
    assert plain_grads.keys() == our_grads.keys()
    apart = {name: distance(our_grads[name], grad) for name, grad in plain_grads.items()}
    return {
        "states": max(distance(a, b) for a, b in zip(ours, plain, strict=True)),
        "gradients": max(apart.values()), "furthest": max(apart, key=lambda name: apart[name]),
        "compared": len(apart), "same_indices": bool(torch.equal(plain_indices, our_indices)),
    }  # fmt: skip


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(CASES)
    print(json.dumps({name: compared(*CASES[name]) for name in wanted}))
