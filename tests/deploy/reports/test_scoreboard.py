"""What a run says of itself: that it is solved, what it continues from, and nothing that it cannot know."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.batch_environment import Episode
from deploy.cli import main
from deploy.reports.metrics import METRICS, SCORES, read_lines
from deploy.reports.scoreboard import Scoreboard, solved_before
from deploy.reports.summary import summarize
from deploy.wiring.config import EvaluationConfig, RunConfig, load_config
from deploy.wiring.config_file import save_config
from tests.integration.runs import command, run

CONFIG = RunConfig(frames=200_000, evaluation=EvaluationConfig(every=10, stop_score=490))


def episode(score: float, frames: int = 500, **metrics: float) -> Episode:
    return Episode(
        env_index=0, episode=0, seed=1, score=score, length=500, frames=frames, metrics=metrics, backend="gymnasium"
    )


def scores_of(text: str) -> list[str]:
    """The lines of a summary that have scores."""
    return [line for line in text.splitlines() if line.startswith(("  trained: ", "  random:  "))]


def test_a_solved_run_says_so_until_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Scoreboard(CONFIG, tmp_path) as board:
        board.starting(5_000, 70, "starting Ray")
        assert "5,000/200,000" in board.progress.line() and "frames/s" not in board.progress.line()
        board.begin(5_000, 70 * 128)
        board.show(10_358, 10_358, 250, 32_000, {"items": 10_000, "gb": 0.1}, "training")
        board.evaluation(10_358, 250, [episode(500.0)] * 4)
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


def test_what_a_run_says_is_kept_and_so_is_why_it_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Scoreboard(CONFIG, tmp_path) as board:
        board.note("actor 1 has ended.")
        raise RuntimeError("The Ray node of this machine has ended.")
    said, why = (tmp_path / "run.log").read_text().splitlines()
    assert re.fullmatch(r"[0-9-]{10} [0-9:]{8} actor 1 has ended\.", said)
    assert why.endswith(" The Ray node of this machine has ended.") and "Ray node" not in capsys.readouterr().out
    with Scoreboard(CONFIG, tmp_path):
        pass
    assert (tmp_path / "run.log").read_text().count("\n") == 2


def test_a_run_that_is_not_solved_is_saved_at_its_end(tmp_path: Path) -> None:
    with Scoreboard(CONFIG, tmp_path) as board:
        board.evaluation(10, 1, [episode(489.9)])
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
    assert len(scores_of(first)) == 2 and all(line in again.splitlines() for line in scores_of(first))
    assert "To continue training, raise --evaluation.stop-score" in again
    assert again.splitlines()[-1].startswith("Damaged and left out of the replay in ")
    assert again.splitlines()[-1].endswith("/run/replay: 1 file, such as shard-0/chunks/0-0.rows.damaged.")
    assert "frames/s" not in again and "evaluation at" not in again and "checkpoint: " in again
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["version"]
    for player, chosen in (("trained", "sampled"), ("random", "random")):
        protocol, scores = evaluation[player]["protocol"], evaluation[player]["scores"]
        assert protocol["episodes"] == len(protocol["seeds"]) == len(scores) == 20
        assert protocol["actions"] == chosen and protocol["backend"] == "gymnasium"
    kept = json.loads((tmp_path / "run" / "checkpoints" / "best" / "score.json").read_text())
    assert kept["protocol"]["episodes"] == len(kept["protocol"]["seeds"]) == 1
    stated = (
        f"  protocol: 20 episodes, sampled actions, first seed {evaluation['trained']['protocol']['seeds'][0]}, back"
    )
    assert stated in first and stated in again
    for player in ("trained", "random"):
        del evaluation[player]["protocol"]  # as earlier versions wrote it
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))
    summarize(load_config(tmp_path / "run"), tmp_path / "run")
    older = capsys.readouterr().out.splitlines()
    assert all(line in older for line in scores_of(first)) and not any("protocol" in line for line in older)
    raised = replace(CONFIG, evaluation=replace(CONFIG.evaluation, stop_score=1000))
    assert solved_before(raised, tmp_path / "run") == ""


def test_a_folder_without_a_best_policy_is_not_solved(tmp_path: Path) -> None:
    save_config(CONFIG, tmp_path)
    assert solved_before(CONFIG, tmp_path) == ""


def test_what_environments_report_is_averaged_and_survives_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log: dict[str, Any] = {"replay": {"age": 1.0, "gb": 0.1, "items": 1}, "values": {}}
    with Scoreboard(CONFIG, tmp_path) as board:
        for n in range(25):
            one = episode(1.0, 10 * n, is_success=float(n >= 20)) if n != 24 else episode(1.0, 10 * n)
            board.episode(replace(one, notes=("info 'log/a' is a str.",)), updates=n)
        board.evaluation(250, 25, [episode(1.0, is_success=1.0), episode(1.0, is_success=1.0)])
        board.evaluation(260, 26, [episode(1.0, is_success=1.0), episode(1.0, is_success=0.0)])
        board.log(260, 260, 26, 26, **log)
        means, state = board.averages.means(), json.loads(json.dumps(board.state()))
        many = {f"m{n:03}": 1.0 for n in range(120)}
        board.episode(replace(episode(2.0, 270), metrics=many), updates=27)
    assert means == {"episode/is_success": 4 / 20, "eval/is_success": 0.5}
    (line,) = read_lines(tmp_path / METRICS)
    assert line["episode/is_success"] == 0.2 and line["eval/is_success"] == 0.5
    rows = list(read_lines(tmp_path / SCORES))
    assert [row.get("is_success") for row in rows[18:26]] == [0, 0, 1, 1, 1, 1, None, 1]
    assert len(rows[-1]) == 7 + 99  # is_success is one of the hundred
    assert {row["backend"] for row in rows} == {"gymnasium"}
    assert rows[25]["protocol"] == {"episodes": 2, "actions": "sampled"} and "protocol" not in rows[24]
    said = capsys.readouterr().out
    assert said.count("info 'log/a'") == 1 and said.count("left out: m099, m100, ") == 1
    with Scoreboard(CONFIG, tmp_path) as board:
        board.reload(260, 26)
        assert board.averages.means() == means
    with Scoreboard(CONFIG, tmp_path) as board:
        board.load(state)
        assert board.averages.means() == means
        del state["averages"]  # a checkpoint of an older version
        board.load(state)
