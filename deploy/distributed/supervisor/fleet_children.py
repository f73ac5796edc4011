"""The environment workers of a run, as many as are asked for at the moment."""

import time
from collections.abc import Callable
from typing import Any

import ray

from deploy.distributed.messages import News
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.distributed.whereabouts import end
from deploy.run_failed import RunFailedError
from deploy.wiring.fleet import Fleet

LEAVING = 60.0  # seconds for a worker to finish its block and store it
BLOCKS = 4  # that each environment of a worker must write before the worker's failures are forgotten


class FleetChildren:
    """Starts and retires workers. Those with the highest numbers leave first; the coordinator tells them."""

    def __init__(
        self, fleet: Fleet, begin: Callable[[int], WorkerChild], note: Callable[[str], None], block: int,
        forget: Callable[[str], object],
    ):  # fmt: skip
        """`begin`: makes worker number n, to be launched; `block`: steps of each environment between two reports;
        `forget`: drops signs of life of an earlier worker of that name."""
        self.fleet, self.note, self._forget = fleet, note, forget
        self._begin, self._block = begin, block
        self.target = 0
        self.workers: dict[int, WorkerChild] = {}
        self.given_up: dict[int, str] = {}
        """Workers that failed too often, and why; scaling starts them again."""
        self._leaving: dict[int, float] = {}  # until when
        self._called_back: set[int] = set()  # told to leave, and wanted again before they had left

    @property
    def running(self) -> int:
        """Workers that there are, without those on their way out and those that have no environment left."""
        return sum(number not in self._leaving and not one.idle for number, one in self.workers.items())

    @property
    def environments(self) -> int:
        """Environments of the workers that there should be."""
        return self.fleet.total(self.target)

    def scale(self, actors: int) -> None:
        """Let there be `actors` workers, numbers 0 to actors - 1. The coordinator must know already."""
        for number in range(actors):
            if self._leaving.pop(number, None) is not None:
                self._called_back.add(number)
            if number not in self.workers:
                self._start(number)
        for number in self.workers:
            if number >= actors:
                self._leaving.setdefault(number, time.monotonic() + LEAVING)
        self.given_up.clear()  # those that are wanted have been started again
        self.target = actors

    def _start(self, number: int) -> None:
        one = self.workers[number] = self._begin(number)
        self._forget(one.name)
        one.launch()

    def check(self, news: News) -> list[str]:
        """Look after every worker once. Returns the names of those that have ended. RunFailedError: none is left that
        could work, or one failed for good before anything had worked."""
        gone = []
        for number, one in list(self.workers.items()):
            if number in self._leaving:
                if self._left(number, one):
                    gone.append(one.name)
            elif number in self._called_back and one.returned:
                self._called_back.discard(number)
                self._start(number)
                gone.append(one.name)
            elif self._failed(number, one, news):
                gone.append(one.name)
        if self.given_up and not self.running:
            reason = list(self.given_up.values())[-1]
            raise RunFailedError(f"No actor is left: those not given up have no environment that works. {reason}")
        return gone

    def _failed(self, number: int, one: WorkerChild, news: News) -> bool:
        rows = news.rows.get(one.name, 0)
        try:
            return one.check(news.last_seen.get(one.name), rows >= self._rows_of_work(number))
        except RunFailedError as error:
            if not news.steps or self.running == 1:
                raise
            self.given_up[number] = str(error)
            del self.workers[number]
            self.note(
                f"{error} It is given up; the run goes on with {self.running} of {self.target} actors. `nexus scale` "
                "starts it again."
            )
            return True

    def _rows_of_work(self, number: int) -> int:
        return BLOCKS * self._block * len(self.fleet.share(number).indices)

    def _left(self, number: int, one: WorkerChild) -> bool:
        if not one.ended:
            if time.monotonic() < self._leaving[number]:
                return False
            self.note(f"{one.name} has not ended within {LEAVING:g} s after it was retired; killing it.")
        if one.handle is not None:
            end(one.handle)
        del self.workers[number], self._leaving[number]
        self._called_back.discard(number)
        self.note(f"{one.name} has ended; {self.running} are left.")
        return True

    def at_work(self, news: News) -> tuple[int, bool, str]:
        """How many workers act; whether no other is starting or ending; what those wait for that have no place."""
        staying = {number: one for number, one in self.workers.items() if number not in self._leaving and not one.idle}
        without = {number: one for number, one in staying.items() if one.name not in news.acting}
        waiting = [f"{one.name} waits for {one.awaited}" for one in without.values() if one.awaited]
        settled = not self._leaving and len(waiting) == len(without)
        return len(staying) - len(without), settled, waiting[0] if waiting else ""

    def end(self, timeout: float) -> None:
        """Wait for those that were told to stop; what has not ended by then is killed."""
        tasks: list[Any] = [one.task for one in self.workers.values() if one.task is not None]
        if tasks and timeout:
            ray.wait(tasks, num_returns=len(tasks), timeout=timeout)
        for one in self.workers.values():
            if one.handle is not None:
                ray.kill(one.handle)

    def status(self, news: News) -> dict[str, Any]:
        """For `status.json`."""
        each = {}
        for number, one in sorted(self.workers.items()):
            each[str(number)] = {
                "process": news.processes.get(one.name), "node": news.nodes.get(one.name),
                "environments": self.fleet.share(number).indices, "rows": news.rows.get(one.name, 0),
                "version": news.acting.get(one.name), "seconds_since_report": news.last_seen.get(one.name),
                "leaving": number in self._leaving, "idle": one.idle, "waits_for": one.awaited or None,
            }  # fmt: skip
        return {
            "target": self.target, "running": self.running, "environments": self.environments, "each": each,
            "given_up": {str(number): reason for number, reason in self.given_up.items()},
        }  # fmt: skip
