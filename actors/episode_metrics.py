"""Metrics that an environment reports in its info: success, achievements and named numbers, without adapter code.

The last value of `info["is_success"]` in an episode counts: these tasks ask whether the goal is reached at the end. The
same holds for the numbers in `info["episode"]`, and in `info["achievements"]`, whose counts only grow. A number under
`log/KEY` in info is aggregated over the frames of the episode and the answer of reset, to `log/KEY/avg`, `log/KEY/max`
and `log/KEY/sum`, as in DreamerV3's official program.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from actors.faults import LARGEST

Info = Mapping[str, float | str]
"""Numbers of one frame under `is_success`, `log/KEY`, `achievements/NAME` or `episode/NAME`. A text takes the place
of a value that is not a usable number and says what it is."""

MOST = 100
"""The most metrics of an episode; those that come first are kept."""
LONGEST = 100  # characters of a name
RESERVED = frozenset({"frames", "updates", "time", "score", "length", "seed", "kind", "mean", "backend", "protocol"})
"""Names of other columns and curves: a metric with one of them gets the prefix `info/`."""
ACHIEVEMENTS = "achievements/"
"""How the columns of achievements begin."""
_GROUPS = ("achievements", "episode")
_READ = 2 * MOST  # of one frame's info
_NOTED = 20  # notes of one process
_AGGREGATES = ("avg", "max", "sum")


def read_info(info: Any) -> dict[str, float | str]:
    """What an environment's info says; empty for anything but a dictionary. None counts as absent."""
    out: dict[str, float | str] = {}
    if not isinstance(info, dict) or not info:
        return out
    for key, value in info.items():
        if not isinstance(key, str) or value is None:
            continue
        if key in _GROUPS:
            _read_group(out, key, value)
        elif key == "is_success" or key.startswith("log/"):
            out[key] = as_number(value)
        if len(out) >= _READ:
            break
    return out


def _read_group(out: dict[str, float | str], group: str, values: Any) -> None:
    if not isinstance(values, dict):
        out[group] = f"a {type(values).__name__}, not a dictionary"
        return
    for name, value in values.items():
        if len(out) >= _READ:
            return
        if not isinstance(name, (str, int)):
            out[group] = f"a dictionary with a {type(name).__name__} among its keys"
        elif value is not None:
            out[f"{group}/{name}"] = as_number(value)


def as_number(value: Any) -> float | str:
    """`value` as an int or float if it is one finite number that fits float32, or an array of one; else what it is."""
    kind = type(value)
    if (kind is float or kind is int) and -LARGEST <= value <= LARGEST:  # nearly always
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        if value.size != 1 or value.dtype.kind not in "biuf":
            return f"an array of {value.dtype} of shape {value.shape}, not a number"
        value = float(value.item()) if value.dtype.kind == "f" else int(value.item())
    if isinstance(value, int):  # a bool too
        return int(value) if abs(value) <= LARGEST else f"beyond {LARGEST:.2g}"
    if isinstance(value, float):
        if abs(value) <= LARGEST:  # false for NaN
            return float(value)
        return f"beyond {LARGEST:.2g}" if np.isfinite(value) else f"{float(value)}"
    return f"a {type(value).__name__}, not a number"


def is_usable(name: str) -> bool:
    """Whether a metric may have this name."""
    return 0 < len(name) <= LONGEST and name.isprintable()


def achievement_score(metrics: Mapping[str, Sequence[float]]) -> float | None:
    """Crafter's score of episodes with these metrics, `exp(mean(ln(1 + s))) - 1` in percent (Hafner 2021).

    `s` is the success rate of one achievement: the percentage of episodes that unlocked it. None without achievements.
    """
    rates = [
        100 * fmean(value > 0 for value in values)
        for name, values in metrics.items()
        if name.startswith(ACHIEVEMENTS)
    ]  # fmt: skip
    return math.expm1(fmean(map(math.log1p, rates))) if rates else None


class Names:
    """The names of metrics that are kept, at most `MOST`."""

    def __init__(self) -> None:
        self._kept: set[str] = set()
        self._full = False

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def admit(self, names: Iterable[str]) -> list[str]:
        """Keep those of `names` that are new while there is room. Returns a note when names are left out, once for a
        lack of room."""
        new = [name for name in names if name not in self._kept]
        left = []
        for name in new:
            if len(self._kept) < MOST:
                self._kept.add(name)
            else:
                left.append(name)
        if not left or self._full:
            return []
        self._full = True
        more = ", ..." if len(left) > 10 else ""
        return [
            f"An episode has at most {MOST} metrics from info; left out: {', '.join(sorted(left)[:10])}{more}. Report "
            "fewer, or sum some of them up."
        ]


class EpisodeMetrics:
    """Collects the metrics of the open episodes of several environments, each known by its index."""

    def __init__(self) -> None:
        self._latest: dict[int, dict[str, float]] = {}
        self._sums: dict[int, dict[str, tuple[int, float, float]]] = {}  # count, maximum, sum
        self._names = Names()
        self._columns: dict[str, str] = {}  # of the names that can be used
        self._noted: set[str] = set()
        self._notes: list[str] = []

    def begin(self, index: int) -> None:
        """A new episode of environment `index`; an open one is forgotten."""
        self._latest.pop(index, None)
        self._sums.pop(index, None)

    def add(self, index: int, infos: Iterable[Info]) -> None:
        """What environment `index` says, one info a frame."""
        for info in infos:
            for name, value in info.items():
                if isinstance(value, str):
                    self._note(name, f"info {name!r} is {value}: it is left out.")
                elif not (column := self._columns.get(name) or self._column(name)):
                    continue
                elif name.startswith("log/"):
                    sums = self._sums.setdefault(index, {})
                    count, largest, total = sums.get(column, (0, value, 0))
                    sums[column] = count + 1, max(largest, value), total + value
                else:
                    self._latest.setdefault(index, {})[column] = value

    def end(self, index: int) -> dict[str, float]:
        """The metrics of the episode of environment `index`, which has ended."""
        metrics = self._latest.pop(index, {})
        for column, (count, largest, total) in self._sums.pop(index, {}).items():
            values = (total / count, largest, total)
            metrics |= {
                f"{column}/{how}": value
                for how, value in zip(_AGGREGATES, values, strict=True)
                if abs(value) <= LARGEST
            }
        if not metrics:
            return metrics
        self._notes += self._names.admit(metrics)
        return {name: value for name, value in metrics.items() if name in self._names}

    def notes(self) -> tuple[str, ...]:
        """What the run's log should say, since the last call: each line once."""
        out, self._notes = tuple(self._notes), []
        return out

    def _column(self, name: str) -> str:
        """The column of a name that is new; empty if it cannot be one."""
        if len(self._columns) >= _READ:
            return ""
        column = name.removeprefix("episode/")
        if name == "log/" or not is_usable(column):
            self._note(name[:LONGEST], f"info {name[:LONGEST]!r} is left out: use 1 to {LONGEST} printable characters.")
            return ""
        if column in RESERVED:
            self._note(name, f"info {name!r} is kept as info/{column}: {column} is the name of another column.")
            column = f"info/{column}"
        self._columns[name] = column
        return column

    def _note(self, name: str, line: str) -> None:
        if name not in self._noted and len(self._noted) < _NOTED:
            self._noted.add(name)
            self._notes.append(line)
