"""`python -m tests.benchmarks.policy_latency`: one call of a policy, from packed weights and through the modules.

An image encoder is measured in bfloat16 too. All act on the same observations in turns within one process, a few calls
at a time, in one thread. Observations are those of the control suite's walker (24 floats) for size1m and 64x64 pixels
for size12m, actions are 6 floats. CPU seconds are the measure on a busy machine. Needs torch only: no Ray, no
environments.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tests.benchmarks.machine import describe, matmul_rate, median, versions
from world_models.dreamer.acting import ActingModel
from world_models.dreamer.config import sized
from world_models.dreamer.policy import DreamerPolicy
from world_models.space import Space

VECTOR = {"vector": Space(dtype=np.dtype("float32"), shape=(24,))}
IMAGE = {"image": Space(dtype=np.dtype("uint8"), shape=(64, 64, 3))}
ACTION = {"action": Space(dtype=np.dtype("float32"), shape=(6,), low=-1, high=1)}
PRECISIONS = ("float32", "bfloat16")
MODELS = {"size1m proprio": ("size1m", VECTOR), "size12m vision": ("size12m", IMAGE)}
ENVIRONMENTS = (1, 16, 64)
TURN = 10  # calls


def turn(policy: DreamerPolicy, observation: dict[str, np.ndarray], rows: int, calls: int) -> tuple[float, float]:
    """CPU and wall seconds of one of `calls` calls."""
    carry, first = policy.initial(rows), np.zeros(rows, bool)
    busy, wall = time.process_time(), time.perf_counter()
    for call in range(calls):
        carry, _, _ = policy.act(carry, observation, first, call)
    return (time.process_time() - busy) / calls, (time.perf_counter() - wall) / calls


def measure(name: str, rows: int, mode: bool, rounds: int) -> list[dict[str, Any]]:
    """Medians over `rounds` turns of each, behind one that warms up; the spread is from the 10th to the 90th percentile
    of the ratios of neighbouring turns. Convolutions are measured in bfloat16 too."""
    size, space = MODELS[name]
    torch.manual_seed(0)
    model = ActingModel(space, ACTION, sized(size))
    modules = DreamerPolicy(model, mode=mode)
    modules.packed = None
    precisions = PRECISIONS[: 2 if space is IMAGE else 1]
    policies = [modules, *(DreamerPolicy(model, mode=mode, precision=precision) for precision in precisions)]
    rng = np.random.default_rng(0)
    observation = {
        key: rng.integers(0, 256, (rows, *s.shape), np.uint8)
        if s.is_image
        else rng.standard_normal((rows, *s.shape), np.float32)
        for key, s in space.items()
    }
    calls = TURN if space is VECTOR else max(1, TURN // rows)
    turns = [[turn(policy, observation, rows, calls) for policy in policies] for _ in range(rounds + 1)]
    milliseconds = 1e3 * np.array(turns[1:])  # [rounds, policies, CPU or wall]
    before, cells = milliseconds[:, 0], []
    for i, precision in enumerate(precisions, 1):
        now = milliseconds[:, i]
        low, ratio, high = np.percentile(now[:, 0] / before[:, 0], [10, 50, 90]).tolist()
        (cpu, wall), (modules_cpu, modules_wall) = (np.median(x, 0).tolist() for x in (now, before))
        cells.append({
            "model": name, "environments": rows, "actions": "mode" if mode else "sampled", "precision": precision,
            "cpu_ms": cpu, "wall_ms": wall, "modules_cpu_ms": modules_cpu, "modules_wall_ms": modules_wall,
            "ratio": ratio, "ratio_p10": low, "ratio_p90": high,
        })  # fmt: skip
    return cells


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.policy_latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="turns of each path behind one that warms up")
    parser.add_argument("--only", choices=MODELS, help="one model alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = torch.device("cpu")
    cells = []
    for name in [options.only] if options.only else MODELS:
        for rows in ENVIRONMENTS:
            for mode in (False, True):
                for cell in measure(name, rows, mode, options.rounds):
                    cells.append(cell)
                    if not options.json:
                        print(
                            f"{name}, {rows:2} environments, {cell['actions']:7}, {cell['precision']:8}: "
                            f"{cell['cpu_ms']:7.3f} CPU ms, modules {cell['modules_cpu_ms']:7.3f}, ratio "
                            f"{cell['ratio']:.3f} ({cell['ratio_p10']:.3f}-{cell['ratio_p90']:.3f})",
                            flush=True,
                        )
    shown = next((cell for cell in cells if cell["environments"] == 16), cells[0])
    report = {
        "name": f"policy_latency/{shown['model']}/{shown['environments']}", "value": shown["ratio"],
        "unit": "CPU time / CPU time through the modules", "device": describe(device), "versions": versions(),
        "threads": 1, "rounds": options.rounds, "matmul_gflops": median(matmul_rate(device)), "cells": cells,
    }  # fmt: skip
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
