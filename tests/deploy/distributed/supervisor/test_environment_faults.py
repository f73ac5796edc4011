"""What the supervisor makes of environments that fail, and when it takes an actor for hung."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.commands.train import parse_train
from deploy.distributed.messages import Failure, State
from deploy.distributed.supervisor import environment_faults
from deploy.distributed.supervisor.environment_faults import EnvironmentFaults, failure_counts
from deploy.distributed.supervisor.placement import actor_silence
from deploy.distributed.supervisor.restart_policy import SILENCE
from deploy.run_failed import RunFailedError
from deploy.wiring.fleet import Fleet


def failure(environment: int, kind: str = "crash") -> Failure:
    return Failure(environment, 0, kind, f"environment {environment} broke.\nTraceback: line 7")


def test_every_failure_is_kept_and_the_first_of_a_kind_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    faults = EnvironmentFaults(tmp_path, said.append)
    faults.take([failure(0), failure(1), failure(0, "timeout")], {})
    faults.take([failure(0)], {1: "environment 1 broke."})
    faults.take([], {1: "environment 1 broke."})
    assert (tmp_path / "faults" / "environment-0.log").read_text().count("Traceback: line 7") == 3
    assert "actor 0, crash: environment 1 broke." in (tmp_path / "faults" / "environment-1.log").read_text()
    assert [line.partition(" and is made")[0] for line in said[:2]] == [
        "Environment 0 failed (crash)", "Environment 0 failed (timeout)"
    ]  # fmt: skip
    assert said[2].startswith("Environment 1 has failed too often in a row") and len(said) == 3
    monkeypatch.setattr(environment_faults, "MOST", 10)
    faults.take([failure(0)], {})
    assert (tmp_path / "faults" / "environment-0.log").read_text().count("Traceback") == 1
    assert (tmp_path / "faults" / "environment-0.older.log").read_text().count("Traceback") == 3


def test_a_run_ends_when_its_last_environment_is_given_up() -> None:
    faults = EnvironmentFaults(Path(), print)
    state = State(counters={}, replay_size=0, fleet=Fleet(4, 2), actors=2)
    faults.require_some(replace(state, quarantined={0: "a", 1: "b", 2: "c"}))
    faults.require_some(replace(state, quarantined=dict.fromkeys(range(4), "a"), actors=3))
    with pytest.raises(RunFailedError, match="No environment is left: .* The last failure: the arm is gone"):
        faults.require_some(replace(state, quarantined={0: "a", 1: "b", 3: "c", 2: "the arm is gone"}))


def test_kinds_that_did_not_occur_are_counted_too() -> None:
    counts = failure_counts({"failures/crash": 2, "frames": 7})
    assert counts["crash"] == 2 and counts["memory"] == 0 and "frames" not in counts


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (["--actor.environments", "1"], 150.0),
        (["--actor.environments", "2"], SILENCE),
        (["--actor.environments", "4", "--actor.step-timeout", "5", "--actor.reset-timeout", "10"], 70.0),
        (["--actor.isolation", "process", "--actor.step-timeout", "5", "--actor.reset-timeout", "10"], SILENCE),
    ],
)
def test_an_actor_whose_environment_hangs_is_killed_soon_after_its_time_out(options: list[str], seconds: float) -> None:
    assert actor_silence(parse_train(["gym:CartPole-v1", *options])) == seconds
