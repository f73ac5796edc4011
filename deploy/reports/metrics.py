"""The logs of a run: metrics.jsonl, scores.jsonl and TensorBoard events.

Every line has `frames` (environment frames, action repeats counted) and `updates` (gradient steps), so that a run that
continues from a checkpoint can cut the lines written after it and continue as if it had never stopped.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, SupportsFloat

from deploy.reports.event_file import PATTERN, EventFile, read_events
from replay.files.whole_file import write_durably

METRICS, SCORES = "metrics.jsonl", "scores.jsonl"
EPISODE_KEYS = ("frames", "updates", "score", "length", "seed", "kind", "backend", "protocol")
"""What a line of scores.jsonl says of an episode, beside what its environment reports. Lines of earlier versions have
no `backend` and no `protocol`; training episodes have no `protocol`."""
# Key prefixes that differ between two otherwise identical runs.
WALL_CLOCK_KEYS = ("time", "fps/", "report/health/seconds", "report/health/cost")

Kind = Literal["train", "eval"]
_COUNTERS: dict[str, type] = {"frames": int, "updates": int}  # of every line
_KINDS = {int: "whole number", str: "text"}


class MetricsWriter:
    """The logs of one run directory. One process at a time owns them; any of its threads may write.

    Files are opened by the first write, so that `load` or `truncate` can cut them before. A line has been handed to the
    operating system when the call returns; `state` waits until all lines are on disk.
    """

    def __init__(self, logdir: str | Path, *, tensorboard: bool = True) -> None:
        self._logdir = Path(logdir)
        self._logdir.mkdir(parents=True, exist_ok=True)
        self._tensorboard = tensorboard
        self._lock = threading.RLock()
        self._lines: dict[str, BinaryIO] = {}
        self._events: EventFile | None = None
        self._frames = -1  # largest frame count written so far
        self._restart_step: int | None = None  # set by a cut: the step at which the next event file starts

    def metrics(self, frames: int, updates: int, values: Mapping[str, SupportsFloat]) -> None:
        """One line of named numbers (anything `float` accepts); non-finite numbers are written as null. Averages over
        episodes are no TensorBoard points, since each episode has its own."""
        line = metrics_line(frames, updates, values)
        with self._lock:
            self._append(METRICS, line)
            self._scalars(int(frames), {key: line[key] for key in values if not _is_average(key)})

    def episode(
        self, frames: int, updates: int, *, score: SupportsFloat, length: int, seed: int, kind: Kind,
        metrics: Mapping[str, float] | None = None, backend: str = "", protocol: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """One finished episode: its undiscounted return, its length in environment frames, its seed, what simulated it,
        the protocol of its evaluation, and what its environment reported, whose names must differ from the others."""
        if kind not in ("train", "eval"):
            raise ValueError(f"episode kind {kind!r} is not 'train' or 'eval'.")
        line = episode_line(
            frames, updates, score=score, length=length, seed=seed, kind=kind, metrics=metrics, backend=backend,
            protocol=protocol,
        )  # fmt: skip
        prefix = "episode" if kind == "train" else "eval"
        curves = {name: line[name] for name in ("score", "length", *(metrics or {}))}
        with self._lock:
            self._append(SCORES, line)
            self._scalars(int(frames), {f"{prefix}/{name}": value for name, value in curves.items()})

    def state(self) -> dict[str, Any]:
        """Where the logs end now, for the checkpoint (JSON); everything up to there is on disk."""
        with self._lock:
            files = {}
            for path in self._files():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    files[path.name] = os.fstat(file.fileno()).st_size
            return {"frames": self._frames, "files": files}

    def load(self, state: Mapping[str, Any]) -> None:
        """Cuts the logs back to where `state` was called."""
        with self._lock:
            self.close()
            for path in self._files():
                size = int(state["files"].get(path.name, 0))
                if size == 0:
                    path.unlink()
                elif size < path.stat().st_size:
                    os.truncate(path, size)
            self._frames = int(state["frames"])
            self._restart_step = self._frames + 1

    def truncate(self, *, frames: int, updates: int) -> None:
        """Drops every line beyond these counters; for logs whose sizes are not in a checkpoint."""
        with self._lock:
            self.close()
            for path in self._files():
                if path.suffix == ".jsonl":
                    kept = (
                        x for x in read_lines(path, **_COUNTERS) if x["frames"] <= frames and x["updates"] <= updates
                    )
                    write_durably(path, b"".join(map(_encode, kept)))
                else:
                    events = [record for record, event in read_events(path) if event.step <= frames]
                    write_durably(path, b"".join(events))
            self._frames = frames
            self._restart_step = frames + 1

    def start_over(self, note: Callable[[str], None]) -> None:
        """Drop every line of a run that has no checkpoint to continue from, and `note` it."""
        note(f"{self._logdir} has no checkpoint yet; the run starts over.")
        self.truncate(frames=-1, updates=-1)

    def rewind(self, updates: int) -> None:
        """Drops metrics and evaluations beyond `updates` after only the learner has gone back to it. Training episodes
        stay, since the environments have not gone back, with their update count capped at `updates`."""
        with self._lock:
            for name in (METRICS, SCORES):
                if name in self._lines:
                    self._lines.pop(name).close()
                if (path := self._logdir / name).exists():
                    kept = (
                        x for x in read_lines(path, **_COUNTERS) if x["updates"] <= updates or x.get("kind") == "train"
                    )
                    write_durably(path, b"".join(_encode(x | {"updates": min(x["updates"], updates)}) for x in kept))

    def close(self) -> None:
        with self._lock:
            for file in self._lines.values():
                file.close()
            self._lines.clear()
            if self._events is not None:
                self._events.close()
                self._events = None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _files(self) -> list[Path]:
        lines = [path for name in (METRICS, SCORES) if (path := self._logdir / name).exists()]
        return lines + sorted(self._logdir.glob(PATTERN))

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        data = _encode(line)
        if name not in self._lines:
            path = self._logdir / name
            drop_torn_line(path)
            self._lines[name] = path.open("ab")
        self._lines[name].write(data)
        self._lines[name].flush()
        self._frames = max(self._frames, int(line["frames"]))

    def _scalars(self, frames: int, values: Mapping[str, int | float | None]) -> None:
        if not self._tensorboard:
            return
        if self._events is None:
            self._events = EventFile(self._logdir, restart_step=self._restart_step)
        self._events.scalars(frames, {key: math.nan if value is None else value for key, value in values.items()})


def metrics_line(frames: int, updates: int, values: Mapping[str, SupportsFloat]) -> dict[str, Any]:
    """A line of metrics.jsonl. ValueError: a name that the line has itself."""
    line = {"frames": int(frames), "updates": int(updates), "time": round(time.time(), 3)}
    return _with_numbers(line, values)


def episode_line(
    frames: int, updates: int, *, score: SupportsFloat, length: int, seed: int, kind: Kind,
    metrics: Mapping[str, SupportsFloat] | None = None, backend: str = "",
    protocol: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A line of scores.jsonl. ValueError: a name among `metrics` that the line has itself."""
    line: dict[str, Any] = {"frames": int(frames), "updates": int(updates), "score": _number(score)}
    line |= {"length": int(length), "seed": int(seed), "kind": kind}
    line |= {"backend": backend} if backend else {}
    return _with_numbers(line | ({"protocol": dict(protocol)} if protocol else {}), metrics or {})


