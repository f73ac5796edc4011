"""The runs below some folders, found and followed while they come and go."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from deploy.monitor.run import Run
from deploy.monitor.suites import suite_of
from deploy.reports.metrics import METRICS, SCORES
from world_models.checkpoint_files import RUN_CONFIG

SEARCH = 3.0  # seconds between two searches for new runs
_DEPTH = 8
_INSIDE = frozenset({"checkpoints", "replay", "videos", "faults", "control"})
"""Folders of a run directory that hold no runs."""
Place = tuple[int, int]
"""Device and inode of a folder: the same whichever links lead to it."""


class Runs:
    """Follows the runs; any thread may use them under `lock`."""

    def __init__(self, folders: Iterable[Path]):
        self.folders = [folder.absolute() for folder in folders]
        self.lock = threading.RLock()
        self.by_id: dict[str, Run] = {}
        self._found: dict[Path, str] = {}
        self._searched = -SEARCH
        self.places: dict[tuple[str, str], int] = {}
        """Task and group, or suite and method, each with its place within its task or suite: its colour."""

    def refresh(self) -> tuple[list[str], list[str]]:
        """Ids of the runs that have changed, and of those that are gone."""
        if time.monotonic() - self._searched >= SEARCH:
            self._found = self._search()
            self._searched = time.monotonic()
        changed, gone = [], []
        with self.lock:
            known = {run.path: run for run in self.by_id.values()}
        for path, name in self._found.items():
            if path in known:
                known[path].name = name
            elif os.path.isdir(path):  # unlike Path.is_dir, false if nobody may look there now
                run = Run(path, name)
                run.refresh()
                with self.lock:
                    self.by_id[run.id] = run
                changed.append(run.id)
        for run in list(self.by_id.values()):
            with self.lock:
                if run.path not in self._found or not os.path.isdir(run.path):
                    del self.by_id[run.id]
                    gone.append(run.id)
                elif run.refresh() and run.id not in changed:
                    changed.append(run.id)
        with self.lock:
            self._assign_places()
        return changed, gone

    def tasks(self) -> dict[str, list[Run]]:
        """The runs of each task."""
        found: dict[str, list[Run]] = {}
        for run in self.by_id.values():
            found.setdefault(run.configuration.task, []).append(run)
        return found

    def _assign_places(self) -> None:
        """A group keeps its place as long as this process lives, whatever else comes or goes."""
        taken = Counter(task for task, _ in self.places)
        for run in sorted(self.by_id.values(), key=lambda run: (run.path.parent, run.name)):
            about = run.configuration
            for place in ((about.task, about.group), (suite_of(about.task), about.method)):
                if place[0] and place not in self.places:
                    self.places[place] = taken[place[0]]
                    taken[place[0]] += 1

    def _search(self) -> dict[Path, str]:
        found: dict[Place, tuple[Path, Path, str]] = {}
        for folder in self.folders:
            for place, path in _runs_below(folder, _DEPTH, set()):
                short = folder.name if path == folder else str(path.relative_to(folder))
                found.setdefault(place, (path, folder, short))
        often = Counter(short for *_, short in found.values())
        return {
            path: short if often[short] == 1 else str(Path(folder.name, short) if path != folder else path)
            for path, folder, short in found.values()
        }


def _runs_below(folder: Path, depth: int, seen: set[Place]) -> Iterator[tuple[Place, Path]]:
    """Each once, though links may lead to it twice or in a circle."""
    try:
        about = folder.stat()
        place = about.st_dev, about.st_ino
        if place in seen:
            return
        seen.add(place)
        with os.scandir(folder) as entries:
            files, folders = set(), []
            for entry in entries:
                if _is_folder(entry):
                    folders.append(entry.name)
                else:
                    files.add(entry.name)
    except OSError:
        return
    if SCORES in files or METRICS in files or RUN_CONFIG in files:
        yield place, folder
    if depth:
        for name in sorted(folders):
            if not name.startswith(".") and name not in _INSIDE:
                yield from _runs_below(folder / name, depth - 1, seen)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    with suppress(OSError):  # a link to itself, or to where nobody may look
        return entry.is_dir()
    return False
