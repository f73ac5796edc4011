"""Where the time of an update goes, measured on real batches, and how near the hardware's limits it comes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from deploy.reports.cost.text import columns
from learner.cost import cpu, gpus
from learner.cost.counting import Counting, Work, total
from learner.cost.cpu import cache_bytes
from learner.cost.stopwatch import Stopwatch
from learner.learner import Learner

WARM = 2
"""Updates before those that are timed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What this hardware reaches at best, as just measured."""

    flops: float
    """Floating-point operations a second, in a product of large matrices of the learner's precision."""
    bandwidth: float
    """Bytes a second to and from memory."""

    def seconds(self, flops: float, nbytes: float) -> float:
        """The least for this work: arithmetic and memory go on at the same time."""
        return max(flops / self.flops, nbytes / self.bandwidth)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of an update."""

    seconds: float
    flops: int
    nbytes: int
    """Of all tensors that its operators read and write."""
    memory_bytes: int
    """Those that a cache cannot have held: on a CPU; on a GPU all."""
    operators: int
    limit: float
    """The least seconds for this work on this hardware, over those taken."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Of the updates of one learner."""

    device: str
    threads: int
    precision: str
    clock: str
    updates: int
    limits: Limits
    stages: dict[str, Stage]
    update: Stage
    launches: int | None
    """Kernels launched by one update; None on a CPU, where each operator is a call."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def profile(learner: Learner, updates: int) -> Profile:
    """Run `updates` updates of `learner`, beside a few that warm it up or are counted."""
    device, on_gpu = learner.step.device, learner.step.device.type == "cuda"
    for _ in range(WARM):
        learner.update()
    watch = Stopwatch(device)
    timed = [watch.time(learner.update) for _ in range(updates)]
    counted = Counting(cache_bytes()).count(learner.update)
    limits = _limits(device, learner.step.autocast_dtype or torch.float32)

    def stage(seconds: float, work: Work) -> Stage:
        memory = work.nbytes if on_gpu else work.far_bytes
        return Stage(
            seconds=seconds, flops=work.flops, nbytes=work.nbytes, memory_bytes=memory, operators=work.calls,
            limit=limits.seconds(work.flops, memory) / max(seconds, 1e-9),
        )  # fmt: skip

    names = list(dict.fromkeys(name for one in timed for name in one))
    one_thread = not on_gpu and torch.get_num_threads() == 1
    return Profile(
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        threads=torch.get_num_threads(),
        precision="bfloat16" if learner.step.autocast_dtype else "float32",
        clock="CUDA events" if on_gpu else "CPU time" if one_thread else "time",
        updates=updates,
        limits=limits,
        stages={name: stage(median(one.get(name, 0.0) for one in timed), counted.get(name, Work())) for name in names},
        update=stage(median(sum(one.values()) for one in timed), total(counted.values())),
        launches=_launches(learner.update) if on_gpu else None,
    )


def _limits(device: torch.device, dtype: torch.dtype) -> Limits:
    if device.type == "cuda":
        return Limits(flops=gpus.matmul_rate(device, dtype), bandwidth=gpus.memory_rate(device))
    return Limits(flops=cpu.matmul_rate(dtype), bandwidth=cpu.memory_rate())


def _launches(run: Callable[[], object]) -> int:
    """Kernels that `run` launches, one by one or as a graph."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    ) as profiler:
        run()
        torch.cuda.synchronize()
    return sum(one.count for one in profiler.key_averages() if "Launch" in one.key and one.key.startswith("cu"))


def lines(found: Profile) -> list[str]:
    """The profile as text."""
    whole = found.update

    def row(name: str, one: Stage) -> tuple[str, ...]:
        rate = one.flops / max(one.seconds, 1e-9) / 1e9
        return (
            name, f"{one.seconds * 1e3:,.2f}", f"{one.seconds / max(whole.seconds, 1e-9):.0%}",
            f"{one.flops / 1e9:,.2f}", f"{rate:,.0f}", f"{one.nbytes / 1e9:,.3f}", f"{one.memory_bytes / 1e9:,.3f}",
            f"{one.operators:,}", f"{one.limit:.0%}",
        )  # fmt: skip

    heading = ("stage", "ms", "", "GFLOP", "GFLOP/s", "GB", "GB memory", "operators", "of limit")
    return [
        f"Median of {found.updates} updates on {found.device}, {found.precision}, "
        f"{found.threads} thread{'s' * (found.threads > 1)}, by {found.clock}: {1 / whole.seconds:,.3g} updates/s",
        *columns([heading, *(row(name, one) for name, one in found.stages.items()), row("update", whole)]),
        f"Limit: {found.limits.flops / 1e9:,.0f} GFLOP/s in a large product, {found.limits.bandwidth / 1e9:,.0f} GB/s "
        "of memory, both measured here; a stage at 100 % takes no longer than its arithmetic or its memory needs.",
        *([f"{found.launches:,} kernel launches an update"] if found.launches is not None else []),
    ]
