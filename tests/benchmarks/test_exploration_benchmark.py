"""The benchmark of exploration runs, goes on, and reads what is there."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.exploration import cells, first_solved, first_success, main, summary, visited
from tests.integration.runs import TINY


def test_cells_cover_the_states_of_the_car() -> None:
    states = np.array([[-1.2, -0.07], [0.6, 0.07], [-0.5, 0.0], [-0.499, 0.0]])
    assert cells(states).tolist() == [0, 399, 150, 150]
    streams = [np.stack([np.linspace(-1.2, 0.6, 40), np.zeros(40)], 1)] * 2
    assert visited(streams, 80) == 20 and visited(streams, 40) == 10, "those of the first frames"


def test_successes_are_read_from_the_scores(tmp_path: Path) -> None:
    def scores(*lines: tuple[int, float, str]) -> None:
        text = (json.dumps({"frames": frames, "score": score, "kind": kind}) for frames, score, kind in lines)
        (tmp_path / "scores.jsonl").write_text("".join(f"{line}\n" for line in text))

    scores((200, -200.0, "train"), (300, -150.0, "eval"), (400, -199.0, "train"), (500, -120.0, "train"))
    assert first_success(tmp_path) == 400
    scores(
        (200, 500.0, "train"), (300, 500.0, "eval"), (300, 470.0, "eval"), (600, 500.0, "eval"), (600, 490.0, "eval")
    )
    assert first_solved(tmp_path) == 600


def test_differences_are_those_of_the_same_seed() -> None:
    def row(weight: float, seed: int, states: int, success: int | None) -> dict[str, object]:
        return {"task": "gym:MountainCar-v0", "disagreement": weight, "seed": seed, "states": states,
                "first_success": success}  # fmt: skip

    found = summary(
        [row(0, 0, 100, None), row(9, 0, 150, 40), row(0, 1, 120, 90), row(9, 1, 160, 50), row(9, 2, 1, 60)]
    )
    assert found["difference"]["mean"] == 45 and found["difference"]["n"] == 2
    assert (found["without"]["succeeded"], found["without"]["runs"], found["without"]["first_success"]) == (1, 2, None)
    assert found["with"]["first_success"]["mean"] == 50
    low, high = found["difference"]["interval95"]
    assert low < 45 < high


def test_runs_are_trained_once_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", str(tmp_path), "--seeds", "0", "--json", *TINY[2:], "--learner.train-ratio", "2",
               "--environment.time-limit", "20"]  # fmt: skip
    assert main([*options, "--read"])["rows"] == []
    rows = main([*options, "--frames", "160"])["rows"]
    written = {path: path.stat().st_mtime for path in tmp_path.glob("*/checkpoints/0*")}
    assert [row["disagreement"] for row in rows] == [0, 3] and len(written) >= 2
    assert main([*options, "--frames", "160"])["rows"] == rows
    assert {path: path.stat().st_mtime for path in tmp_path.glob("*/checkpoints/0*")} == written
    fewer = main([*options, "--frames", "80", "--read"])["rows"]
    assert [row["states"] for row in fewer] == [row["states_halfway"] for row in rows], "equal frames of longer runs"
    assert main([*options, "--frames", "400", "--read"])["rows"] == []
    assert all(0 < row["states_halfway"] <= row["states"] < 400 for row in rows)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "exploration"
