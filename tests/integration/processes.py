"""The processes of a run that a test started, Ray's own included, found by a mark in their environment."""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from tests.integration.runs import execute

MARK = "PWD_OF_RUN"
_started: dict[str, list[subprocess.Popen[str]]] = {}


def start_marked(directory: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start a run in `directory`; everything that it starts inherits the mark."""
    os.environ[MARK] = str(directory)
    try:
        process = execute(directory, arguments)
    finally:
        del os.environ[MARK]
    _started.setdefault(str(directory), []).append(process)
    return process


def members(directory: Path) -> list[psutil.Process]:
    """The processes of the runs started in `directory`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(directory):
                found.append(process)
        except psutil.Error:
            continue
    return found


def named(directory: Path, part: str) -> list[psutil.Process]:
    """Those with `part` in their command line."""
    return having(members(directory), part)


def having(processes: Iterable[psutil.Process], part: str) -> list[psutil.Process]:
    """Those of `processes` that have not ended, with `part` in their command line."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if any(part in word for word in process.cmdline()):
                found.append(process)
    return found


def end_all(directory: Path) -> None:
    """Kill whatever is left."""
    end(members(directory))
    for process in _started.pop(str(directory), []):  # or Python warns of it in the midst of another test
        process.poll()


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill them, and wait until they have ended."""
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it may just have ended
            process.kill()
            process.wait(10)
