"""`python -m tests.benchmarks.gpu`: what only a GPU shows of the learner, in one go: whether it is right, and how fast.

For each size: an update on CUDA beside the same update on the CPU (float32, the same draws), a recorded update beside
plain ones, the fused scan beside the plain one (float32, bfloat16), then milliseconds of all, the seconds until the
first replay, and what bounds them: as many launches as an update has, of a kernel that does nothing, and its
floating-point operations at the rate of a large product; for the fused scan, what was predicted. Prints a table in
Markdown, or JSON. Without CUDA it says so and ends with 2; `--device cpu` runs the plain parts on a CPU, which tests
this program. Needs torch only, and Triton on a GPU: no Ray, no environments.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from learner.batch import DeviceBatch, to_device
from learner.cost.counting import Counting, total
from learner.dreamer_step import DreamerStep
from learner.recording import WARM_UP
from tests.benchmarks.gpu_scan import scan_row
from tests.benchmarks.learner import ACTION, random_batch, spaces
from tests.benchmarks.machine import describe, median, peak_memory, seconds, versions
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.draws import Draws

CASES = ("dmc_proprio/size1m", "dmc_vision/size12m", "dmc_vision/size50m")
"""Preset and size."""
FRAMES = 500_000


class Case:
    """One size: its configuration and fixed random batches."""

    def __init__(self, name: str, device: torch.device, given: argparse.Namespace):
        preset, _, size = name.partition("/")
        config = apply(RunConfig(task="dmc_walker_walk"), preset, size)
        learner = replace(config.learner, device=device.type)
        if given.batch:
            learner = replace(learner, batch_size=given.batch[0], batch_length=given.batch[1])
        self.name, self.device = name, device
        self.config = replace(config, learner=learner)
        self.observation = spaces(self.config)
        torch.manual_seed(0)
        self.agent = Dreamer(self.observation, ACTION, config.model)
        rng = np.random.default_rng(0)
        self.arrays = [random_batch(self.config, self.observation, rng) for _ in range(2)]

    def step(self, device: torch.device, **learner: Any) -> DreamerStep:
        """An update of a copy of the agent."""
        config = replace(self.config.learner, device=device.type, **learner)
        return DreamerStep(copy.deepcopy(self.agent), config, 0)

    def batch(self, number: int, device: torch.device) -> DeviceBatch:
        arrays = self.arrays[number % len(self.arrays)]
        return to_device(arrays, self.observation, ACTION, self.config.model.rssm.classes, device)


def moved(draws: Draws, device: torch.device) -> Draws:
    actions = {key: value.to(device) for key, value in draws.actions.items()}
    return Draws(draws.posterior.to(device), draws.latents.to(device), actions, draws.forced)


def difference(mine: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The norm of the difference of all tensors, relative to that of the second."""
    apart, norm = (
        sum(float(x.double().square().sum()) for x in tensors)
        for tensors in ([a.cpu().double() - b.cpu().double() for a, b in zip(mine, other, strict=True)], other)
    )
    return (apart / norm) ** 0.5


def parity(case: Case) -> dict[str, float]:
    """Losses and gradients of one float32 update on the device, beside those on the CPU with the same draws."""
    cpu = torch.device("cpu")
    here, there = (
        case.step(device, precision="float32", tf32=False, cuda_graph=False) for device in (case.device, cpu)
    )
    draws = there.draws(*case.arrays[0]["is_first"][:, 1:].shape)
    updates = [
        step(case.batch(0, step.device), moved(draws, step.device)) for step in (here, there)
    ]  # fmt: skip
    losses = [[loss.detach() for loss in update.output.losses.values()] for update in updates]
    gradients = [[p.grad for p in step.optimizer.params if p.grad is not None] for step in (here, there)]
    return {"losses_off_cpu": difference(*losses), "gradients_off_cpu": difference(*gradients)}


def replayed(case: Case, updates: int) -> dict[str, float]:
    """Parameters after updates that are recorded and replayed, beside plain ones on the same device."""
    steps = [case.step(case.device, precision="float32", cuda_graph=on) for on in (True, False)]
    for number in range(WARM_UP + updates):
        for step in steps:
            step(case.batch(number, case.device))
    parameters = [[p.detach() for p in step.optimizer.params] for step in steps]
    return {"replayed_off_plain": difference(*parameters)}


def timed(case: Case, step: DreamerStep, updates: int) -> list[float]:
    """Wall milliseconds of updates on batches that lie on the device."""
    batches = [case.batch(number, case.device) for number in range(2)]
    return [
        1e3 * seconds(lambda number=number: step(batches[number % 2]), case.device)[1]  # type: ignore[misc]
        for number in range(updates)
    ]


def started(case: Case, step: DreamerStep) -> float:
    """Seconds of all updates before the first replay, recording included."""
    begun = time.perf_counter()
    for number in range(WARM_UP + 1):
        step(case.batch(number, case.device))
    if case.device.type == "cuda":
        torch.cuda.synchronize(case.device)
    return time.perf_counter() - begun


def counted(case: Case, step: DreamerStep) -> dict[str, float]:
    """Floating-point operations of products and convolutions in an update, and operators that compute or move: about as
    many launches."""
    work = total(Counting().count(lambda: step(case.batch(0, case.device))).values())
    return {"gflop": work.flops / 1e9, "launches": work.kernels}


