"""What a run says of its world model's health, each report read once."""

import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from deploy.monitor.answers import plain
from deploy.monitor.history import number
from deploy.reports.health.files import FOLDER, KEEP
from deploy.reports.health.verdicts import Verdict, verdicts
from deploy.wiring.config import HealthConfig
from replay.files.regular_file import open_regular
from world_models.dataclass_json import from_json

NAME = re.compile(r"report-(\d{8,16})\.json")
PARTS = ("horizon", "memory", "returns", "reward", "forgetting", "actions", "cost")
_LARGEST = 1 << 20  # bytes of a report
_LONGEST = 4000  # numbers of a list
_MOST_KEYS = 64
_MARK = secrets.token_hex(4)
"""Of this process: serial numbers begin anew in another."""
_CURSOR = re.compile(r"([0-9a-f]{8})\.(\d{1,18})\.(\d{1,18})")
_LARGEST_COUNT = 1e15
_TREND = {
    "returns": ("imagined_mean", "real_mean"), "reward": ("error",), "forgetting": ("oldest", "newest", "ratio"),
    "actions": ("true", "shuffled", "ratio"),
}  # fmt: skip
"""Numbers that are drawn over updates."""


class _Read(NamedTuple):
    about: tuple[int, int, int]
    serial: int
    """Grows with each report that is read."""
    report: dict[str, Any] | None
    """None: it is no report."""


class HealthReports:
    """The reports in a run's `health/`. Those left over from before the run went back to a checkpoint do not count."""

    def __init__(self, logdir: Path):
        self._folder = logdir / FOLDER
        self._read: dict[str, _Read] = {}
        self._serial = 0
        self._judged: tuple[Any, list[Verdict]] = (None, [])

    def look(self) -> None:
        """Read what is new."""
        found: dict[str, _Read] = {}
        with suppress(OSError), os.scandir(self._folder) as entries:
            named = {int(name[1]): entry for entry in entries if (name := NAME.fullmatch(entry.name))}
            for updates in sorted(named)[-KEEP:]:
                entry = named[updates]
                with suppress(OSError):
                    there = entry.stat(follow_symlinks=False)
                    about = there.st_ino, there.st_mtime_ns, there.st_size
                    known = self._read.get(entry.name)
                    if known is None or known.about != about:
                        self._serial += 1
                        readable = stat.S_ISREG(there.st_mode) and there.st_size <= _LARGEST
                        known = _Read(about, self._serial, read_report(Path(entry.path)) if readable else None)
                    found[entry.name] = known
        self._read = found

    @property
    def damaged(self) -> int:
        """Files that are no reports."""
        return sum(one.report is None for one in self._read.values())

    def standing(self) -> list[tuple[int, dict[str, Any]]]:
        """Serial numbers and reports, by updates."""
        every = [(one.serial, one.report) for one in self._read.values() if one.report is not None]
        kept: list[tuple[int, dict[str, Any]]] = []
        for serial, report in sorted(every, key=lambda one: (-one[1]["time"], -one[1]["updates"])):
            if not kept or report["updates"] < kept[-1][1]["updates"]:
                kept.append((serial, report))
        return kept[::-1]

    @property
    def written_at(self) -> float:
        """When the newest report was written, in seconds since 1970."""
        found = self.standing()
        return float(found[-1][1]["time"]) if found else -math.inf

    def verdicts(self, values: Mapping[str, Any]) -> list[Verdict]:
        """On the newest report, by the thresholds of the run's configuration (`values`, by dotted names)."""
        every = self.standing()
        about = [serial for serial, _ in every], rules_of(values)
        if self._judged[0] != about:
            self._judged = about, verdicts([report for _, report in every], about[1])
        return self._judged[1]


