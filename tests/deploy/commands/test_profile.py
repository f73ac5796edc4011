"""Where the time of an update goes, of a task and of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from tests.integration.runs import TINY, train_inline

STAGES = {"data", "encode", "observe", "predict", "imagine", "judge", "losses", "backward", "optimize", "write back"}


def profile(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(["profile", *map(str, arguments)])
    return left.value.code


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def whole(report: dict[str, Any]) -> None:
    """Stages make up the update."""
    stages, update = report["stages"], report["update"]
    assert {*stages} >= STAGES
    for name in ("flops", "nbytes", "memory_bytes", "operators"):
        assert update[name] == sum(one[name] for one in stages.values()), name
    assert all(one["seconds"] >= 0 and one["operators"] > 0 for one in stages.values())
    for name in ("encode", "observe", "predict", "imagine", "judge", "losses", "backward"):
        assert stages[name]["flops"] > 0 and stages[name]["limit"] > 0, name
    assert stages["data"]["flops"] == stages["optimize"]["flops"] == stages["write back"]["flops"] == 0
    limits = report["limits"]
    least = max(update["flops"] / limits["flops"], update["memory_bytes"] / limits["bandwidth"])
    assert update["limit"] == pytest.approx(least / update["seconds"])


def test_of_a_task_and_nothing_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert profile("gym:CartPole-v1", *TINY, "--updates", 2, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    whole(report)
    assert (report["task"], report["device"], report["threads"], report["updates"]) == ("gym:CartPole-v1", "cpu", 1, 2)
    assert report["precision"] == "float32" and report["launches"] is None
    assert not [*tmp_path.iterdir()]


def test_of_a_run_whose_files_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logdir = tmp_path / "run"
    train_inline(logdir, "gym:Pendulum-v1", *TINY, "--mode", "inline", "--frames", "600", "--learner.train-ratio", "1")
    before = files(logdir)
    capsys.readouterr()
    assert profile(logdir, "--updates", 1, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    whole(report)
    assert report["task"] == "gym:Pendulum-v1" and files(logdir) == before
    assert profile(logdir, "--updates", 1) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "gym:Pendulum-v1, batch 4 x 8, 3 steps imagined" and "updates/s" in said[1]
    assert [line.split()[0] for line in said[3:]][-2:] == ["update", "Limit:"]


def test_what_does_not_fit_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("task: gym:CartPole-v1\n")
    assert profile(tmp_path, "--preset", "quick") == 2
    assert "is a run and has its options; leave out --preset" in capsys.readouterr().err
    assert profile(tmp_path) == 2
    assert "no " in capsys.readouterr().err
    assert profile("gym:CartPole-v1", "--update", "3") == 2
    assert "nexus profile has no option --update; nearest: --updates" in capsys.readouterr().err
    for name in ("runs/nowhere", "nowhere"):
        assert profile(name) == 2
        assert f"There is no run in {name}; give a run directory" in capsys.readouterr().err
    assert profile("gym:CartPole-v1", "--dry-run") == 2
    assert "--dry-run is for nexus train itself" in capsys.readouterr().err
    assert profile("gym:CartPole-v1", "--updates", "0") == 2
    assert "must be at least 1" in capsys.readouterr().err
