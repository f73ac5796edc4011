"""One run as its directory shows it."""

import hashlib
import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deploy.monitor.configuration import Configuration
from deploy.monitor.health import HealthReports
from deploy.monitor.history import EVAL, TRAIN, History, number
from deploy.monitor.notes import FILE as NOTES
from deploy.monitor.notes import read_notes
from deploy.monitor.videos import VIDEOS
from deploy.reports.curves import seconds_at_work
from deploy.reports.health.files import FOLDER as HEALTH
from deploy.reports.metrics import METRICS, SCORES
from deploy.stored.control import active
from deploy.stored.run_status import STATUS, read_status
from deploy.wiring.claim import LOCK
from replay.files.regular_file import open_regular
from world_models.checkpoint_files import RUN_CONFIG

EVALUATION = "evaluation.json"
_WATCHED = (RUN_CONFIG, NOTES, STATUS, METRICS, SCORES, EVALUATION, LOCK, HEALTH, VIDEOS)
RECENT = 20  # episodes whose mean is the score of a run
_TAIL = 1 << 16  # bytes at the end of metrics.jsonl that hold its last line
WORKING = ("starting", "waiting", "filling", "training", "saving")
_NOTHING = (0, 0)  # what is seen of a file that does not exist
_QUIET = 600.0  # seconds without a change after which a run is looked at less often


