"""Where the processes of a local run meet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from actors.vector import Episode
from deploy.distributed.coordinator import ActorReport, Coordinator
from deploy.wiring.incarnations import Incarnations
from world_models.snapshot import Snapshot


@pytest.fixture
def meeting(tmp_path: Path) -> Coordinator:
    return _coordinator(tmp_path)


def _coordinator(logdir: Path, ratio: float = 2.0, **counters: int) -> Coordinator:
    coordinator = Coordinator(ratio, 100.0, 1, counters, 0, Incarnations(logdir, 2))
    coordinator.publish(_snapshot(0))
    return coordinator


def _report(rows: int = 0, ended: Sequence[int] = ()) -> ActorReport:
    episodes = [Episode(env_index=0, episode=i, seed=i, score=0.0, length=1, frames=at) for i, at in enumerate(ended)]
    return ActorReport(actor="actor 0", process=1, rows=rows, frames=rows, version=0, episodes=episodes)


def _snapshot(updates: int) -> Snapshot:
    return Snapshot(version=0, updates=updates, time=0.0, buffer=np.zeros(1, np.float32), checksum=0)


def test_updates_that_a_dead_learner_lost_may_be_sampled_again(meeting: Coordinator) -> None:
    assert meeting.report(_report(), 10, 1) == "go"
    assert [meeting.sample(10, 0.1) for _ in range(4)] == ["go"] * 4
    meeting.rewind(1, 10)  # the checkpoint of update 1: three of the four are lost
    assert meeting.counters()["samples"] == 10
    assert meeting.news().updates == 1
    assert meeting.sample(10, 0.1) == "go"
    meeting.rewind(2, 10)  # saved after that one: nothing is lost
    assert meeting.counters()["samples"] == 20


def test_train_ratio_0_never_lets_the_learner_sample(tmp_path: Path) -> None:
    meeting = _coordinator(tmp_path, ratio=0.0)
    assert [meeting.report(_report(10), 10, 1) for _ in range(50)] == ["go"] * 50
    assert meeting.sample(10, 0.05) == "wait"
    meeting.stop()
    assert meeting.sample(10, 5) == "stop"


def test_every_life_of_every_actor_has_a_number_of_its_own(meeting: Coordinator) -> None:
    assert [meeting.incarnation(actor) for actor in (0, 1, 0)] == [3, 3, 4]
    assert meeting.counters()["incarnation"] == 4


def test_signs_of_life_end_with_forget(meeting: Coordinator) -> None:
    meeting.alive("evaluator")
    meeting.report(_report(5), 1, 1)
    news = meeting.news()
    assert news.last_seen.keys() == {"actor 0", "evaluator", "learner"} and news.rows == {"actor 0": 5}
    meeting.forget("actor 0")
    assert meeting.news().last_seen.keys() == {"evaluator", "learner"}


def test_everything_has_the_counts_of_the_moment_it_is_about(meeting: Coordinator) -> None:
    meeting.report(_report(100), 1, 1)
    meeting.publish(_snapshot(updates=5))
    meeting.progress(7, {"loss": 1.0})
    meeting.report(_report(50, ended=(10, 48)), 1, 1)
    meeting.report(_report(50, ended=(3,)), 1, 1)
    snapshot = meeting.newest(-1)
    assert snapshot and snapshot.frames == 100
    news = meeting.news()  # long after
    assert [(episode.frames, updates) for episode, updates in news.episodes] == [(110, 7), (148, 7), (153, 7)]
    assert [(line.frames, line.steps, line.updates) for line in news.logs] == [(100, 100, 7)]
    assert (news.frames, news.updates, news.rewound) == (200, 7, None)


def test_nothing_is_told_of_updates_that_are_lost(meeting: Coordinator) -> None:
    meeting.progress(4, {"loss": 1.0})
    meeting.progress(9, {"loss": 1.0})
    meeting.report(_report(50, ended=(10,)), 1, 1)
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


def test_a_coordinator_goes_on_where_the_one_before_it_was_last_heard(meeting: Coordinator, tmp_path: Path) -> None:
    meeting.report(_report(30), 10, 1)
    meeting.incarnation(0)
    for updates in (1, 2):
        meeting.sample(10, 1)
        assert meeting.progress(updates) == meeting.counters()
    news = meeting.news()
    other = Coordinator(2.0, 100.0, 1, news.counters, 30, Incarnations(tmp_path), known=news.last_seen)
    assert other.counters() == news.counters
    assert other.counters()["frames"] == 30 and other.counters()["samples"] == 20
    assert other.news().last_seen.keys() == {"actor 0", "learner"}, "nobody is taken for hung, or for new"
    assert other.incarnation(0) > news.counters["incarnation"]
    assert other.sample(10, 1) == "publish"
    other.publish(_snapshot(2))
    assert other.sample(10, 1) == "go"
    other.rewind(1, 10)  # the learner of before dies as well: an update of before and the one since are lost
    assert other.counters()["samples"] == 10
