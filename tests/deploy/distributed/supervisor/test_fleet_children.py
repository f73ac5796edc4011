"""Workers that are started, retired, called back, and given up, as real processes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.distributed.messages import NO_ENVIRONMENTS, News, State, actor_name
from deploy.distributed.remote import start
from deploy.distributed.supervisor.fleet_children import FleetChildren
from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.worker_child import WorkerChild
from deploy.run_failed import RunFailedError
from deploy.wiring.fleet import Fleet
from tests.contracts import ray_stores
from tests.integration.runs import wait_for

BLOCK = 16
RESTARTS = 1  # in a row


class Obedient:
    """In a Ray actor: an environment worker that does what the files of a folder say."""

    def __init__(self, folder: str, number: int) -> None:
        self.folder, self.number = Path(folder), number

    def run(self) -> str:
        """Until `retire` has its number; fails while `break` has it, and has no environment left once `empty` does."""
        while not (self.folder / f"retire-{self.number}").exists():
            if (self.folder / f"break-{self.number}").exists():
                raise RuntimeError(f"broken by wish, {time.monotonic()}")
            if (self.folder / f"empty-{self.number}").exists():
                return NO_ENVIRONMENTS
            (self.folder / f"runs-{self.number}").write_text(str(os.getpid()))
            time.sleep(0.02)
        return ""


class Site:
    """A fleet of two workers with two environments each, and what it has noted."""

    def __init__(self, folder: Path) -> None:
        ray_stores.started()
        self.folder, self.notes = folder, list[str]()
        self.log = RestartLog(folder, [])
        self.forgotten = list[str]()
        self.fleet = FleetChildren(Fleet(4, 2), self._begin, self.notes.append, BLOCK, self.forgotten.append)
        self.rows: dict[str, int] = {}
        self.acting: dict[str, int] = {}
        self.steps = 1000

    def _begin(self, number: int) -> WorkerChild:
        path = f"{__name__}.Obedient"
        return WorkerChild(
            actor_name(number), lambda: start(path, str(self.folder), number, cpus=0), self.folder, self.notes.append,
            self.log.add,
        )  # fmt: skip

    def news(self) -> News:
        state = State(counters={}, replay_size=0, fleet=self.fleet.fleet, actors=self.fleet.target)
        return News(
            frames=0, steps=self.steps, updates=0, version=0, lag=0.0, lag_seconds=0.0, episodes=[], logs=[],
            evaluations=[], rewound=None, saved=None, last_seen={}, processes={}, nodes={}, rows=self.rows,
            acting=self.acting,
            notes=[], failures=[], waiting={}, requests=[], state=state,
        )  # fmt: skip

    def check(self) -> list[str]:
        return self.fleet.check(self.news())

    def tell(self, what: str, number: int) -> Path:
        """Retire a worker, or let it fail; returns the file that says so."""
        (file := self.folder / f"{what}-{number}").touch()
        return file

    def process(self, number: int) -> int:
        """The process in which a worker runs now, from the first moment it runs."""
        (file := self.folder / f"runs-{number}").unlink(missing_ok=True)
        return int(wait_for(lambda: file.exists() and file.read_text(), f"worker {number} to run"))

    def gone(self, number: int) -> None:
        """Wait until a worker was found to have ended."""
        wait_for(lambda: actor_name(number) in self.check(), f"worker {number} to end")

    def fail(self, number: int) -> None:
        """Let a worker die once, and start it again at once."""
        self.gone(number)
        if number in self.fleet.workers:  # it may have been given up
            self.fleet.workers[number].restarts.retry_at = 0.0
        self.check()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("deploy.distributed.supervisor.restart_policy.RESTARTS", RESTARTS)
    one = Site(tmp_path)
    yield one
    one.fleet.end(0.0)


def ended(process: int) -> Any:
    return wait_for(lambda: not os.path.exists(f"/proc/{process}"), f"process {process} to end")


def test_workers_with_the_highest_numbers_leave_and_their_end_is_no_failure(site: Site) -> None:
    site.fleet.scale(3)
    processes = [site.process(number) for number in range(3)]
    assert len(set(processes)) == 3 and (site.fleet.running, site.fleet.environments) == (3, 6)
    assert site.fleet.at_work(site.news()) == (0, False, "")
    site.acting |= {"actor 0": 1, "actor 1": 1}
    site.fleet.workers[2].awaited = "a free CPU"
    assert site.fleet.at_work(site.news()) == (2, True, "actor 2 waits for a free CPU")
    site.acting["actor 2"] = 1
    assert site.fleet.at_work(site.news()) == (3, True, "")
    site.fleet.scale(1)
    assert site.fleet.at_work(site.news()) == (1, False, "")
    assert (site.fleet.running, site.fleet.environments, site.fleet.target) == (1, 2, 1)
    assert site.check() == [], "they end by themselves, when they have stored what they have done"
    each = site.fleet.status(site.news())["each"]
    assert [each[number]["leaving"] for number in ("0", "1", "2")] == [False, True, True]
    assert each["2"]["environments"] == [4, 5]
    for number in (1, 2):
        site.tell("retire", number)
        site.gone(number)
        ended(processes[number])
    assert list(site.fleet.workers) == [0] and site.process(0) == processes[0]
    assert not any(site.log.counts.values()) and not any("died" in note for note in site.notes)


def test_one_that_does_not_leave_in_time_is_killed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fleet.scale(2)
    process = site.process(1)
    monkeypatch.setattr("deploy.distributed.supervisor.fleet_children.LEAVING", 0.2)
    site.fleet.scale(1)
    site.gone(1)
    ended(process)
    assert any("actor 1 has not ended within 0.2 s after it was retired; killing it." in note for note in site.notes)
    assert not any(site.log.counts.values())


def test_one_that_is_wanted_again_before_it_has_left_is_started_anew(site: Site) -> None:
    site.fleet.scale(2)
    process = site.process(1)
    site.fleet.scale(1)
    retired = site.tell("retire", 1)
    site.fleet.scale(2)
    site.gone(1)
    retired.unlink()
    wait_for(lambda: site.process(1) != process, "worker 1 to run in another process")
    assert site.fleet.running == 2 and not any(site.log.counts.values())


def test_one_that_keeps_failing_is_given_up_while_another_works_until_scaling_starts_it_again(site: Site) -> None:
    site.fleet.scale(2)
    broken = site.tell("break", 1)
    for _ in range(RESTARTS):
        site.fail(1)
    site.gone(1)
    assert (site.fleet.running, site.fleet.target) == (1, 2)
    assert f"{RESTARTS + 1} times in a row" in site.fleet.given_up[1]
    assert "broken by wish" in site.fleet.status(site.news())["given_up"]["1"]
    assert any("goes on with 1 of 2 actors" in note for note in site.notes)
    broken.unlink()
    site.fleet.scale(2)
    site.process(1)
    assert site.fleet.running == 2 and not site.fleet.given_up

    site.tell("break", 0)
    site.tell("break", 1)

    def check_at_once() -> None:
        for one in site.fleet.workers.values():
            one.restarts.retry_at = 0.0
        site.check()

    with pytest.raises(RunFailedError, match="in a row; the last time: .*broken by wish"):
        wait_for(check_at_once, "the last worker to be given up")


def test_one_that_was_given_up_and_is_not_wanted_any_more_is_forgotten(site: Site) -> None:
    site.fleet.scale(2)
    site.tell("break", 1)
    for _ in range(RESTARTS):
        site.fail(1)
    site.gone(1)
    site.fleet.scale(1)
    assert not site.fleet.given_up


def test_a_failure_after_a_worker_was_called_back_is_counted(site: Site) -> None:
    site.fleet.scale(2)
    site.process(1)
    site.fleet.scale(1)
    site.fleet.scale(2)  # before it has heard of either: it goes on
    site.tell("break", 1)
    site.fail(1)
    assert site.log.counts["actor 1"] == 1 and "broken by wish" in (site.folder / "actor-1.log").read_text()


@pytest.mark.parametrize("empty_first", [True, False])
def test_a_run_fails_when_all_are_given_up_or_without_environments(site: Site, empty_first: bool) -> None:
    site.fleet.scale(2)
    assert site.forgotten == ["actor 0", "actor 1"]

    def empty() -> None:
        site.tell("empty", 0)
        wait_for(lambda: site.check() or site.fleet.workers[0].idle, "worker 0 to end")

    def break_down() -> None:
        site.tell("break", 1)
        for _ in range(RESTARTS):
            site.fail(1)
        site.gone(1)

    with pytest.raises(RunFailedError, match="broken by wish"):
        for step in (empty, break_down) if empty_first else (break_down, empty):
            assert site.fleet.running >= 1
            step()
    assert site.fleet.status(site.news())["each"]["0"]["idle"] and site.fleet.running <= 1
