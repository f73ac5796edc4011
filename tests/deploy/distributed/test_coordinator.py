"""Where the processes of a local run meet."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.batch_environment import Episode
from deploy.distributed.coordinator import Coordinator
from deploy.distributed.messages import ActorReport, Answer, Limits, Published, State
from deploy.distributed.roster import RARELY, REPORTS
from deploy.wiring.fleet import Fleet, Share
from deploy.wiring.incarnations import Incarnations
from world_models.snapshot import Snapshot

LIMITS = Limits(samples_per_insert=2.0, tolerance=100.0, min_size=1)
STATE = State(counters={}, replay_size=0, fleet=Fleet(environments=6, actors=2), actors=2)


class Meeting(Coordinator):
    """A coordinator asked from outside its event loop."""

    def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(call)

    def reported(self, report: ActorReport, rows: int = 10, timeout: float = 1) -> str:
        verdict: str = self.ask(self.report(report, rows, timeout)).verdict
        return verdict

    def sampled(self, steps: int = 10, timeout: float = 1) -> str:
        verdict: str = self.ask(self.sample(steps, timeout))
        return verdict


@pytest.fixture
def meeting(tmp_path: Path) -> Meeting:
    return _meeting(tmp_path)


def _meeting(logdir: Path, limits: Limits = LIMITS, state: State = STATE) -> Meeting:
    meeting = Meeting(limits, Incarnations(logdir, 2), state)
    meeting.publish(_published(0))
    return meeting


def _report(rows: int = 0, ended: Sequence[int] = (), worker: int = 0, version: int = 0) -> ActorReport:
    episodes = [Episode(env_index=0, episode=i, seed=i, score=0.0, length=1, frames=at) for i, at in enumerate(ended)]
    return ActorReport(worker=worker, process=1, rows=rows, frames=rows, version=version, episodes=episodes)


def _published(updates: int) -> Published:
    snapshot = Snapshot(version=0, updates=updates, time=0.0, buffer=np.zeros(1, np.float32), checksum=0)
    return Published(snapshot=snapshot, buffer=[])


def test_updates_that_a_dead_learner_lost_may_be_sampled_again(meeting: Meeting) -> None:
    assert meeting.reported(_report(), 10, 1) == "go"
    assert [meeting.sampled(10, 0.1) for _ in range(4)] == ["go"] * 4
    meeting.rewind(1, 10)  # the checkpoint of update 1: three of the four are lost
    assert meeting.sampled(10, 1) == "publish", "what the dead learner stored is gone"
    meeting.publish(_published(1))
    assert meeting.counters()["samples"] == 10
    assert meeting.news().updates == 1
    assert meeting.sampled(10, 0.1) == "go"
    meeting.progress(2)
    meeting.rewind(2, 10)  # saved after that one: nothing is lost
    assert meeting.counters()["samples"] == 20


def test_train_ratio_0_never_lets_the_learner_sample(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, samples_per_insert=0.0))
    assert [meeting.reported(_report(10), 10, 1) for _ in range(50)] == ["go"] * 50
    assert meeting.sampled(10, 0.05) == "wait"
    meeting.stop()
    assert meeting.sampled(10, 5) == "stop"


def test_every_life_of_every_actor_has_a_number_of_its_own(meeting: Meeting) -> None:
    assert [meeting.incarnation(actor) for actor in (0, 1, 0)] == [3, 3, 4]
    assert meeting.counters()["incarnation"] == 4


def test_signs_of_life_end_with_forget(meeting: Meeting) -> None:
    meeting.alive("evaluator")
    meeting.reported(_report(5), 1, 1)
    news = meeting.news()
    assert news.last_seen.keys() == {"actor 0", "evaluator", "learner"} and news.rows == {"actor 0": 5}
    meeting.forget("actor 0")
    assert meeting.news().last_seen.keys() == {"evaluator", "learner"}


def test_everything_has_the_counts_of_the_moment_it_is_about(meeting: Meeting) -> None:
    meeting.reported(_report(100), 1, 1)
    meeting.publish(_published(5))
    meeting.progress(7, {"loss": 1.0})
    meeting.reported(_report(50, ended=(10, 48)), 1, 1)
    meeting.reported(_report(50, ended=(3,)), 1, 1)
    snapshot = meeting.newest(-1)
    assert snapshot and snapshot.snapshot.frames == 100
    news = meeting.news()  # long after
    assert [(episode.frames, updates) for episode, updates in news.episodes] == [(110, 7), (148, 7), (153, 7)]
    assert [(line.frames, line.steps, line.updates) for line in news.logs] == [(100, 100, 7)]
    assert (news.frames, news.updates, news.rewound) == (200, 7, None)


def test_nothing_is_told_of_updates_that_are_lost(meeting: Meeting) -> None:
    meeting.progress(4, {"loss": 1.0})
    meeting.progress(9, {"loss": 1.0})
    meeting.reported(_report(50, ended=(10,)), 1, 1)
    for updates in (4, 9):
        meeting.evaluated({"updates": updates, "frames": 0})
    meeting.rewind(5, 10)
    meeting.evaluated({"updates": 8, "frames": 0})  # it was still playing
    meeting.progress(6, {"loss": 1.0})
    meeting.rewind(6, 10)
    news = meeting.news()
    assert news.rewound == 5
    assert [updates for _, updates in news.episodes] == [5]
    assert [line.updates for line in news.logs] == [4, 6]
    assert [result["updates"] for result in news.evaluations] == [4]


def test_a_coordinator_goes_on_where_the_one_before_it_was_last_heard(meeting: Meeting, tmp_path: Path) -> None:
    meeting.reported(_report(30), 10, 1)
    meeting.incarnation(0)
    for updates in (1, 2):
        meeting.sampled(10, 1)
        assert meeting.progress(updates) == meeting.counters()
    news = meeting.news()
    other = Meeting(LIMITS, Incarnations(tmp_path), replace(news.state, replay_size=30))
    assert other.counters() == news.counters
    assert other.counters()["frames"] == 30 and other.counters()["samples"] == 20
    assert other.news().last_seen.keys() == {"actor 0", "learner"}, "nobody is taken for hung, or for new"
    assert other.incarnation(0) > news.counters["incarnation"]
    assert other.sampled(10, 1) == "publish"
    other.publish(_published(2))
    assert other.sampled(10, 1) == "go"
    other.rewind(1, 10)  # the learner of before dies as well: an update of before and the one since are lost
    assert other.counters()["samples"] == 10


def test_environments_are_handed_out_once_and_never_when_they_are_quarantined(meeting: Meeting) -> None:
    assert [meeting.enlist(worker).share for worker in range(3)] == [
        Share([0, 2, 4], [0, 1, 2]), Share([1, 3, 5], [3, 4, 5]), Share([6, 7, 8], [6, 7, 8]),
    ]  # fmt: skip
    assert [meeting.enlist(0).incarnation for _ in range(2)] == [4, 5]
    meeting.quarantine(3, "it crashes")
    assert meeting.enlist(1).share == Share([1, 5], [3, 5])
    other = Meeting(LIMITS, Incarnations(Path(meeting._incarnations._path).parent), meeting.news().state)
    assert other.enlist(1).share == Share([1, 5], [3, 5]), "the coordinator after this one knows it too"


def test_workers_above_the_number_that_was_asked_for_stop(meeting: Meeting) -> None:
    assert meeting.reported(_report(worker=1)) == "go"
    meeting.scale(1, 1)
    assert meeting.reported(_report(5, worker=1)) == "stop" and meeting.reported(_report()) == "go"
    assert meeting.news().steps == 5, "what it reports last counts"
    meeting.scale(2, 1)
    assert meeting.reported(_report(worker=1)) == "go"


def test_a_waiting_worker_that_is_not_wanted_any_more_stops(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, tolerance=20.0))
    assert meeting.reported(_report(worker=1), 10) == "go"

    async def wait() -> str:
        waiting = asyncio.create_task(meeting.report(_report(worker=1), 10, 60))
        await asyncio.sleep(0)
        meeting.scale(1, 1)
        return (await asyncio.wait_for(waiting, 20)).verdict

    assert asyncio.run(wait()) == "stop"


def test_nobody_waits_any_more_once_the_run_stops_or_a_checkpoint_is_asked_for(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, min_size=100))

    async def woken(by: Callable[[], None]) -> str:
        waiting = asyncio.create_task(meeting.sample(10, 60))
        await asyncio.sleep(0)
        by()
        return await asyncio.wait_for(waiting, 20)

    assert asyncio.run(woken(meeting.ask_checkpoint)) == "wait" and meeting.sampled() == "checkpoint"
    meeting.saved(0)
    assert asyncio.run(woken(meeting.stop)) == "stop"


def test_actors_of_a_large_fleet_report_several_blocks_at_once(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, tolerance=100.0))  # 50 steps, five blocks
    for worker in range(2):
        assert meeting.ask(meeting.report(_report(worker=worker), 0, 1)).every == (worker + 1) / REPORTS
    answers = [meeting.ask(meeting.report(_report(), 10, 0, most)) for most in (3, 3, 9, 9)]
    assert [(answer.verdict, answer.blocks) for answer in answers] == [
        ("go", 1), ("go", 3), ("go", 1), ("wait", 0),  # the first fills replay
    ]  # fmt: skip
    assert meeting.counters()["inserts"] == 50
    for worker in range(20 * REPORTS):
        meeting.roster.report(_report(worker=worker))
    assert meeting.roster.every == RARELY


def test_a_bound_on_the_lag_means_an_answer_for_every_block(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, max_lag=10))
    assert meeting.ask(meeting.report(_report(version=1), 10, 1, 3)).blocks == 1


def test_how_many_blocks_to_ask_for_next() -> None:
    small, large = Answer("go", None, blocks=1, every=0.01), Answer("go", None, blocks=2, every=4.0)
    assert {small.most(0.3) for _ in range(20)} == {1}
    assert {large.most(2.0) for _ in range(200)} == {2, 3, 4, 5}  # a second each, around four seconds


def test_a_policy_too_far_behind_waits_for_the_newest_and_only_if_there_is_one(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, max_lag=10))
    assert meeting.reported(_report(version=1)) == "go"
    meeting.progress(11)
    assert meeting.reported(_report(version=1)) == "go", "nothing newer is published"
    meeting.publish(_published(11))
    answer = meeting.ask(meeting.report(_report(version=1), 10, 1))
    assert answer.verdict == "wait" and answer.published.snapshot.version == 2
    assert meeting.news().lag == 11
    answer = meeting.ask(meeting.report(_report(version=2), 10, 1))
    assert (answer.verdict, answer.published, meeting.news().lag) == ("go", None, 0)


def test_a_checkpoint_that_was_asked_for_is_made_once(meeting: Meeting) -> None:
    meeting.saved(3)
    meeting.ask_checkpoint()
    assert meeting.news().saved is None
    assert meeting.sampled() == "checkpoint" and meeting.reported(_report()) == "go"
    assert meeting.sampled() == "checkpoint", "a learner that died before it had saved is followed by one that does"
    meeting.saved(4)
    assert meeting.news().saved == 4 and meeting.sampled() == "go"


def test_the_first_snapshot_is_awaited(tmp_path: Path) -> None:
    meeting = Meeting(LIMITS, Incarnations(tmp_path), STATE)
    assert meeting.ask(meeting.first(0.01)) == Answer("wait", None)

    async def published() -> Answer:
        waiting = asyncio.create_task(meeting.first(60))
        await asyncio.sleep(0)
        meeting.publish(_published(0))
        return await asyncio.wait_for(waiting, 20)

    answer = asyncio.run(published())
    assert answer.verdict == "go" and answer.published is not None and answer.published.snapshot.version == 1
    meeting.stop()
    assert meeting.ask(meeting.first(60)).verdict == "stop"


def test_a_changed_train_ratio_outlives_the_coordinator(meeting: Meeting, tmp_path: Path) -> None:
    meeting.set_ratio(0.0, 50.0)
    assert meeting.reported(_report(10)) == "go"
    other = _meeting(tmp_path, state=meeting.news().state)
    assert [other.reported(_report(10), 10, 0) for _ in range(20)] == ["go"] * 20, "no ratio, so nobody waits"


def test_failures_are_counted_by_kind_for_ever_and_told_once(meeting: Meeting) -> None:
    for kind in ("crash", "timeout", "crash"):
        meeting.failed(5, 1, kind, "Traceback ...")
    news = meeting.news()
    assert [failure.kind for failure in news.failures] == ["crash", "timeout", "crash"]
    assert news.counters["failures/crash"] == 2 and not meeting.news().failures
    other = Meeting(LIMITS, Incarnations(Path(meeting._incarnations._path).parent), news.state)
    other.failed(5, 1, "crash", "")
    assert other.counters()["failures/crash"] == 3


def test_requests_reach_the_supervisor_and_answers_come_back(meeting: Meeting) -> None:
    meeting.request("a", {"actors": 4})
    assert meeting.news().requests == [("a", {"actors": 4})] and meeting.answered("a") is None
    meeting.answer("a", {"done": True})
    assert meeting.answered("a") == {"done": True}


def test_what_a_dead_worker_was_granted_and_did_not_report_is_for_others(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, tolerance=40.0))
    assert meeting.reported(_report()) == "go" and meeting.reported(_report(6)) == "go"
    assert meeting.counters()["inserts"] == 20 and meeting.reported(_report(worker=1), timeout=0) == "wait"
    meeting.forget("actor 0")
    assert meeting.counters()["inserts"] == 6
    assert meeting.reported(_report(worker=1)) == "go"
    meeting.enlist(1)  # it has died, unnoticed
    assert meeting.counters()["inserts"] == 6


def test_what_a_worker_carries_over_is_not_for_others(tmp_path: Path) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, tolerance=1000.0))
    for done, asked in ((0, 10), (4, 10), (6, 0), (10, 10)):  # an environment was missing for a while
        assert meeting.reported(_report(done), asked) == "go"
    assert meeting.counters()["inserts"] == 30
    meeting.forget("actor 0")
    assert meeting.counters()["inserts"] == 20, "the rows that were reported"


@pytest.mark.parametrize("granted", [False, True])
def test_a_worker_that_dies_while_it_waits_loses_its_place(tmp_path: Path, granted: bool) -> None:
    meeting = _meeting(tmp_path, replace(LIMITS, tolerance=20.0))
    assert meeting.reported(_report(worker=1)) == "go"

    async def wait() -> Answer:
        waiting = asyncio.create_task(meeting.report(_report(), 10, 60))
        await asyncio.sleep(0)
        if granted:  # just before it is known to be dead
            await meeting.sample(10, 0)
            await meeting.sample(10, 0)
        meeting.enlist(0)
        return await asyncio.wait_for(waiting, 20)

    assert asyncio.run(wait()) == Answer("wait", None)
    assert meeting.counters()["inserts"] == 10
