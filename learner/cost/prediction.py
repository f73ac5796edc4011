"""The time of an update, predicted from what it does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from learner.config import LearnerConfig
from learner.cost.counting import Counting, Kind, Layout, Work, total
from learner.cost.cpu import OperatorTimes, clocked, far_bandwidth, matmul_rate
from learner.cost.gpus import GPU
from learner.cost.rehearsal import fake_batch
from learner.dreamer_step import DreamerStep
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig, resize
from world_models.space import Space, Spaces


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
            f"measured on this CPU, {threads} thread{'s' * (threads > 1)}: {len(times.measured)} operators in their own "
            f"shapes, alone and in the caches ({times.share:.0%} of the operators' time; the rest like those)",
            f"memory beyond the caches: {bandwidth / 1e9:.0f} GB/s; each operator: {overhead * 1e6:.1f} us more than it "
            "computes, as in an update of a tiny agent",
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
            f"{gpu.tf32 / 1e12:.0f} in TF32, {gpu.float32 / 1e12:.0f} in float32; memory {gpu.bandwidth / 1e12:.2f} TB/s",
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


def call_overhead(model: DreamerConfig, action: Spaces, config: LearnerConfig) -> float:
    """Seconds of a call of an operator whatever it computes: those of an update, by the call, of an agent with the same
    parts in which every width and length is tiny."""
    least = {"deter": 8 * model.rssm.blocks, "hidden": 8, "classes": 4, "depth": 8, "units": 8, "stoch": 4}
    tiny = replace(resize(model, **least), imagination_length=2)
    agent = Dreamer({"vector": Space(dtype=torch.zeros(0).numpy().dtype, shape=(1,))}, action, tiny)
    step = DreamerStep(agent, replace(config, device="cpu", batch_size=2, batch_length=3, precision="float32"))
    batch = fake_batch(agent, replace(config, batch_size=2, batch_length=3))
    calls = total(Counting().count(lambda: step(batch)).values()).calls
    return clocked(lambda: step(batch), 8) / calls