def floors(device: torch.device) -> dict[str, float]:
    """Microseconds of launching a kernel that does next to nothing, and TFLOP/s of a large product."""
    tiny, dtype = torch.zeros(1, device=device), torch.bfloat16 if device.type == "cuda" else torch.float32
    size, many = (8192 if device.type == "cuda" else 1024), 1000
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))

    def best(run: Callable[[], object]) -> float:
        return min(seconds(run, device)[1] for _ in range(5))

    launch = best(lambda: [tiny.add_(1) for _ in range(many)]) / many
    return {"launch_us": 1e6 * launch, "matmul_tflops": 2 * size**3 / best(lambda: torch.mm(a, b)) / 1e12}


def measured(name: str, device: torch.device, given: argparse.Namespace, bounds: dict[str, float]) -> dict[str, Any]:
    """The row of one size."""
    case, cuda = Case(name, device, given), device.type == "cuda"
    row: dict[str, Any] = {"case": name} | parity(case)
    if cuda:
        row |= replayed(case, given.updates)
    plain = case.step(device, cuda_graph=False)
    timed(case, plain, 2)
    row |= counted(case, plain) | {"plain_ms": median(timed(case, plain, given.updates))}
    del plain
    fast = case.step(device, cuda_graph=True)
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    row["start_seconds"] = started(case, fast)
    row["ms"] = median(timed(case, fast, given.updates))
    row |= {"peak_gb": peak_memory(device)}
    del fast
    row |= scan_row(partial(case.step, device), case.batch(0, device), given.updates, difference)
    if cuda:
        whole = case.step(device, cuda_graph=True, fused_scan=True)
        row["fused_start_seconds"] = started(case, whole)
        row["fused_ms"] = median(timed(case, whole, given.updates))
    learner = case.config.learner
    batch = learner.batch_size * learner.batch_length
    row |= {
        "updates_per_second": 1e3 / row["ms"], "times_plain": row["plain_ms"] / row["ms"],
        "launch_floor_ms": row["launches"] * bounds["launch_us"] / 1e3,
        "arithmetic_floor_ms": row["gflop"] / bounds["matmul_tflops"],
        "share_of_matmul": row["gflop"] / bounds["matmul_tflops"] / row["ms"],
        "hours_per_500k_frames": FRAMES * learner.train_ratio / batch * row["ms"] / 3.6e6,
    }  # fmt: skip
    return row


def curves(name: str, device: torch.device, updates: int, given: argparse.Namespace) -> dict[str, Any]:
    """The loss of updates on two fixed batches in bfloat16 and in float32: means of tenths of the way, and the largest
    difference of those as a share of the float32 one's fall."""
    case, found = Case(name, device, given), {}
    for precision in ("float32", "bfloat16"):
        step, losses = case.step(device, precision=precision), []
        for number in range(updates):
            losses.append(step(case.batch(number, device)).metrics["loss/total"])
        found[precision] = [float(part.mean()) for part in torch.stack(losses).chunk(10)]
    exact, rough = (np.array(found[key]) for key in ("float32", "bfloat16"))
    return found | {"case": name, "largest_difference": float(np.abs(exact - rough).max() / np.ptp(exact))}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Sizes as columns, in Markdown."""
    keys = [key for key in rows[0] if key != "case"]
    lines = ["| | " + " | ".join(row["case"] for row in rows) + " |", "|---" * (1 + len(rows)) + "|"]
    return "\n".join(lines + [f"| {key} | " + " | ".join(f"{row[key]:.4g}" for row in rows) + " |" for key in keys])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="PRESET/SIZE", help="presets of `nexus train`")
    parser.add_argument("--updates", type=int, default=20, help="updates of each measurement")
    parser.add_argument("--precision-updates", type=int, default=0, help="compare bfloat16 with float32 over so many")
    parser.add_argument("--batch", nargs=2, type=int, metavar=("B", "T"), help="sequences and steps; the presets'")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device; --device cpu runs what a CPU can.")
        return 2
    device = torch.device(given.device)
    bounds = floors(device)
    rows = []
    for name in given.cases:
        rows.append(measured(name, device, given, bounds))
        if not given.json:
            print(f"{name}: {rows[-1]['ms']:.3g} ms an update, {rows[-1]['plain_ms']:.3g} plain", flush=True)
    out = {
        "name": "gpu", "value": rows[0]["ms"], "unit": f"ms an update of {rows[0]['case']}", "rows": rows,
        "device": describe(device), "versions": versions(),
    } | bounds  # fmt: skip
    if given.precision_updates:
        out["precision"] = [curves(name, device, given.precision_updates, given) for name in given.cases]
    if given.json:
        print(json.dumps(out))
        return 0
    print(f"\n{out['device']}, torch {torch.__version__}, {bounds['launch_us']:.3g} us a launch, "
          f"{bounds['matmul_tflops']:.4g} TFLOP/s of a large product\n\n{table(rows)}")  # fmt: skip
    for one in out.get("precision", ()):
        print(
            f"{one['case']}: bfloat16 is at most {one['largest_difference']:.2g} of the loss's fall away from float32"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
