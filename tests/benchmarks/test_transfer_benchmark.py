"""The benchmark of transfer runs, goes on, and reads what is there."""

import json
from pathlib import Path

import pytest

from actors.envs import make
from tests.benchmarks.transfer import evaluations, main, reached, summary
from tests.integration.runs import TINY


def test_the_score_is_reached_by_the_mean_of_an_evaluation(tmp_path: Path) -> None:
    lines = [(200, 500.0, "train"), (300, 500.0, "eval"), (300, 440.0, "eval"), (600, 480.0, "eval")]
    text = (json.dumps({"frames": frames, "score": score, "kind": kind}) for frames, score, kind in lines)
    (tmp_path / "scores.jsonl").write_text("".join(f"{line}\n" for line in text))
    assert evaluations(tmp_path) == [(300, 470.0), (600, 480.0)]
    assert evaluations(tmp_path, 500) == [(300, 470.0)]
    assert reached(evaluations(tmp_path), 475) == 600 and reached(evaluations(tmp_path), 490) is None


def test_what_is_saved_is_that_of_the_same_seed() -> None:
    def row(way: str, seed: int, frames: int | None) -> dict[str, object]:
        return {"way": way, "seed": seed, "reached": frames, "frames": 900, "first": (100, 9.0), "mean": 9.0}

    found = summary([row("scratch", 0, 500), row("scratch", 1, None), row("all", 0, 100), row("all", 1, 300)])
    assert found["all"]["saved"]["values"] == [400, 600] and found["all"]["saved"]["mean"] == 500
    assert (found["scratch"]["reached"], found["scratch"]["runs"]) == (1, 2)
    assert found["scratch"]["frames"]["values"] == [500, 900], "all its frames"


@pytest.mark.parametrize("name", ["LongPole-v0", "HeavyPendulum-v0"])
def test_the_other_tasks_look_alike_and_move_differently(name: str) -> None:
    usual = make({"LongPole-v0": "gym:CartPole-v1", "HeavyPendulum-v0": "gym:Pendulum-v1"}[name])
    other = make(f"gym:actors.envs.other_physics:{name}")
    assert usual.observation_space.keys() == other.observation_space.keys()
    steps = []
    for environment in (usual, other):
        environment.reset(0)
        action = {key: space.dtype.type(1) for key, space in environment.action_space.items()}
        steps.append([environment.step(action)[0]["vector"].tolist() for _ in range(3)])
        environment.close()
    assert steps[0] != steps[1]


def test_runs_are_trained_once_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", str(tmp_path), "--seeds", "0", "--one-source", "--ways", "all", "--frames", "160", "--json",
               *TINY[2:-2], "--learner.train-ratio", "2", "--environment.time-limit", "10"]  # fmt: skip
    assert main([*options, "--read"])["rows"] == []
    rows = main(options)["rows"]
    assert [row["way"] for row in rows] == ["source", "all"] and all(row["reached"] is None for row in rows)
    written = {path: path.stat().st_mtime for path in tmp_path.glob("*/checkpoints/0*")}
    assert main([*options, "--read"])["rows"] == rows == main(options)["rows"]
    assert {path: path.stat().st_mtime for path in tmp_path.glob("*/checkpoints/0*")} == written
    source = json.loads((tmp_path / "pole-all-seed0" / "initial" / "source.json").read_text())
    assert str(tmp_path / "pole-source-seed0") in source["checkpoint"] and source["fresh"] == []
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "transfer"
