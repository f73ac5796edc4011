"""`nexus jobs`."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import arg

from deploy.commands.parsing import parse
from deploy.launch import records
from deploy.launch.target import OVER, Launched, State, Target
from deploy.launch.targets import target_of
from deploy.reports.display import UNKNOWN, duration, short
from deploy.run_failed import RunFailedError
from deploy.stored.control import active

ADDRESS = arg(help_behavior_hint="(optional)", metavar="http://HOST:PORT")


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """List launched runs, newest first: what they do, and what is wrong with them by the rules of nexus monitor.

    Frames, score and alerts are read from the run directory, where this machine sees it. How a run has ended is kept
    with its record in ~/.nexus/jobs, and its target is not asked again. Records stay until --forget or --prune.
    """

    address: Annotated[str, ADDRESS] = ""
    """List all runs of the Ray cluster with this job server, those launched by others included."""
    json: bool = False
    """One JSON object a line, for other programs."""
    forget: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="(optional)")] = ()
    """Remove these runs, which must not wait or run, from the list. Their run directories stay."""
    prune: bool = False
    """Remove all runs that have ended or failed, were stopped, or are unknown to their target (`gone`)."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Jobs, arguments, prog="nexus jobs", example="nexus jobs")
    if given.forget or given.prune:
        if given.address or given.json:
            raise ValueError("nexus jobs: --forget and --prune are for the records of this machine, and stand alone.")
        return _forget(given.forget, given.prune)
    lines = _lines(_jobs_at(given.address) if given.address else records.everything())
    if given.json:
        for line in lines:
            print(json.dumps({name: None if value != value else value for name, value in line.items()}), flush=True)
        return 0
    if not (found := list(lines)):
        print("No run was launched from here. nexus launch --help shows how.")
        return 0
    _print(found)
    return 0


def _jobs_at(address: str) -> Iterable[Launched]:
    from deploy.launch.ray_jobs.jobs import RayJobs

    return RayJobs.of(address).everything()


def _forget(names: Sequence[str], prune: bool) -> int:
    named = [records.read(name) for name in names]
    chosen = []
    for job, state, _ in _states([*named, *(records.everything() if prune else ())]):
        if job in named and state not in (*OVER, "unreachable"):
            raise ValueError(f"nexus jobs: {job.name} is {state}; nexus stop {job.name} ends it.")
        if job in named or state in OVER:
            chosen.append(job)
    for job in dict.fromkeys(chosen):
        records.forget(job.name)
        print(f"forgot {job.name}; its run directory is {job.logdir}")
    if not chosen:
        print("No run is over.")
    return 0


def _lines(jobs: Iterable[Launched]) -> Iterator[dict[str, Any]]:
    """What is known of each job."""
    return (_line(job, state, why) for job, state, why in _states(jobs))


def _states(jobs: Iterable[Launched]) -> Iterator[tuple[Launched, State, str]]:
    """What has become of each job, and why. A place that does not answer is asked once, and of a job that has ended not
    again, unless its run goes on."""
    targets: dict[tuple[str, str], Target] = {}
    away: dict[tuple[str, str], str] = {}
    for job in jobs:
        place = job.target, job.place
        state: State
        if job.state and not active(Path(job.logdir)):
            state, why = job.state, job.why
        elif place in away:
            state, why = "unreachable", away[place]
        else:
            try:
                target = targets.setdefault(place, target_of(job))
                state, why = target.state(job)
                if target.final:
                    records.remember(job, state, why)
            except (ValueError, RunFailedError) as error:
                state, why = "unreachable", str(error)
            if state == "unreachable":
                away[place] = why
        yield job, state, why


def _line(job: Launched, state: State, why: str) -> dict[str, Any]:
    from deploy.launch.progress import progress_of

    there = progress_of(job)
    said = {"state": there.state or state, "why": there.waits_for or why} if state == "running" else {}
    return asdict(job) | asdict(there) | {"state": state, "why": why, "age": round(time.time() - job.time, 1)} | said


def _print(lines: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("NAME", "TARGET", "STATE", "TASK", "FRAMES", "SCORE", "AGE"):
        table.add_column(name, justify="right" if name in ("FRAMES", "SCORE", "AGE") else "left", no_wrap=True)
    remarks = []
    for line in lines:
        frames, score = (None if math.isnan(line[name]) else line[name] for name in ("frames", "score"))
        cells = [line["name"], line["target"], line["state"], line["task"]]
        cells += [UNKNOWN if frames is None else f"{frames:,.0f}", short(score), duration(line["age"])]
        table.add_row(*(Text(cell) for cell in cells))
        if line["why"]:
            remarks.append(f"{line['name']}: {line['why']}")
        remarks += [f"{line['name']}: alert: {alert['kind']}: {alert['text']}" for alert in line["alerts"]]
    console = Console()
    console.print(table, soft_wrap=not console.is_terminal)
    for remark in dict.fromkeys(remarks):
        console.print(Text(remark), soft_wrap=True)
