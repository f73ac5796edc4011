"""`python -m tests.benchmarks.learner`: time and memory of one full DreamerV3 update on random batches.

World model, imagination, actor-critic and optimiser through the very class that `nexus train` calls, batches as replay
hands them over. Needs torch only: no Ray, no environments.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from learner.batch import to_device
from learner.cost.counting import Counting, total
from learner.dreamer_step import DreamerStep
from learner.freed_memory import keep_freed_memory
from learner.sequence import CONTEXT
from tests.benchmarks.learner_pair import compare
from tests.benchmarks.machine import (
    at_reference,
    describe,
    instructions,
    matmul_rate,
    median,
    peak_memory,
    seconds,
    versions,
)
from world_models.dreamer.agent import Dreamer
from world_models.space import Space, Spaces

IMAGE = Space(dtype=np.dtype("uint8"), shape=(64, 64, 3))
ACTION = {"action": Space(dtype=np.dtype("float32"), shape=(6,), low=-1, high=1)}


def spaces(config: RunConfig) -> Spaces:
    """The observations of the control suite's walker: 24 floats, pixels, or both."""
    vector = {"vector": Space(dtype=np.dtype("float32"), shape=(24,))}
    kinds = {"vectors": vector, "pixels": {"image": IMAGE}, "both": vector | {"image": IMAGE}}
    return kinds[config.environment.observations]


def random_batch(config: RunConfig, observation: Spaces, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Sequences `[B 1+T ...]` and first-column latents as replay stores them."""
    rows, rssm = config.learner.batch_size, config.model.rssm
    lead = (rows, CONTEXT + config.learner.batch_length)
    arrays = {
        key: rng.integers(0, 256, (*lead, *space.shape), np.uint8)
        if space.is_image
        else rng.standard_normal((*lead, *space.shape), np.float32)
        for key, space in observation.items()
    }
    arrays["action"] = rng.uniform(-1, 1, (*lead, 6)).astype(np.float32)
    arrays["reward"] = rng.random(lead, np.float32)
    arrays |= {key: np.zeros(lead, bool) for key in ("is_first", "is_last", "is_terminal")}
    arrays["is_first"][:, 0] = True
    arrays["deter"] = np.tanh(rng.standard_normal((rows, rssm.deter), np.float32)).astype(np.float16)
    arrays["stoch"] = rng.integers(0, rssm.classes, (rows, rssm.stoch), np.int8)
    return arrays


class Bench:
    """An agent, its update and endless random batches."""

    def __init__(self, config: RunConfig):
        keep_freed_memory()  # as a run does
        torch.manual_seed(config.seed)
        self.config, self.observation = config, spaces(config)
        self.agent = Dreamer(self.observation, ACTION, config.model)
        self.step = DreamerStep(self.agent, config.learner, config.seed)
        self.device = self.step.device
        self.rng = np.random.default_rng(config.seed)

    def update(self) -> None:
        arrays = random_batch(self.config, self.observation, self.rng)
        self.step(to_device(arrays, self.observation, ACTION, self.config.model.rssm.classes, self.device))

    def parameters(self) -> int:
        """Trained ones."""
        return sum(p.numel() for p in self.agent.parameters() if p.requires_grad)

    def flops(self) -> int:
        """Floating-point operations of the matrix products and convolutions of one update."""
        steps, self.agent.rssm.compiled_steps = self.agent.rssm.compiled_steps, None  # counted operator by operator
        try:
            return total(Counting().count(self.update).values()).flops
        finally:
            self.agent.rssm.compiled_steps = steps

    def profile(self) -> str:
        """The operators of one update, dearest first."""
        cuda = self.device.type == "cuda"
        activities = [torch.profiler.ProfilerActivity.CPU] + cuda * [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            self.update()
        order = f"self_{'cuda' if cuda else 'cpu'}_time_total"
        return profiler.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=60)


def measure(bench: Bench, updates: int) -> dict[str, float]:
    """Medians of `updates` updates behind a warm-up one, the rate of the core around them, and the share of it that the
    products of an update reach."""
    device = bench.device
    rates = matmul_rate(device)
    bench.update()
    pairs = [seconds(bench.update, device) for _ in range(updates)]
    peak = peak_memory(device)
    rate = median(rates + matmul_rate(device))
    cpu, wall = (median(list(values)) for values in zip(*pairs, strict=True))
    gflop, cuda = bench.flops() / 1e9, device.type == "cuda"
    figures = {
        "cpu_seconds": cpu, "wall_seconds": wall, "peak_gb": peak, "matmul_gflops": rate, "gflop": gflop,
        "share_of_matmul": gflop / (wall if cuda else cpu) / rate,
    }  # fmt: skip
    return figures if cuda else figures | {"seconds_at_90": at_reference(cpu, rate)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.learner", description=__doc__)
    parser.add_argument("--preset", default="dmc_proprio", help="preset of `nexus train`; it decides the observations")
    parser.add_argument("--size", default="", help="size1m .. size400m; the preset's own where none is given")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="auto", help="float32, bfloat16 or auto (float32 on a CPU)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--compile", action="store_true", help="with learner.compile; here alone, not in --against")
    parser.add_argument("--updates", type=int, default=5, help="updates measured, behind one that warms up")
    parser.add_argument("--profile", action="store_true", help="print what one more update spends its time on")
    parser.add_argument(
        "--against", type=Path, help="another checkout; only its updates and ours are compared, in turn"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    name = "/".join(filter(None, ("learner", options.preset, options.size)))
    try:
        config = apply(RunConfig(task="dmc_walker_walk"), options.preset, options.size)
        learner = replace(config.learner, device=options.device, precision=options.precision, compile=options.compile)
    except ValueError as error:
        parser.error(str(error))
    if options.against:
        given = [options.preset, options.size, options.device, options.precision, str(options.threads)]
        here, more = Path(__file__).parents[2], ["compile"] * options.compile
        try:
            pair = compare(here, options.against, given, options.updates, options.device.startswith("cuda"), more)
        except ValueError as error:
            parser.error(str(error))
        print(json.dumps({"name": name, "instructions": instructions()} | pair))
        return 0
    bench = Bench(replace(config, learner=learner))
    figures = measure(bench, options.updates)
    on_cpu = bench.device.type == "cpu"
    report = {
        "name": name,
        "value": figures["cpu_seconds" if on_cpu else "wall_seconds"],
        "unit": f"{'CPU ' * on_cpu}s/update",
        "device": describe(bench.device),
        "instructions": instructions(),
        "versions": versions(),
        "threads": options.threads,
        "precision": "bfloat16" if bench.step.autocast_dtype else "float32",
        "batch": [learner.batch_size, learner.batch_length],
        "imagination": config.model.imagination_length,
        "compiled": bench.step.compiling,
        "updates": options.updates,
        "parameters": bench.parameters(),
    } | figures
    if options.profile:
        print(bench.profile())
    if not options.json:
        width = max(map(len, report))
        print("\n".join(f"{key:{width}}  {f'{v:.3f}' if isinstance(v, float) else v}" for key, v in report.items()))
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
