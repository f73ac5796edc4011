"""What a run says of itself: that it is solved, what it continues from, and nothing that it cannot know."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.reports.scoreboard import Scoreboard, solved_before
from deploy.wiring.config import EvaluationConfig, RunConfig, save_config
from tests.integration.runs import command, run

pytestmark = pytest.mark.timeout(120)
CONFIG = RunConfig(frames=200_000, evaluation=EvaluationConfig(every=10, stop_score=490))


def test_a_solved_run_says_so_until_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Scoreboard(CONFIG, tmp_path) as board:
        board.starting(5_000, 70, "starting Ray")
        assert "5,000/200,000" in board.progress.line() and "frames/s" not in board.progress.line()
        board.begin(5_000, 70 * 128)
        board.show(10_358, 10_358, 250, 32_000, {"items": 10_000, "gb": 0.1}, "training")
        board.evaluation(10_358, 250, [500.0] * 4, [500] * 4, [1, 2, 3, 4])
        board.show(10_360, 10_360, 250, 32_000, {"items": 10_000, "gb": 0.1}, "training")
        assert board.progress.line().endswith("solved")
        board.busy("saving")
        line = board.progress.line()
        assert line.endswith("solved; saving") and "10,360/" in line
        assert not re.search(r"/s -", line)
        board.end()
    text = capsys.readouterr().out
    assert "solved: mean 500 >= 490 at 10,358 frames" in text
    assert text.splitlines()[-1].endswith("solved")


def test_a_run_that_is_not_solved_is_saved_at_its_end(tmp_path: Path) -> None:
    with Scoreboard(CONFIG, tmp_path) as board:
        board.evaluation(10, 1, [489.9], [500], [1])
        board.begin(0, 0)
        board.show(10, 10, 1, 10, {"items": 1, "gb": 0.1}, "training")
        assert board.progress.line().endswith("training")
        board.end()
        assert board.progress.line().endswith("saved")


def test_a_solved_run_that_is_started_again_ends_at_once_with_its_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--mode", "inline", "--frames", "3000", "--learner.train-ratio", "4", "--evaluation.every", "10",
               "--evaluation.episodes", "1", "--evaluation.stop-score", "1")  # fmt: skip
    arguments = command("gym:CartPole-v1", tmp_path / "run", "--replay", "disk", *options)
    done = run(tmp_path, arguments)
    assert done.returncode == 0 and "Damaged" not in done.stdout, done.stderr
    chunks = tmp_path / "run" / "replay" / "shard-0" / "chunks"
    (chunks / "0-0.rows.damaged").touch()  # as a chunk that failed its checksum is kept
    with pytest.raises(SystemExit) as ended:
        main(arguments[3:])
    assert ended.value.code == 0
    first, again = done.stdout, capsys.readouterr().out
    scores = [line for line in first.splitlines() if line.startswith(("  trained: ", "  random:  "))]
    assert len(scores) == 2 and all(line in again.splitlines() for line in scores)
    assert "To continue training, raise --evaluation.stop-score" in again
    assert again.splitlines()[-1].startswith("Damaged and left out of the replay in ")
    assert again.splitlines()[-1].endswith("/run/replay: 1 file, such as shard-0/chunks/0-0.rows.damaged.")
    assert "frames/s" not in again and "evaluation at" not in again and "checkpoint: " in again
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["version"]
    raised = replace(CONFIG, evaluation=replace(CONFIG.evaluation, stop_score=1000))
    assert solved_before(raised, tmp_path / "run") == ""


def test_a_folder_without_a_best_policy_is_not_solved(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path)
    assert solved_before(CONFIG, tmp_path) == ""
