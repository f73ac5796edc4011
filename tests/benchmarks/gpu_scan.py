"""The scan of `tests.benchmarks.gpu`: operator by operator and as two kernels, launched and replayed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from learner.batch import DeviceBatch
from learner.dreamer_step import DreamerStep
from learner.recording import CudaGraph
from tests.benchmarks.machine import median, seconds
from world_models.dreamer.config import RSSMConfig

MEETING, FILL, CHUNK, AROUND = 1.3, 0.7, 0.18, 250.0
"""Microseconds, estimates of what an H100 needs: until 128 programs have met; until the first values of a product have
come from the second cache; for 128 more of them; and for about 150 replayed kernels before and behind the steps."""
SECOND_CACHE, BANDWIDTH = 50e6, 3.35e6
"""Bytes that stay in it, and bytes per microsecond of those that do not."""
RUNS = 5
"""In which the kernels must find the same."""


def predicted(c: RSSMConfig, time: int, width: int) -> float:
    """Milliseconds of the fused scan of at most 16 rows, weights of `width` bytes: in each phase the programs meet, and
    one after the other read what they multiply with; what does not stay in the second cache comes on top."""
    deter, hidden, latents, block = c.deter, c.hidden, c.stoch * c.classes, c.deter // c.blocks
    more = [block] * (c.dynamics_layers - 1) + [hidden] * (c.posterior_layers - 1)
    forward = [latents, block, hidden, hidden, block, deter, hidden, *more]
    backward = [latents, hidden, 3 * block, deter, block, hidden, *more]
    loops = [*forward, *backward]
    phases = 2 * (c.dynamics_layers + c.posterior_layers + 3)
    dense = hidden * (2 * deter + 2 * latents + 2 * deter) + block * deter * (c.dynamics_layers + 3)
    bytes_ = width * dense if width * dense > SECOND_CACHE else 0
    step = phases * MEETING + sum(FILL + CHUNK * -(-k // 128) for k in loops) + 2 * bytes_ / BANDWIDTH
    return (time * step + AROUND) / 1e3


class Scan:
    """Filtering one batch with the RSSM of `step`, forward and backward."""

    def __init__(self, step: DreamerStep, batch: DeviceBatch):
        self.step, self.batch, self.rssm = step, batch, step.agent.rssm
        rows, time = batch.steps["is_first"].shape
        self.draws = step.draws(rows, time).posterior
        generator = torch.Generator(step.device).manual_seed(0)
        width = step.agent.encoder.width
        self.tokens = torch.randn(rows, time, width, device=step.device, generator=generator).requires_grad_()
        self.action = torch.randn(rows, time, 6, device=step.device, generator=generator)

    def run(self) -> list[Tensor]:
        """States, logits and indices; gradients are in the parameters then."""
        for p in self.rssm.parameters():
            p.grad = None
        with self.step._autocast():
            reset = self.batch.steps["is_first"]
            found = self.rssm.observe(self.batch.start, self.tokens, self.action, reset, self.draws)
            total = found.deter.float().square().mean() + found.posterior_logits.square().mean()
        total.backward()
        return [found.deter.detach(), found.posterior_logits.detach(), found.indices]

    def milliseconds(self, repeats: int, replay: bool) -> float:
        """Median, after calls in which kernels are made; `replay` records it as a CUDA graph first."""
        self.run()
        again: Callable[[], object] = self.run
        if replay:
            graph = CudaGraph()
            graph.record(self.run)
            again = graph.replay
        return 1e3 * median([seconds(again, self.step.device)[1] for _ in range(repeats)])

    def results(self, walk: Any, draws: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What `run` finds with another walk and draws, and the gradients."""
        held = self.rssm.walk, self.draws
        self.rssm.walk, self.draws, self.tokens.grad = walk, draws, None
        found = self.run()
        self.rssm.walk, self.draws = held
        grads = [p.grad for p in (*self.rssm.parameters(), self.tokens) if p.grad is not None]
        return found, [grad.clone() for grad in grads]


def fused_parity(scan: Scan, difference: Callable[[Sequence[Tensor], Sequence[Tensor]], float]) -> dict[str, float]:
    """The kernels beside the plain scan: the share of latents that they pick otherwise, then states and gradients from
    the same latents. And whether meetings hold: how far one launch is from one for every phase, which needs none, and
    the share of runs that find the same to the bit, as nothing in the kernels depends on who comes first."""
    from world_models.dreamer.kernels.fused import Fused

    picked = scan.results(None, scan.draws)[0][2]
    other = float((scan.results(Fused(), scan.draws)[0][2] != picked).float().mean())
    results = [scan.results(walk, picked) for walk in (Fused(), None, Fused(apart=True))]
    (found, grads), (plain, plain_grads), (apart, apart_grads) = results
    again = [scan.results(Fused(), picked) for _ in range(RUNS)]
    same = [all(map(torch.equal, [*found, *grads], [*states, *more])) for states, more in again]
    return {
        "states": difference(found[:2], plain[:2]), "gradients": difference(grads, plain_grads),
        "other_latents": other, "off_apart": difference([*found[:2], *grads], [*apart[:2], *apart_grads]),
        "same_again": sum(same) / RUNS,
    }  # fmt: skip


def scan_row(
    build: Callable[..., DreamerStep], batch: DeviceBatch, repeats: int,
    difference: Callable[[Sequence[Tensor], Sequence[Tensor]], float],
) -> dict[str, float]:  # fmt: skip
    """Milliseconds of the scan with posterior, forward and backward: `scan_ms` replayed on CUDA; on CUDA also launched,
    and both for the kernels, whose results are compared in float32 and bfloat16. `build` makes an update."""
    plain = Scan(build(cuda_graph=False), batch)
    device = plain.step.device
    if device.type != "cuda":
        return {"scan_ms": plain.milliseconds(repeats, False)}
    row: dict[str, float] = {}
    for precision, name in (("float32", "f32"), ("bfloat16", "bf16")):
        one = Scan(build(cuda_graph=False, precision=precision, tf32=False), batch)
        row |= {f"fused_{name}_{key}": value for key, value in fused_parity(one, difference).items()}
    plain = Scan(build(cuda_graph=False), batch)  # the latest made sets TF32
    fused = Scan(build(cuda_graph=False, fused_scan=True), batch)
    width = 2 if fused.step.autocast_dtype else 4
    for name, one in (("scan", plain), ("fused_scan", fused)):
        row |= {f"{name}_launched_ms": one.milliseconds(repeats, False), f"{name}_ms": one.milliseconds(repeats, True)}
    return row | {"fused_scan_predicted_ms": predicted(fused.rssm.config, plain.draws.shape[1], width)}
