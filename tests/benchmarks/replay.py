"""`python -m tests.benchmarks.replay`: rates of every replay store beside the memory-copy ceiling, in one run.

Stores are measured in turn, round after round, and medians reported, so that whatever else the machine does meets all
of them and decides little. Every byte of every batch is checked, outside the time.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from tests.benchmarks.machine import describe, matmul_rate, median, versions
from tests.benchmarks.replay_scale import scale
from tests.benchmarks.replay_stores import SYSTEMS, Opener, replay_versions
from tests.benchmarks.replay_systems import (
    ADD,
    APPEND,
    BATCH,
    BLOCK,
    LENGTH,
    REFRESH,
    System,
    Tally,
    keep_memory,
    measure,
)
from tests.benchmarks.replay_work import Content, payload, schema

COLUMNS = {
    "sample_batches_s": ".0f",
    "share": ".3f",
    "insert_steps_s": ",.0f",
    "insert_blocks_steps_s": ",.0f",
    "fill_steps_s": ",.0f",
    "write_back_batches_s": ".0f",
    "cpu_ms_batch": ".2f",
    "server_cpu_ms_batch": ".2f",
    "kept_over_raw": ".3f",
}

Tallies = dict[str, dict[str, list[Tally]]]
Report = dict[str, Any]


def rounds(systems: Sequence[System], count: int, seconds: float, most: int, say: Callable[[str], object]) -> Tallies:
    """`count` times everything of every system, in another order each time.

    All sample before all insert: what was inserted keeps servers and disks busy for a while.
    """
    tallies: Tallies = {system.name: {} for system in systems}
    order = np.random.default_rng(0)
    for k in range(count):
        for kind in (None, ADD, APPEND, REFRESH):
            for system in systems:
                system.settle()
            os.sync()
            for i in order.permutation(len(systems)):
                system, servers = systems[i], systems[i].servers()
                for name, make in (system.samplers() if kind is None else {kind: system.jobs()[kind]}).items():
                    measure(make, float("inf"), 2)  # after another system caches are cold, and logs are to be caught up
                    tallies[system.name].setdefault(name, []).append(measure(make, seconds, most, servers))
        for system in systems:
            rates = (f"{name} {all[-1].rate():,.0f}/s" for name, all in tallies[system.name].items())
            say(f"round {k + 1} of {count}: {system.name}, {', '.join(rates)}")
    return tallies


def figures(system: System, tallies: dict[str, list[Tally]]) -> Report:
    """Rates of the median batch, and of inserting in the median round, whose stalls belong to it."""
    rates = {name: median([tally.rate() for tally in all]) for name, all in tallies.items()}
    samplers = {name: 1 / median([s for tally in tallies[name] for s in tally.each]) for name in system.samplers()}
    chosen = next(iter(samplers))

    def each(seconds: Callable[[Tally], float]) -> float:
        return median([seconds(tally) / tally.units for tally in tallies[chosen]])

    return {
        "sample_batches_s": samplers[chosen],
        "mean_sample_batches_s": rates[chosen],
        "insert_steps_s": rates[ADD],
        "insert_blocks_steps_s": rates[APPEND],
        "write_back_batches_s": rates[REFRESH],
        "cpu_ms_batch": 1e3 * each(lambda tally: tally.cpu),
        "server_cpu_ms_batch": 1e3 * each(lambda tally: tally.server),
        "page_faults_batch": each(lambda tally: tally.faults),
        "sampler": chosen,
        "samplers": samplers,
    }


def compare(report: Report) -> None:
    """Sampling as a share of the ceiling, and our Redis beside redis-py's."""
    for name in filter(report.__contains__, SYSTEMS):
        if "ceiling" in report:
            report[name]["share"] = report[name]["sample_batches_s"] / report["ceiling"]["sample_batches_s"]
        theirs = report.get(name.replace("redis_", "redis_py_"))
        if name in ("redis_unix", "redis_tcp") and theirs:
            ours = report[name]["sample_batches_s"]
            report[name]["times_redis_py"] = ours / theirs["sample_batches_s"]
            report[name]["times_redis_py_best"] = ours / max(theirs["samplers"].values())


