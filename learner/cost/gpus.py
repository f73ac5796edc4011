"""GPUs by name: published peak rates, without sparsity, and memory.

Sources: NVIDIA's data sheets and architecture white papers of each; tensor cores with float32 accumulation.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass(frozen=True, kw_only=True)
class GPU:
    """Rates in operations a second and bytes a second, memory in bytes."""

    bfloat16: float
    tf32: float
    float32: float
    bandwidth: float
    memory: float


def _gpu(bfloat16: float, tf32: float, float32: float, bandwidth: float, memory: float) -> GPU:
    """From TFLOP/s, TB/s and GB."""
    return GPU(
        bfloat16=bfloat16 * 1e12, tf32=tf32 * 1e12, float32=float32 * 1e12, bandwidth=bandwidth * 1e12,
        memory=memory * 1e9,
    )  # fmt: skip


GPUS = {
    "rtx3090": _gpu(71, 35.6, 35.6, 0.936, 24),
    "rtx4090": _gpu(165.2, 82.6, 82.6, 1.008, 24),
    "a10": _gpu(125, 62.5, 31.2, 0.600, 24),
    "l4": _gpu(121, 60, 30.3, 0.300, 24),
    "l40s": _gpu(362, 183, 91.6, 0.864, 48),
    "a100": _gpu(312, 156, 19.5, 2.039, 80),
    "h100": _gpu(989.5, 494.7, 67, 3.35, 80),
    "h200": _gpu(989.5, 494.7, 67, 4.8, 141),
    "b200": _gpu(2250, 1125, 75, 7.7, 180),
}
"""SXM modules where there are several forms; of the A100 that with 80 GB."""


def named(model: str) -> str:
    """The name here of a GPU that calls itself `model`, such as NVIDIA H200; empty if it is not listed."""
    words = re.split(r"[\s-]+", model.lower())
    return next((word for word in (*words, *map("".join, pairwise(words))) if word in GPUS), "")


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second of this GPU in a product of large matrices: the most that it reaches."""
    a, b, out = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(3))
    return 2 * size**3 / _clocked(lambda: torch.mm(a, b, out=out), device)


def memory_rate(device: torch.device, count: int = 1 << 28) -> float:
    """Bytes a second that move as `count` bytes are copied in this GPU's memory."""
    a, b = (torch.ones(count, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * count / _clocked(lambda: a.copy_(b), device)


def _clocked(run: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The least seconds of `repeats` runs, by events, after one that is not counted."""
    run()
    least = math.inf
    for _ in range(repeats):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        run()
        ended.record()
        torch.cuda.synchronize(device)
        least = min(least, begun.elapsed_time(ended) / 1e3)
    return least
