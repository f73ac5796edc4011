"""The processes of a run: how they are, what they wait for, and what became of those that died."""

import json
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from deploy.monitor.history import number
from deploy.monitor.run import Run
from replay.files.regular_file import open_regular

RESTARTS, SCALING = "restarts.jsonl", "scaling.jsonl"
LOGS = ("learner.log", "evaluator.log")
GPU = ("utilisation", "memory_gb", "memory_limit_gb", "learner_memory_gb")
_WINDOW = 30.0  # seconds over which rates are measured
_WAITS = 0.2  # share of the time from which on a side counts as waiting
_TAIL = 6000  # bytes of a log that are shown
_LINES = 200  # newest lines of a log that are shown
_MOST_LOGS = 64


class Fleet:
    """What one run's `status.json` says, with rates from its earlier ones."""

    def __init__(self, run: Run):
        self._run = run
        self._seen: deque[dict[str, Any]] = deque(maxlen=200)
        self._processes: dict[int, psutil.Process] = {}

    def look(self) -> None:
        """Take in the newest status."""
        status = self._run.status
        if status and (not self._seen or status.get("time") != self._seen[-1].get("time")):
            self._seen.append(status)
            while len(self._seen) > 2 and _time(status) - _time(self._seen[1]) > _WINDOW:
                self._seen.popleft()

    def report(self) -> dict[str, Any]:
        """Everything that the page shows of it."""
        self.look()
        run, status = self._run, self._run.status
        actors = _mapping(status.get("actors"))
        here = _mapping(status.get("supervisor")).get("host") == platform.node() and run.active
        processes = [
            {"name": name, **_mapping(about), **(self._use(_mapping(about).get("process")) if here else {})}
            for name, about in _mapping(status.get("processes")).items() if not name.startswith("actor ")
        ]  # fmt: skip
        return {
            "run": run.id, "name": run.name, "task": run.configuration.task, "state": run.state(), "active": run.active,
            "mode": run.configuration.values.get("mode", ""), "status": bool(status), "time": status.get("time"),
            "frames": run.frames, "planned": run.configuration.values.get("frames"),
            "updates": status.get("updates", run.latest.get("updates")),
            "frames_per_second": self._rate("frames") or number(run.latest.get("fps/env")),
            "updates_per_second": self._rate("updates"), "snapshot": status.get("snapshot", {}),
            "ratio": {"asked": self._asked_ratio(), "actual": self._actual_ratio(), "says": self.limiter()},
            "actors": {**{key: actors.get(key) for key in ("target", "running", "environments", "given_up")},
                       "each": self._workers(here)},
            "processes": processes, "replay": self._replay(), "failures": status.get("failures", {}),
            "quarantined": status.get("quarantined", {}), "checkpoint": status.get("checkpoint"),
            "requests": status.get("requests", []),
            "restarts": _newest(run.path / RESTARTS, ("process", "reason", "time")),
            "scaling": _newest(run.path / SCALING, ("before", "after", "by", "reason", "time")),
            "autoscale": _mapping(status.get("autoscale")),
            "restart_counts": status.get("restarts", {}),
            "logs": _logs(run.path), "machine": _machine() if here else None, "reason": status.get("reason"),
            "gpu": {name: number(run.latest.get(f"gpu/{name}")) for name in GPU},
        }  # fmt: skip

    def limiter(self) -> str:
        """Who waits for whom, in words."""
        status = self._run.status
        limiter = _mapping(status.get("limiter"))
        if not limiter or not self._run.active:
            return ""
        if not status.get("updates"):
            return "filling replay: the learner waits until there is enough to sample from"
        first = self._seen[0] if self._seen else {}
        seconds = _time(status) - _time(first)
        if seconds <= 0:
            return "not measured yet"
        before = _mapping(first.get("limiter"))
        actors = max(1.0, number(_mapping(status.get("actors")).get("running")))
        insert, sample = (
            (number(limiter.get(f"{side}_waited_seconds")) - number(before.get(f"{side}_waited_seconds"))) / seconds
            for side in ("insert", "sample")
        )
        if insert / actors > _WAITS and insert / actors >= sample:
            return f"actors wait: the learner is behind ({min(1.0, insert / actors):.0%} of their time)"
        if sample > _WAITS:
            return f"the learner waits: actors are behind ({min(1.0, sample):.0%} of its time)"
        return "neither side waits"

    def _rate(self, name: str) -> float | None:
        if len(self._seen) < 2:
            return None
        first, last = self._seen[0], self._seen[-1]
        seconds, grown = _time(last) - _time(first), number(last.get(name)) - number(first.get(name))
        return grown / seconds if seconds > 0 and grown >= 0 else None

    def _asked_ratio(self) -> float | None:
        found = self._run.status.get("train_ratio", self._run.configuration.values.get("learner.train_ratio"))
        return found if isinstance(found, int | float) else None

    def _actual_ratio(self) -> float:
        limiter = _mapping(self._run.status.get("limiter"))
        return number(limiter.get("samples_per_insert", self._run.latest.get("replay/ratio")))

    def _workers(self, here: bool) -> list[dict[str, Any]]:
        """One row an actor, with its steps a second and how many snapshots its policy is behind."""
        status, first = self._run.status, self._seen[0] if self._seen else {}
        before = _mapping(_mapping(first.get("actors")).get("each"))
        restarts, newest = _mapping(status.get("restarts")), number(_mapping(status.get("snapshot")).get("version"))
        rows = []
        for name, about in _mapping(_mapping(status.get("actors")).get("each")).items():
            one = dict(_mapping(about))
            seconds = _time(status) - _time(first)
            grown = number(one.get("rows")) - number(_mapping(before.get(name)).get("rows", 0))
            one |= {
                "number": name, "environments": len(one.get("environments") or ()),
                "restarts": restarts.get(f"actor {name}", 0),
                "steps_per_second": grown / seconds if seconds > 0 and grown >= 0 else None,
                "behind": newest - number(one.get("version")),
            }  # fmt: skip
            rows.append(one | (self._use(one.get("process")) if here else {}))
        return rows

    def _replay(self) -> dict[str, Any]:
        replay = _mapping(self._run.status.get("replay"))
        shards = [
            {"name": name, **{key: number(_mapping(about).get(key)) for key in (
                "items", "steps", "streams", "gb", "max_gb", "age", "inserted", "sampled", "evicted", "stale")}}
            for name, about in _mapping(replay.get("shards")).items()
        ]  # fmt: skip
        return {"shards": shards, "down": replay.get("down", [])}

    def _use(self, process: Any) -> dict[str, float]:
        """CPUs and bytes that a process of this machine uses."""
        if not isinstance(process, int):
            return {}
        try:
            known = self._processes.get(process)
            if known is None or not known.is_running():
                known = self._processes[process] = psutil.Process(process)
            with known.oneshot():
                return {"cpus": known.cpu_percent() / 100, "memory": float(known.memory_info().rss)}
        except (psutil.Error, OSError):
            self._processes.pop(process, None)
            return {}