class Run:
    """Reads what is new in a run directory; nothing is ever written to it."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.id = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
        self.scores, self._metrics = History(path / SCORES), History(path / METRICS)
        self._asked = False  # somebody looks at the metrics
        self._health: HealthReports | None = None
        self._seen: dict[str, tuple[int, int]] = {}
        self._looked = -math.inf
        self.active = False
        self.latest: dict[str, Any] = {}
        """The last line of metrics.jsonl."""
        self.status: dict[str, Any] = {}
        self.revision = 0
        self._summary: tuple[int, dict[str, Any]] = (-1, {})
        self.changed_at = 0.0
        """When its logs or its status were last written, in seconds since 1970."""
        self.began_at = 0.0
        """When its newest process began."""
        self.logged_at = 0.0
        """When its logs were last written, or its newest process began: a status says only that a supervisor lives."""
        for name in (RUN_CONFIG, NOTES):
            self._is_new(name)
        self.configuration = Configuration(path)
        self.notes = read_notes(path)

    def refresh(self) -> bool:
        """Take in what has changed; True if something has."""
        changed = [name for name in _WATCHED if self._is_new(name)]
        if RUN_CONFIG in changed:
            self.configuration = Configuration(self.path)
        if NOTES in changed:
            self.notes = read_notes(self.path)
        if STATUS in changed:
            self.status = read_status(self.path)
        if METRICS in changed:
            self.latest = last_line(self.path / METRICS)
            if self._asked:
                self._metrics.refresh()
        if SCORES in changed:
            self.scores.refresh()
        if HEALTH in changed and self._health is not None:
            self._health.look()
        now, before = time.monotonic(), self.active
        if now - self._looked > (3.0 if changed or time.time() - self.changed_at < _QUIET else 30.0):
            self._looked = now
            self.active = active(self.path)
        self.revision += bool(changed) or before != self.active
        return bool(changed) or before != self.active

    def _is_new(self, name: str) -> bool:
        about = _NOTHING
        with suppress(OSError):
            there = os.stat(self.path / name)
            about = there.st_mtime_ns, there.st_size
            if name in (METRICS, SCORES, STATUS):
                self.changed_at = max(self.changed_at, there.st_mtime)
            if name == LOCK:
                self.began_at = there.st_mtime
            if name in (METRICS, SCORES, LOCK):
                self.logged_at = max(self.logged_at, there.st_mtime)
        new = self._seen.get(name, _NOTHING) != about
        self._seen[name] = about
        return new

    def _is_there(self, name: str) -> bool:
        return self._seen.get(name, _NOTHING) != _NOTHING

    @property
    def metrics(self) -> History:
        """The columns of metrics.jsonl, read when they are first asked for."""
        if not self._asked:
            self._asked = True
            self._metrics.refresh()
        return self._metrics

    @property
    def health(self) -> HealthReports:
        """What the run says of its world model, read when it is first asked for."""
        if self._health is None:
            self._health = HealthReports(self.path)
            self._health.look()
        return self._health

    @property
    def group(self) -> str:
        """The same for all seeds of one configuration."""
        return self.configuration.group

    def seconds(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames [P] and the seconds of work in which they were reached [P]: pauses between two lives do not count."""
        frames, times = self.metrics.column("frames"), self.metrics.column("time")
        good = np.isfinite(frames) & np.isfinite(times)
        return frames[good], seconds_at_work(times[good])

    def state(self) -> str:
        """starting, waiting, filling, training or saving; else finished, failed or stopped."""
        said = self.status.get("state")
        if self.active:
            return said if said in WORKING else "training"
        if said == "failed":
            return "failed"
        if said in WORKING:
            return "failed"  # it ended without saying so
        planned, done = self.configuration.values.get("frames"), False
        with suppress(OSError):  # the last that a run writes; older than its logs if it was continued
            done = (self.path / EVALUATION).stat().st_mtime >= self.changed_at - 1.0
        return "finished" if done or isinstance(planned, int) and self.frames >= planned else "stopped"

    @property
    def frames(self) -> float:
        """Environment frames so far."""
        scores = self.scores.column("frames")
        known = [number(self.latest.get("frames")), number(self.status.get("frames")), *scores[-1:]]
        return max((value for value in known if math.isfinite(value)), default=0.0)

    def summary(self) -> dict[str, Any]:
        """One row of the table of runs."""
        if self._summary[0] != self.revision:
            self._summary = self.revision, self._row()
        return dict(self._summary[1], name=self.name)

    def _row(self) -> dict[str, Any]:
        values, kinds = self.scores.column("score"), self.scores.column("kind")
        train, evaluated = values[kinds == TRAIN], values[kinds == EVAL]
        train = train[np.isfinite(train)]
        at, good = self.scores.column("updates")[kinds == EVAL], np.isfinite(evaluated)
        means = [float(evaluated[(at == one) & good].mean()) for one in np.unique(at[good])]
        latest = self.latest
        return {
            "id": self.id, "name": self.name, "path": str(self.path), "task": self.configuration.task,
            "seed": self.configuration.seed, "group": self.group, "state": self.state(), "active": self.active,
            "frames": self.frames, "planned": self.configuration.values.get("frames"),
            "updates": number(latest.get("updates")), "episodes": len(train),
            "score": float(train[-RECENT:].mean()) if len(train) else math.nan,
            "best": max(means, default=math.nan), "fps": number(latest.get("fps/env")),
            "fps_train": number(latest.get("fps/train")), "lag": number(latest.get("policy/lag")),
            "ratio": number(latest.get("replay/ratio")), "changed": self.changed_at,
            "mode": self.configuration.values.get("mode", ""), "damaged": self.scores.damaged,
            "tags": list(self.notes.tags), "note": self.notes.note, "archived": self.notes.archived,
            "spark": _spark(train), "health": self._is_there(HEALTH) or self._is_there(VIDEOS),
        }  # fmt: skip


def _spark(values: np.ndarray, points: int = 24) -> list[float]:
    """Means of `points` equal shares."""
    return [float(part.mean()) for part in np.array_split(values, min(points, len(values)))] if len(values) else []


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a log, without reading the rest; empty if there is none."""
    with suppress(OSError, ValueError, RecursionError), open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        whole = file.read(_TAIL).rpartition(b"\n")[0]
        line = json.loads(whole.rpartition(b"\n")[2])
        return line if isinstance(line, dict) else {}
    return {}
