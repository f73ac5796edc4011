"""The time of an update, predicted from what it does."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from learner.cost.counting import Kind, Layout, Work, total
from learner.cost.cpu import OperatorTimes, far_bandwidth, matmul_rate
from learner.cost.gpus import GPU
from replay.counted import counted


class Prediction(NamedTuple):
    """Seconds of each stage, and what they rest on."""

    stages: dict[str, float]
    assumptions: list[str]

    @property
    def seconds(self) -> float:
        """Of one update."""
        return sum(self.stages.values())


def predict_cpu(stages: Mapping[str, Work], overhead: float) -> Prediction:
    """On this CPU: each operator as it is measured alone, in the caches; beside it the bytes that come from beyond
    them, at the rate of memory; and `overhead`, the seconds that an operator takes whatever it computes."""
    times, bandwidth, peak = OperatorTimes(total(stages.values())), far_bandwidth(), matmul_rate()
    found = {
        name: work.calls * overhead
        + work.far_bytes / bandwidth
        + sum(times.seconds(kind) * count for kind, count in work.kinds.items())
        for name, work in stages.items()
    }
    threads = torch.get_num_threads()
    return Prediction(
        found,
        [
            f"measured on this CPU, {counted(threads, 'thread')}: {len(times.measured)} operators in their own shapes, "
            f"alone and in the caches ({times.share:.0%} of the operators' time; the rest like those)",
            f"memory beyond the caches: {bandwidth / 1e9:.0f} GB/s; each operator: {overhead * 1e6:.1f} us more than "
            "it computes, as in an update of a tiny agent",
            f"large products: {peak / 1e9:.0f} GFLOP/s, for comparison",
        ],
    )


def predict_gpu(stages: Mapping[str, Work], gpu: GPU, overhead: float, tf32: bool) -> Prediction:
    """On a GPU that reaches its published rates: each operator takes the longer of its arithmetic and its bytes, each
    stage the longer of its operators and the time in which this machine's CPU starts them."""
    found, started = {}, 0.0
    for name, work in stages.items():
        busy = sum(count * _kernel(kind, gpu, tf32) for kind, count in work.kinds.items())
        found[name] = max(busy, work.calls * overhead)
        started += work.calls * overhead
    whole = total(stages.values())
    busy = sum(count * _kernel(kind, gpu, tf32) for kind, count in whole.kinds.items())
    return Prediction(
        found,
        [
            f"published rates, without loss: products {gpu.bfloat16 / 1e12:.0f} TFLOP/s in bfloat16, "
            f"{gpu.tf32 / 1e12:.0f} in TF32, {gpu.float32 / 1e12:.0f} in float32; memory "
            f"{gpu.bandwidth / 1e12:.2f} TB/s",
            f"kernels alone would take {busy:.4f} s; starting {whole.calls:,} operators one by one takes "
            f"{started:.3f} s at the {overhead * 1e6:.1f} us measured on this machine's CPU",
            "small kernels reach less than the published rates: take this for the most that can be had",
        ],
    )


def _kernel(kind: Kind, gpu: GPU, tf32: bool) -> float:
    """Seconds of a call."""
    dtypes = [one.dtype for one in kind.arguments[0] if isinstance(one, Layout)]
    half = torch.bfloat16 in dtypes or torch.float16 in dtypes
    rate = gpu.bfloat16 if half else gpu.tf32 if tf32 else gpu.float32
    return max(kind.flops / rate, kind.nbytes / gpu.bandwidth)
