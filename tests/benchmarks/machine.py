"""What a figure was measured on: versions, the core's speed, memory."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

REFERENCE = 90.0
"""GFLOP/s of the core that `at_reference` scales to: one AVX-512 core in a float32 matrix product."""


def versions() -> dict[str, str]:
    """Of what decides the speed."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"


def instructions() -> str:
    """The widest vector instructions that torch uses here, and the CPU's for bfloat16 products, if it has any."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    narrow = [name for flag, name in (("avx512_bf16", "AVX512-BF16"), ("amx_bf16", "AMX-BF16")) if flag in flags]
    return " + ".join([torch.backends.cpu.get_cpu_capability(), *narrow])


def peak_memory(device: torch.device) -> float:
    """GB, 1e9 bytes: of the process on a CPU, of torch's allocator on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def seconds(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """CPU seconds of the process, and wall seconds until the device is done (by CUDA events on CUDA)."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        busy = time.process_time()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        return time.process_time() - busy, start.elapsed_time(end) / 1e3
    busy, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - busy, time.perf_counter() - wall


def matmul_rate(device: torch.device, size: int = 2048, repeats: int = 3) -> list[float]:
    """GFLOP/s of float32 products `[size size]`: per CPU second on a CPU, per second on CUDA."""
    a, b, out = (torch.ones(size, size, device=device) for _ in range(3))
    seconds(lambda: torch.mm(a, b, out=out), device)
    taken = [seconds(lambda: torch.mm(a, b, out=out), device)[device.type == "cuda"] for _ in range(repeats)]
    return [2 * size**3 / s / 1e9 for s in taken]


def at_reference(cpu_seconds: float, rate: float) -> float:
    """CPU seconds scaled to a core of the reference rate: what makes busy and different machines comparable."""
    return cpu_seconds * rate / REFERENCE


def median(values: list[float]) -> float:
    return statistics.median(values)
