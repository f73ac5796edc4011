"""The logs of a run as columns of numbers, each frame once. Legend: P lines."""

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.monitor.tail import Tail

TRAIN, EVAL = 0.0, 1.0
_KINDS = {"train": TRAIN, "eval": EVAL}
_LARGEST = 1e100  # larger numbers cannot be averaged and drawn without overflow
_MOST_COLUMNS = 2000
_MANY = 64  # lines that are worth adding at once
_TEXTS = ("kind", "protocol", "backend")


class History:
    """The lines of metrics.jsonl or scores.jsonl.

    A run that went back to a checkpoint writes some frames again. Its logs are cut then; lines that are left over
    because it died before that are replaced by the newer ones.
    """

    def __init__(self, path: Path):
        self._tail = Tail(path)
        self._columns: dict[str, array[float]] = {}
        self._length = 0
        self._newest = {TRAIN: -math.inf, EVAL: -math.inf}
        self.revision = 0
        """Grows with each change."""

    def __len__(self) -> int:
        return self._length

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    @property
    def damaged(self) -> int:
        """Lines that were left out."""
        return self._tail.damaged

    def column(self, name: str) -> np.ndarray:
        """Values [P], NaN where a line has none."""
        values = self._columns.get(name)
        return np.full(self._length, np.nan) if values is None else np.array(values, np.float64)

    def refresh(self) -> bool:
        """Read what is new; True if something is."""
        anew, lines = self._tail.read()
        if anew:
            self._keep(np.zeros(self._length, bool))
            self._newest = dict.fromkeys(self._newest, -math.inf)
        if not self._add_all(lines):
            for line in lines:
                self._add(line)
        self.revision += bool(anew or lines)
        return bool(anew or lines)

    def _add_all(self, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Add many lines at once, if they are all alike and none goes back; else nothing is added."""
        if len(lines) < _MANY or len({frozenset(line) for line in lines}) != 1:
            return False
        names = [name for name in lines[0] if name not in _TEXTS]
        columns = [_numbers([line[name] for line in lines]) for name in names]
        found = dict(zip(names, map(np.array, columns), strict=True))
        kinds = np.array([_kind(line) for line in lines])
        nothing = np.full(len(lines), np.nan)
        updates, newest = found.get("updates", nothing), dict(self._newest)
        if not (np.minimum(updates, found.get("frames", nothing)) >= 0).all():  # false for NaN
            return False
        for sort, own in ((EVAL, updates[kinds == EVAL]), (TRAIN, updates[kinds != EVAL])):
            steps = np.diff(own, prepend=newest[sort]) if len(own) else own
            if (steps < 0).any() or np.isnan(kinds).any() and (steps == 0).any():
                return False
            newest[sort] = float(own[-1]) if len(own) else newest[sort]
        if set(self._columns) - set(names) - {"kind"} or (self._length and set(names) - set(self._columns)):
            return False
        for name, values in zip(names, columns, strict=True):
            self._columns.setdefault(name, array("d")).extend(values)
        if not np.isnan(kinds).all():
            self._columns.setdefault("kind", array("d")).extend(array("d", kinds.tobytes()))
        self._length, self._newest = self._length + len(lines), newest
        return True

    def _add(self, line: Mapping[str, Any]) -> None:
        frames, updates = number(line.get("frames")), number(line.get("updates", 0))
        if not (0 <= frames < _LARGEST and 0 <= updates < _LARGEST):
            self._tail.damaged += 1
            return
        kind = _kind(line)
        sort = EVAL if kind == EVAL else TRAIN  # evaluations lag behind, so their updates are an order of their own
        if updates < self._newest[sort] or (math.isnan(kind) and updates == self._newest[sort]):
            self._go_back(kind, frames, updates)
        self._newest[sort] = updates
        for name, value in line.items():
            if name not in _TEXTS and isinstance(value, int | float | None):
                self._put(name, number(value))
        if not math.isnan(kind):
            self._put("kind", kind)
        self._length += 1
        for values in self._columns.values():
            if len(values) < self._length:
                values.append(math.nan)

    def _put(self, name: str, value: float) -> None:
        values = self._columns.get(name)
        if values is None:
            if len(self._columns) >= _MOST_COLUMNS:
                return
            values = self._columns[name] = array("d", [math.nan]) * self._length
        values.append(value)

    def _go_back(self, kind: float, frames: float, updates: float) -> None:
        later = self.column("updates")
        if math.isnan(kind):  # a line of metrics
            replaced = later >= updates
        elif kind == EVAL:
            replaced = (self.column("kind") == EVAL) & (later >= updates)
        else:  # after only the learner has gone back, earlier episodes stay
            replaced = (self.column("kind") == TRAIN) & (later > updates) & (self.column("frames") >= frames)
        self._keep(~replaced)

    def _keep(self, kept: np.ndarray) -> None:
        if not kept.all():
            self._columns = {
                name: array("d", np.array(values, np.float64)[kept].tobytes()) for name, values in self._columns.items()
            }
            self._length = int(kept.sum())


def _kind(line: Mapping[str, Any]) -> float:
    """TRAIN or EVAL; NaN for a line of metrics, and for anything else."""
    said = line.get("kind")
    return _KINDS.get(said, math.nan) if isinstance(said, str) else math.nan


def _numbers(values: Sequence[Any]) -> "array[float]":
    """`number` of each."""
    try:
        found = np.array(array("d", values))
    except (TypeError, OverflowError):
        return array("d", map(number, values))
    return array("d", np.where(np.abs(found) < _LARGEST, found, np.nan).tobytes())


def number(value: Any) -> float:
    """`value` as a float; NaN if it is none, or cannot be averaged and drawn."""
    try:
        plain = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan
    return plain if abs(plain) < _LARGEST else math.nan
