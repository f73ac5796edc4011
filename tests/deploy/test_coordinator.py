"""Where the processes of a local run meet."""

from pathlib import Path

import pytest

from deploy.coordinator import ActorReport, Coordinator
from deploy.incarnations import Incarnations


@pytest.fixture
def meeting(tmp_path: Path) -> Coordinator:
    return _coordinator(tmp_path)


def _coordinator(logdir: Path, ratio: float = 2.0, **counters: int) -> Coordinator:
    return Coordinator(ratio, 100.0, 1, counters, 0, Incarnations(logdir, 2))


def _report(rows: int = 0) -> ActorReport:
    return ActorReport(actor="actor 0", process=1, rows=rows, frames=rows, version=0)


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
    assert news.last_seen.keys() == {"actor 0", "evaluator"} and news.rows == {"actor 0": 5}
    meeting.forget("actor 0")
    assert meeting.news().last_seen.keys() == {"evaluator"}