def _with_numbers(line: dict[str, Any], values: Mapping[str, SupportsFloat]) -> dict[str, Any]:
    if clash := line.keys() & values.keys():
        raise ValueError(f"metric names {sorted(clash)} are reserved for the line itself; choose other names.")
    return line | {key: _number(value) for key, value in values.items()}


def read_lines(path: str | Path, **needed: type) -> Iterator[dict[str, Any]]:
    """The lines of a `.jsonl` log, oldest first, without a last line torn by a crash.

    Raises ValueError naming the file if it cannot be read, and the line if an earlier one is damaged or has no value of
    the right type under a `needed` key.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; move it away.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        for number, data in enumerate(file, start=1):
            if not data.endswith(b"\n"):
                return
            where = f"{path}, line {number}"
            try:
                line = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} is not JSON ({error}); remove that line.") from error
            if not isinstance(line, dict):
                raise ValueError(f"{where} is not a JSON object: {in_short(line)}; remove that line.")
            for key, kind in needed.items():
                if not isinstance(line.get(key), kind):
                    raise ValueError(f"{where} has no {_KINDS[kind]} as {key}: {in_short(line)}; remove that line.")
            yield line


def in_short(line: Any) -> str:
    """The start of a line of JSON, for a message."""
    try:
        text = json.dumps(line)
    except RecursionError:  # nested too deeply to be written, though it could be read
        return "nested values"
    return text if len(text) <= 100 else f"{text[:100]}..."


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def _is_average(key: str) -> bool:
    """Whether its curve already has a point for each episode."""
    return key.startswith(("episode/", "eval/")) and key != "eval/mean"


def _number(value: SupportsFloat) -> int | float | None:
    if isinstance(value, (bool, int)):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def drop_torn_line(path: Path) -> None:
    """Cut a last line that a crash has torn, so that the next one does not become part of it."""
    if path.exists():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)
