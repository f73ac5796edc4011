"""`python -m tests.benchmarks.joint_learner`: updates of a batch that several processes share, or that passes in parts.

CPU seconds and memory of each process, and how far the parameters are from those that one process learns in one pass
over the same batches (`--compare`). The heads begin with predictions and the optimiser without warm-up: returns that
are nothing but rounding errors would decide the first updates of the policy.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from learner.batch import to_device
from learner.dreamer_step import DreamerStep
from learner.processes import Processes
from tests.benchmarks.learner import ACTION, random_batch, spaces
from tests.benchmarks.machine import describe, median, peak_memory, seconds, versions
from world_models.dreamer.agent import Dreamer

LIMIT = 1200.0  # seconds for all processes to end


def configured(options: argparse.Namespace) -> RunConfig:
    """The run whose updates are made."""
    config = apply(RunConfig(task="dmc_walker_walk"), options.preset, options.size)
    learner, model = config.learner, config.model
    heads = {name: replace(getattr(model, name), out_scale=1.0) for name in ("reward", "value", "policy")}
    return replace(
        config, model=replace(model, **heads),
        learner=replace(
            learner, device=options.device, precision="float32", processes=options.processes,
            accumulate=options.accumulate, optimizer=replace(learner.optimizer, warmup=0),
        ),
    )  # fmt: skip


def learned(config: RunConfig, updates: int, processes: Processes) -> tuple[Tensor, Tensor, list[tuple[float, float]]]:
    """All parameters in one vector, as they were and as they are after `updates`, and CPU and wall seconds of each."""
    torch.manual_seed(config.seed)
    observation, classes = spaces(config), config.model.rssm.classes
    agent = Dreamer(observation, ACTION, config.model)
    step = DreamerStep(agent, config.learner, config.seed, processes=processes)
    first, rng, times = _vector(agent), np.random.default_rng(config.seed), []
    for _ in range(updates):
        arrays = random_batch(config, observation, rng)
        batch = to_device(arrays, observation, ACTION, classes, step.device).part(processes.rank, processes.size)
        times.append(seconds(partial(step, batch), step.device))
    return first, _vector(agent), times


def _vector(agent: Dreamer) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in agent.parameters()])


def measure(config: RunConfig, options: argparse.Namespace, processes: Processes) -> dict[str, Any]:
    first, last, times = learned(config, options.updates, processes)
    cpu, wall = (median(list(values[1:])) for values in zip(*times, strict=True))
    found: dict[str, Any] = {"cpu_seconds": cpu, "wall_seconds": wall, "peak_gb": peak_memory(first.device)}
    if options.compare and processes.first:
        alone = replace(config, learner=replace(config.learner, processes=1, accumulate=1))
        other = learned(alone, options.updates, Processes())[1]
        apart = torch.linalg.vector_norm(last - other)
        found["apart"] = float(apart / torch.linalg.vector_norm(other))
        found["apart_of_the_way"] = float(apart / torch.linalg.vector_norm(other - first))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.joint_learner", description=__doc__)
    parser.add_argument("--preset", default="dmc_proprio", help="preset of `nexus train`; it decides the observations")
    parser.add_argument("--size", default="size1m", help="size1m .. size400m")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=1, help="processes that share each batch")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of each process's rows")
    parser.add_argument("--updates", type=int, default=20, help="updates made; the first one is not timed")
    parser.add_argument("--compare", action="store_true", help="also learn alone and in one pass")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meeting", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        config = configured(options)
    except ValueError as error:
        parser.error(str(error))
    if options.rank:
        store = dist.FileStore(options.meeting, options.processes)
        measure(config, options, Processes.meet(store, options.rank, options.processes))
        return 0
    found = _with_others(config, options, list(arguments if arguments is not None else sys.argv[1:]))
    report = {
        "name": f"joint_learner/{options.preset}/{options.size}",
        "value": found["cpu_seconds"], "unit": "CPU s/update of each process",
        "device": describe(torch.device(options.device)), "versions": versions(),
        "processes": options.processes, "accumulate": options.accumulate,
        "batch": [config.learner.batch_size, config.learner.batch_length], "updates": options.updates,
    } | found  # fmt: skip
    if not options.json:
        print("\n".join(f"{key:20}  {f'{v:.3g}' if isinstance(v, float) else v}" for key, v in report.items()))
    print(json.dumps(report))
    return 0


def _with_others(config: RunConfig, options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Measure with the other processes, which end with this function."""
    if options.processes == 1:
        return measure(config, options, Processes())
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        command = [sys.executable, "-m", "tests.benchmarks.joint_learner", *arguments, "--meeting", meeting]
        others = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(1, options.processes)]
        try:
            processes = Processes.meet(dist.FileStore(meeting, options.processes), 0, options.processes)
            found = measure(config, options, processes)
            codes = [other.wait(LIMIT) for other in others]
        finally:
            for other in others:
                other.kill()
                other.wait()
        processes.close()
    assert codes == [0] * len(others), codes
    return found


if __name__ == "__main__":
    raise SystemExit(main())