def table(report: Report) -> str:
    lines = [" " * 14 + "".join(f"{column.removesuffix('_s'):>23}" for column in COLUMNS)]
    for name in filter(report.__contains__, SYSTEMS):
        cells = (format(report[name].get(column, float("nan")), form) for column, form in COLUMNS.items())
        lines.append(f"{name:14}" + "".join(f"{cell:>23}" for cell in cells))
    return "\n".join(lines)


def run(options: argparse.Namespace, names: Sequence[str], say: Callable[[str], object]) -> Report:
    """Figures of each system, by its name."""
    step = schema()
    with ExitStack() as stack:
        opener = Opener(step, options.steps, options.streams, stack)
        systems: list[System] = []
        _ = list(Content(step, options.streams).blocks(8 * BLOCK, 4 * BLOCK))  # memory for rows is no store's
        filled: dict[int, Report] = {}  # by content: two clients of one server share what it holds
        for name in names:
            system = opener.open(name)
            if id(system.content) not in filled:
                before = system.kept()
                tally = system.fill(options.steps)
                overhead = (system.kept() - before) / (options.steps * payload(step))
                filled[id(system.content)] = {"fill_steps_s": tally.rate(), "kept_over_raw": overhead}
                say(f"{name}: filled with {options.steps:,} steps at {tally.rate():,.0f}/s")
            systems.append(system)
        tallies = rounds(systems, options.rounds, options.seconds, options.batches, say)
        each = {s.name: figures(s, tallies[s.name]) | filled[id(s.content)] for s in systems}
    compare(each)
    first = "memory" if "memory" in each else names[0]
    head = {"name": f"replay/{first}", "value": each[first]["sample_batches_s"], "unit": "batches/s"}
    about = {"batch": [BATCH, LENGTH], "step_bytes": payload(step), "steps": options.steps, "streams": options.streams}
    return head | about | {"rounds": options.rounds} | each


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replay", description=__doc__)
    parser.add_argument("--only", default="", help=f"comma-separated, of {', '.join(SYSTEMS)}; all where none is given")
    parser.add_argument("--steps", type=int, default=65_536, help="steps each store holds (16.5 kB each)")
    parser.add_argument("--streams", type=int, default=16, help="environments that write at the same time")
    parser.add_argument("--rounds", type=int, default=5, help="times everything is measured")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement in each round")
    parser.add_argument("--batches", type=int, default=100, help="at most so many of each measurement in each round")
    parser.add_argument("--scale", action="store_true", help="large stores and many writers instead")
    parser.add_argument("--items", type=int, nargs=2, default=(50_000, 5_000_000), help="scale: items drawn from")
    parser.add_argument("--disk-gb", type=float, default=20.0, help="scale: the disk store that is opened; 0 for none")
    parser.add_argument("--folder", default="", help="where disk stores lie for the time; a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, progress to stderr")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(SYSTEMS)
    unknown = sorted(set(names) - set(SYSTEMS))
    block = 4 * BLOCK * options.streams
    if unknown or options.steps % block or options.steps < 4 * block:
        parser.error(f"unknown {unknown}, there are {list(SYSTEMS)}; --steps is a multiple of {block}, 4 or more")
    torch.set_num_threads(1)
    keep_memory()
    cpu = torch.device("cpu")
    gflops = matmul_rate(cpu)
    measured = (scale if options.scale else run)(options, names, partial(print, file=sys.stderr, flush=True))
    machine = {"device": describe(cpu), "versions": versions() | replay_versions()}
    report = measured | machine | {"matmul_gflops": median(gflops + matmul_rate(cpu))}
    if not options.json and not options.scale:
        print(table(report))
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
