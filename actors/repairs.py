"""Brings environments that fail back, one by one, and gives up those that keep failing."""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from actors import closing
from actors.environment import Environment, Step
from actors.faults import BrokenEnvironmentError, Kind

FIRST_PAUSE = 1.0  # seconds, after the second failure in a row; doubled after every further one
LONGEST_PAUSE = 30.0
FIRST_STEPS = 1000
"""Steps of an environment within which an error may be one of the task."""
JOINING = 5.0  # seconds that closing waits for environments that are being made


@dataclass(frozen=True, kw_only=True)
class EnvironmentFault:
    """One failure of environment `env_index` (across the run). `text`: what is wrong in one line, then a traceback or
    the last output of its process. `quarantined`: it is not made again."""

    env_index: int
    kind: Kind
    text: str
    quarantined: bool


class Repaired(NamedTuple):
    """An environment in place `i` that was made again, with the first step of a new episode; or why there is none."""

    i: int
    environment: Environment | None
    first: Step | None = None
    error: Exception | None = None


class CommonFailures:
    """Tells errors of a task from those of its N environments.

    An error is one of the task if all environments, two or more, have first failed in the same way after the same
    number of steps, at most 1,000, and made again have failed in that way after as many steps once more. One fault of
    something that they share, such as a server, is none: it does not come back after as many steps.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._firsts: dict[int, list[tuple[int, Kind]]] = {}

    def of_the_task(self, i: int, age: int, kind: Kind) -> bool:
        """Count a failure of environment i, `age` steps after it was made; whether it is one of the task."""
        firsts = self._firsts.setdefault(i, [])
        if len(firsts) < 2:
            firsts.append((age, kind))
        all_twice = sum(len(one) for one in self._firsts.values()) == 2 * self._count > 2
        alike = all_twice and {failure for one in self._firsts.values() for failure in one} == {(age, kind)}
        return alike and age <= FIRST_STEPS and kind in ("exception", "non_finite", "invalid")


class Repairs:
    """Of N environments, made by `makers`. A broken one is closed, made again and reset: at once after the first
    failure, after 1, 2, 4, ... seconds when it fails again before it has `worked`, and no more after `quarantine_after`
    failures in a row.

    The others go on meanwhile. Environments `apart`, in processes of their own, are made in the background; any other
    may be tied to the thread that acts, which makes it once its pause is over.
    """

    def __init__(self, makers: Sequence[Callable[[], Environment]], quarantine_after: int, apart: bool) -> None:
        self.makers, self.quarantine_after, self.apart = makers, quarantine_after, apart
        self.away: set[int] = set()
        """Places whose environment is broken, being made or given up."""
        self.quarantined: set[int] = set()
        self._failures = [0] * len(makers)  # in a row
        self._due: dict[int, tuple[float, int]] = {}  # when to make it again, and the seed of its episode
        self._done: queue.SimpleQueue[Repaired] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()

    @property
    def failing(self) -> bool:
        """Whether any failure is not forgotten yet."""
        return any(self._failures)

    def worked(self, i: int) -> None:
        """Environment i has finished an episode, or made many steps: its failures are forgotten."""
        self._failures[i] = 0

    def failed(
        self, i: int, env_index: int, error: BrokenEnvironmentError, old: Environment | None, seed: int
    ) -> EnvironmentFault:
        """Count a failure of environment i, close it (`old`), and have it made again for an episode of `seed`."""
        self._failures[i] += 1
        self.away.add(i)
        if given_up := self._failures[i] >= self.quarantine_after:
            self.quarantined.add(i)
        pause = 0.0 if self._failures[i] == 1 else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failures[i] - 2))
        if self.apart:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            work = threading.Thread(target=self._work, args=(i, old, pause, seed), name="repair", daemon=True)
            self._threads.append(work)
            work.start()
        else:
            _close(old)
            if not given_up:
                self._due[i] = (time.monotonic() + pause, seed)
        details = error.details or "".join(traceback.format_exception(error))
        text = f"{error}\n{details}".rstrip()
        return EnvironmentFault(env_index=env_index, kind=error.kind, text=text, quarantined=given_up)

    def returned(self, timeout: float) -> list[Repaired]:
        """Those that have been made again, or failed to be; if there are none, wait up to `timeout` seconds for one."""
        deadline = time.monotonic() + timeout
        due = min((due for due, _ in self._due.values()), default=deadline)
        found: list[Repaired] = []
        with suppress(queue.Empty):
            found.append(self._done.get(timeout=max(0.0, min(due, deadline) - time.monotonic())))
        for i in [i for i, (due, _) in self._due.items() if due <= time.monotonic()]:
            found.append(self._repair(i, self._due.pop(i)[1]))
        return found

    def close(self) -> None:
        """Make nothing more."""
        self._ending.set()
        self._due.clear()
        deadline = time.monotonic() + JOINING
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while not self._done.empty():
            _close(self._done.get().environment)

    def _work(self, i: int, old: Environment | None, pause: float, seed: int) -> None:
        _close(old)
        if i not in self.quarantined and not self._ending.wait(pause):
            self._done.put(self._repair(i, seed))

    def _repair(self, i: int, seed: int) -> Repaired:
        environment = None
        try:
            environment = self.makers[i]()
            return Repaired(i, environment, environment.reset(seed))
        except Exception as error:
            return Repaired(i, environment, error=error)


def _close(environment: Environment | None) -> None:
    if environment is not None:
        closing.close_anyway(environment, "a broken environment")
