"""What a run makes of requests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.distributed.coordinator import Coordinator
from deploy.distributed.messages import Limits, State
from deploy.distributed.supervisor.steering import Steering
from deploy.stored.control import FOLDER, REQUEST, ControlFolder
from deploy.wiring.config import RunConfig
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations


class Run:
    """Steering with a coordinator in this process."""

    def __init__(self, logdir: Path) -> None:
        limits = Limits(samples_per_insert=1.0, tolerance=100.0, min_size=1)
        state = State(counters={}, replay_size=0, fleet=Fleet(4, 2), actors=2)
        self.coordinator = Coordinator(limits, Incarnations(logdir), state)
        self.config, self.scaled = RunConfig(mode="local"), list[int]()
        self.logdir, self.number = logdir, 0
        save = self.coordinator.ask_checkpoint
        self.steering = Steering(ControlFolder(logdir), self.ask, save, 9, self.scale, self.autoscale, self.configure)

    def ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self.coordinator, method)(*arguments)

    def scale(self, actors: int) -> dict[str, Any]:
        self.scaled.append(actors)
        return {"actors": [2, actors]}

    def autoscale(self) -> dict[str, Any]:
        return {"autoscale": [1, 9]}

    def configure(self, config: RunConfig) -> None:
        self.config = config

    def request(self, text: str) -> Any:
        """The answer to one request, None if there is none yet."""
        self.number += 1
        (self.logdir / FOLDER / f"{self.number}{REQUEST}").write_text(text)
        before = len(self.steering.last)
        self.steering.attend(self.coordinator.news(), self.config)
        return self.steering.last[-1]["answer"] if len(self.steering.last) > before else None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_requests_are_carried_out(run: Run) -> None:
    assert run.request('{"actors": 5}') == {"actors": [2, 5]} and run.scaled == [5]
    assert run.request('{"train_ratio": 64, "actors": 1}') == {"train_ratio": 64, "tolerance": 0.0, "actors": [2, 1]}
    assert run.config.learner.train_ratio == 64
    assert run.request('{"actors": "auto"}') == {"autoscale": [1, 9]} and run.scaled == [5, 1]
    assert not run.steering.stopped
    assert run.request('{"stop": true}') == {"stop": True} and run.steering.stopped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{half", "The request is not JSON"), ("[1]", "not an object with some of actors"),
        ("{}", "is not an object"), ('{"actor": 3}', "is not an obj"),
        ('{"actors": 0}', "actors=0 must be a whole number from 1 to 9"), ('{"actors": 10}', "from 1 to 9"),
        ('{"actors": "most"}', "actors='most' must be a whole number from 1 to 9, or 'auto'"),
        ('{"actors": true}', "actors=True"), ('{"actors": 1.5}', "actors=1.5"), ('{"train_ratio": "x"}', "be a number"),
        ('{"train_ratio": -1}', "must not be negative"), ('{"tolerance": NaN}', "nan"),
        ('{"tolerance": 1}', "replay.tolerance=1 is too small"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_changes_nothing(run: Run, text: str, message: str) -> None:
    before = run.config
    assert message in run.request(text)["error"]
    assert run.config is before and not run.scaled and not run.steering.stopped


def test_an_offline_run_has_nothing_to_scale(run: Run) -> None:
    run.config = replace(run.config, offline="elsewhere")
    assert "has no actors to scale" in run.request('{"actors": 3}')["error"]
    assert "has no train ratio" in run.request('{"train_ratio": 3}')["error"]


def test_a_checkpoint_is_answered_when_it_is_there(run: Run) -> None:
    assert run.request('{"checkpoint": true}') is None
    run.coordinator.saved(7)
    assert run.request('{"actors": 3}') == {"actors": [2, 3]}
    assert run.steering.last[-2] == {"request": {"checkpoint": True}, "answer": {"checkpoint": 7}}


def test_a_checkpoint_is_answered_together_with_what_else_was_asked(run: Run) -> None:
    assert run.request('{"checkpoint": true, "actors": 3}') is None and run.scaled == [3]
    run.coordinator.saved(7)
    run.steering.attend(run.coordinator.news(), run.config)
    assert run.steering.last[-1]["answer"] == {"actors": [2, 3], "checkpoint": 7}


def test_those_who_wait_when_the_run_ends_are_told(run: Run) -> None:
    run.request('{"checkpoint": true}')
    assert run.request('{"checkpoint": true, "stop": true}') is None and run.steering.stopped
    (run.logdir / FOLDER / f"late{REQUEST}").write_text('{"actors": 1}')
    run.steering.answer_rest(9)
    answers = [one["answer"] for one in run.steering.last]
    assert answers == [{"checkpoint": 9}, {"stop": True, "checkpoint": 9}, {"error": "The run is ending."}]


def test_requests_through_the_coordinator_are_answered_there(run: Run) -> None:
    run.coordinator.request("x", {"actors": 4})
    run.steering.attend(run.coordinator.news(), run.config)
    assert run.coordinator.answered("x") == {"actors": [2, 4]}
