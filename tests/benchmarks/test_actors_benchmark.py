"""The benchmark of actors measures raw programs beside ours, and names what is missing."""

import json

import pytest

from tests.benchmarks import actors


def test_a_task_and_one_whose_suite_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> actors.Loop:
        raise ImportError("No module named 'nowhere'")

    monkeypatch.setitem(actors.TASKS, "nowhere", actors.Task(task="nowhere_walk", raws={"nowhere": absent}))
    options = ["--only", "cartpole,nowhere", "--rounds", "1", "--seconds", "0.02", "--sizes", "size1m", "--json"]
    assert actors.main(options) == 0
    written = capsys.readouterr()
    assert "cartpole: round 1 of 1" in written.err and "nowhere: making" in written.err
    (line,) = written.out.splitlines()
    cartpole, nowhere = json.loads(line)["tasks"]
    rates = cartpole["steps_per_cpu_second"]
    assert {"raw gymnasium", "random", "random, a process each", "size1m"} <= rates.keys()
    assert all(rate > 0 for rate in rates.values())
    assert cartpole["beside"] == cartpole["backend"] == "gymnasium"
    assert cartpole["met"] == (cartpole["ratio"] >= cartpole["target"])
    split = cartpole["split"]["size1m"]
    assert all(share > 0 for share in split.values()) and 0.5 < sum(split.values()) <= 1
    assert cartpole["split"]["random"]["inference"] == 0
    assert nowhere["steps_per_cpu_second"] == {} and "ratio" not in nowhere
    assert nowhere["missing"]["raw nowhere"] == "ImportError: No module named 'nowhere'"
    assert "Unknown task 'nowhere_walk'" in nowhere["missing"]["ours"]


def test_a_name_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        actors.main(["--only", "cart"])
    assert "cart is not one of walker, walker_vision, pong" in capsys.readouterr().err