def answer(reports: HealthReports, values: Mapping[str, Any], after: str = "") -> dict[str, Any]:
    """What a page shows that has been told of everything up to the cursor `after`; everything if another process gave
    that. `values`: the run's configuration by dotted names."""
    found = reports.standing()
    serial, newest = found[-1] if found else (0, None)
    given = _CURSOR.fullmatch(after)
    known, shown = (int(given[2]), int(given[3])) if given and given[1] == _MARK else (0, 0)
    last = max((one for one, _ in found), default=0)
    return {
        "cursor": f"{_MARK}.{last}.{serial}", "updates": [report["updates"] for _, report in found],
        "trend": [_point(report) for one, report in found if one > known],
        "newest": newest if serial != shown else None, "damaged": reports.damaged,
        "verdicts": [asdict(one) for one in reports.verdicts(values)] if found else [],
    }  # fmt: skip


def rules_of(values: Mapping[str, Any]) -> HealthConfig:
    """The thresholds of a run's configuration; the defaults where it has none, or wrong ones."""
    own = {name.removeprefix("health."): one for name, one in values.items() if name.startswith("health.")}
    try:
        return from_json(HealthConfig, own)
    except ValueError:
        return HealthConfig()


def read_report(path: Path) -> dict[str, Any] | None:
    """A report whose numbers are finite or None and whose parts have the form of such, or are None, whatever the file
    holds; None if it is none."""
    try:
        with open_regular(path) as file:
            found = plain(json.loads(file.read(_LARGEST + 1)))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not 0 <= number(found.get("updates")) < _LARGEST_COUNT:
        return None
    report: dict[str, Any] = {"frames": 0, "time": 0.0} | _scalars(found)
    missing = _mapping(found.get("missing"))
    report["missing"] = {str(part): str(text)[:400] for part, text in missing.items()}
    for part in PARTS:
        own = found.get(part)
        report[part] = _FORMS.get(part, _scalars)(own) if isinstance(own, dict) else None
    return report | {"updates": int(report["updates"])}


def _horizon(found: Mapping[str, Any]) -> dict[str, Any] | None:
    keys = {}
    for name, one in list(_mapping(found.get("keys")).items())[:_MOST_KEYS]:
        if isinstance(one, dict) and (model := _numbers(one.get("model"))):
            unit, still = one.get("unit"), _numbers(one.get("still"))
            if len(still) == len(model):
                keys[name[:100]] = _scalars(one) | {
                    "model": model, "still": still, "unit": unit[:60] if isinstance(unit, str) else "",
                    "gained": _numbers(one.get("gained")),
                }  # fmt: skip
    return {"context": 0} | _scalars(found) | {"keys": keys} if keys else None


def _returns(found: Mapping[str, Any]) -> dict[str, Any] | None:
    both = zip(_numbers(found.get("imagined")), _numbers(found.get("real")), strict=False)
    pairs = [pair for pair in both if None not in pair]
    return _scalars(found) | {"imagined": [a for a, _ in pairs], "real": [b for _, b in pairs]} if pairs else None


def _reward(found: Mapping[str, Any]) -> dict[str, Any]:
    bins = found.get("bins")
    rows = [_scalars(one) for one in (bins if isinstance(bins, list) else [])[:_LONGEST] if isinstance(one, dict)]
    return _scalars(found) | {"bins": [one for one in rows if one.keys() >= {"predicted", "actual", "count"}]}


_FORMS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
    "horizon": _horizon, "returns": _returns, "reward": _reward,
}  # fmt: skip
"""Parts that hold more than single numbers."""


def _point(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a report that are drawn over updates."""
    point = {name: report[name] for name in ("updates", "frames", "time")}
    for part, names in _TREND.items():
        point |= {f"{part}/{name}": (report[part] or {}).get(name) for name in names}
    return point


def _scalars(found: Mapping[str, Any]) -> dict[str, Any]:
    every = {str(name)[:100]: value for name, value in found.items() if _finite(value) is not None}
    return dict(list(every.items())[:_MOST_KEYS])


def _finite(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and math.isfinite(number(value)) else None


def _numbers(values: Any) -> list[float | None]:
    return [_finite(one) for one in values[:_LONGEST]] if isinstance(values, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