def _machine() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {"cpus": psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1), "of": psutil.cpu_count() or 1,
            "memory": float(memory.total - memory.available), "total": float(memory.total)}  # fmt: skip


def _newest(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The newest lines of a `.jsonl` log, the last first."""
    found: list[dict[str, Any]] = []
    for line in tail_of(path, 1 << 16).splitlines():
        with suppress(ValueError, RecursionError):
            one = json.loads(line)
            if isinstance(one, dict):
                found.append({key: one.get(key) for key in keys})
    return found[-_LINES:][::-1]


def _logs(logdir: Path) -> list[dict[str, Any]]:
    """The ends of what processes wrote about their errors."""
    found = []
    with suppress(OSError):
        names = [*LOGS, *sorted(path.name for path in logdir.glob("actor-*.log"))[:_MOST_LOGS]]
        for name in names:
            if text := tail_of(logdir / name, _TAIL).strip():
                found.append({"name": name, "text": text, "changed": (logdir / name).stat().st_mtime})
    return sorted(found, key=lambda one: -one["changed"])


def tail_of(path: Path, size: int) -> str:
    """The last `size` bytes of a text file, from the start of a line; empty if there are none."""
    with suppress(OSError), open_regular(path) as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - size))
        text = file.read(size).decode(errors="replace")
        return text.partition("\n")[2] if end > size else text
    return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _time(status: Mapping[str, Any]) -> float:
    found = number(status.get("time"))
    return found if found == found else 0.0
