"""Writes down what actors report and how long the learner waits for data, in the processes of a run themselves.

A `sitecustomize.py` that calls `install` lies in front of the run's path. Calls go through as they are.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

WHERE = "NEXUS_FLEET_WITNESS"
"""The environment variable that names the folder of the accounts."""


class Life(NamedTuple):
    """One life of a worker: the streams that it may write, and the rows that it has reported."""

    worker: int
    incarnations: list[int]
    """More than one if a stream was renewed."""
    slots: list[int]
    rows: int


class Wait(NamedTuple):
    """A wait of the learner for one update's data. Seconds."""

    at: float
    """When it ended, on the wall clock."""
    limiter: float
    prefetch: float
    starved: float
    """That its thread has been ready and without a core, since the learner began."""

    @property
    def seconds(self) -> float:
        return self.limiter + self.prefetch


def hook(folder: Path) -> dict[str, str]:
    """Write the hook and give the variables with which every Python process of a run takes it up."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"import {__name__} as witness\n\nwitness.install()\n")
    root = Path(__file__).parents[2]
    return {WHERE: str(folder), "PYTHONPATH": f"{folder}{os.pathsep}{root}"}


def install() -> None:
    """Watch this process, where it belongs to a run. Nothing is imported before the process does so itself."""
    if WHERE in os.environ:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds each module that is watched once, as everybody else would."""

    def __init__(self) -> None:
        self._watches: dict[str, Callable[[ModuleType], None]] = {
            "deploy.distributed.coordinator_client": _watch_calls, "replay.prefetch": _watch_batches,
        }  # fmt: skip

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        watch = self._watches.pop(name, None)
        if watch is None:
            return None
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        load = spec.loader.exec_module

        def watched(module: ModuleType) -> None:
            load(module)
            watch(module)

        spec.loader.exec_module = watched  # type: ignore[method-assign]
        return spec


_limiter = 0.0  # seconds that the learner of this process has waited for the limiter since its last batch


def _account(kind: str, line: dict[str, Any]) -> None:
    path = Path(os.environ[WHERE]) / f"{kind}-{os.getpid()}.jsonl"
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def _watch_calls(module: ModuleType) -> None:
    original = module.CoordinatorClient.ask

    def ask(self: Any, method: str, *arguments: Any, **named: Any) -> Any:
        global _limiter
        begun = time.monotonic()
        answer = original(self, method, *arguments, **named)
        match method:
            case "enlist":
                _account("life", {
                    "worker": arguments[0], "incarnation": answer.incarnation, "slots": answer.share.slots, "rows": 0,
                })  # fmt: skip
            case "incarnation":
                _account("life", {"worker": arguments[0], "incarnation": answer, "slots": [], "rows": 0})
            case "report" if arguments[0].rows:
                _account("life", {"worker": arguments[0].worker, "rows": arguments[0].rows})
            case "sample":
                _limiter += time.monotonic() - begun
        return answer

    module.CoordinatorClient.ask = ask


def _watch_batches(module: ModuleType) -> None:
    original = module.Prefetch.__call__

    def call(self: Any) -> Any:
        global _limiter
        begun = time.monotonic()
        batch = original(self)
        prefetch = time.monotonic() - begun
        _account("wait", Wait(time.time(), _limiter, prefetch, _starved())._asdict())
        _limiter = 0.0
        return batch

    module.Prefetch.__call__ = call


def _starved() -> float:
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def lives(folder: Path) -> list[Life]:
    """All lives of workers; each had a process of its own."""
    found = []
    for path in sorted(folder.glob("life-*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found.append(Life(
            lines[0]["worker"], [line["incarnation"] for line in lines if "incarnation" in line],
            lines[0]["slots"], sum(line["rows"] for line in lines),
        ))  # fmt: skip
    return found


def waits(folder: Path) -> list[Wait]:
    """Those of all learners, in the order of their ends."""
    paths = folder.glob("wait-*.jsonl")
    return sorted(Wait(**json.loads(line)) for path in paths for line in path.read_text().splitlines())
