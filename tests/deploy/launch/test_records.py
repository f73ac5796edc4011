"""What is kept of launched jobs."""

import fcntl
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pytest

from deploy.cli import main
from deploy.commands.waiting import launched, reach
from deploy.launch import records
from deploy.launch.target import End, Launched
from deploy.stored.control import RunDirectory
from deploy.stored.run_status import write_status
from deploy.wiring.claim import LOCK


def _launched(name: str, time: float = 1.0, logdir: str = "") -> Launched:
    return Launched(
        name=name, target="ray", id=f"{name}-1", place="http://head:8265", task="gym:CartPole-v1",
        logdir=logdir or f"/runs/{name}", time=time,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(records.FOLDER, str(tmp_path))
    return tmp_path


def test_a_job_is_found_by_its_name_and_by_its_run_directory(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in (_launched("a", 1.0), _launched("b", 3.0), _launched("c", 2.0), _launched("a", 4.0)):
        records.write(one)
    (home / "jobs" / "torn.json").write_text("{")
    whole = asdict(_launched("w"))
    for name, wrong in {"name": 5, "time": "1", "logdir": None, "target": "", "id": []}.items():
        (home / "jobs" / f"wrong-{name}.json").write_text(json.dumps({**whole, name: wrong} if wrong != "" else {}))
    assert [one.name for one in records.everything()] == ["a", "b", "c"]
    said = capsys.readouterr().err
    assert said.count("is no record of a launched run") == 6 and not list(records.everything())[3:]
    assert not capsys.readouterr().err, "once is enough"
    assert records.read("a").time == 4.0 and records.read("/runs/c").name == "c"
    with pytest.raises(ValueError, match="'d' is no job launched from here; there are: a, b, c"):
        records.read("d")


def test_a_directory_comes_before_a_job_of_the_same_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "elsewhere").mkdir()
    records.write(_launched("walker", logdir=str(home / "elsewhere")))
    monkeypatch.chdir(home)
    found = reach(Path("walker"), "")
    assert launched(Path("walker")) and isinstance(found, RunDirectory) and found.logdir == home / "elsewhere"
    records.write(_launched("away"))
    with pytest.raises(ValueError, match="/runs/away, the run directory of away, is not visible on this machine"):
        reach(Path("away"), "")
    assert records.read("elsewhere").name == "walker", "a relative path of a run directory"
    (home / "walker").mkdir()
    found = reach(Path("walker"), "")
    assert launched(Path("walker")) is None and isinstance(found, RunDirectory) and found.logdir == Path("walker")
    with pytest.raises(ValueError, match="nope is neither a run directory nor a launched run"):
        reach(Path("nope"), "")


def test_jobs_whose_cluster_is_gone_are_listed_with_what_their_directory_says(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["jobs"])
    assert left.value.code == 0 and "No run was launched from here" in capsys.readouterr().out
    here = home / "here"
    here.mkdir()
    (here / "run.log").write_text("2026-01-01 00:00:00 actor 0 has died\n")
    one = _launched("here", logdir=str(here))
    records.write(Launched(**(vars(one) | {"place": "http://127.0.0.1:1"})))
    with pytest.raises(SystemExit) as left:
        main(["jobs"])
    said = capsys.readouterr().out
    assert (
        left.value.code == 0 and "unreachable" in said and "No job server of Ray answers at http://127.0.0.1:1" in said
    )
    with pytest.raises(SystemExit) as left:
        main(["logs", "here"])
    said, errors = capsys.readouterr()
    assert left.value.code == 0 and "actor 0 has died" in said and "run.log" in errors
    with pytest.raises(SystemExit) as left:
        main(["stop", "here"])
    assert left.value.code == 1 and "here cannot be stopped: No job server" in capsys.readouterr().err


def _jobs(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main(["jobs", *arguments])
    return left.value.code


def test_how_a_job_has_ended_is_asked_once(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its target is a Slurm that forgets it after the first look; the run says how it has ended."""
    monkeypatch.setenv("PATH", str(_slurm_that_knows_nothing(home)))
    logdir = home / "runs" / "a"
    logdir.mkdir(parents=True)
    write_status(logdir, {"state": "failed", "reason": "the learner failed"})
    one = replace(_launched("a", logdir=str(logdir)), target="slurm", id="7")
    records.write(one)
    assert _jobs("--json") == 0 and json.loads(capsys.readouterr().out)["state"] == "failed"
    asked = (home / "asked").read_text()
    assert asked == "scontrol\nsacct\n" and records.read("a") == replace(one, state="failed", why="the learner failed")
    assert _jobs("--json") == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["state"], seen["why"]) == ("failed", "the learner failed") and (home / "asked").read_text() == asked

    with (logdir / LOCK).open("w") as lock:  # somebody has started it again by hand
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert _jobs() == 0
    assert (home / "asked").read_text() == asked + asked
    records.write(replace(one, time=9.0))  # launched again
    records.remember(one, "ended", "")
    assert records.read("a") == replace(one, time=9.0)


def test_records_are_forgotten_by_name_or_when_their_runs_have_ended(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(_slurm_that_knows_nothing(home)))
    ends: dict[str, Literal["", End]] = {"a": "ended", "b": "failed", "c": "", "d": "stopped"}
    for name, state in ends.items():
        records.write(replace(_launched(name), place="http://127.0.0.1:1", state=state))
    records.write(replace(_launched("gone"), target="slurm"))
    assert _jobs("--forget", "nobody") == 2 and "'nobody' is no job launched from here" in capsys.readouterr().err
    assert _jobs("--forget", "c", "/runs/d") == 0, "what cannot be asked may go, too"
    assert capsys.readouterr().out.splitlines() == [
        "forgot c; its run directory is /runs/c", "forgot d; its run directory is /runs/d",
    ]  # fmt: skip
    records.write(replace(_launched("c"), place="http://127.0.0.1:1"))
    assert _jobs("--prune") == 0 and {one.name for one in records.everything()} == {"c"}
    capsys.readouterr()
    assert _jobs("--prune") == 0 and "No run is over" in capsys.readouterr().out
    assert _jobs("--prune", "--json") == 2 and "stand alone" in capsys.readouterr().err


def test_a_run_that_goes_on_is_not_forgotten(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(_slurm_that_knows_nothing(home, "JobState=RUNNING Reason=None")))
    for name in ("a", "b"):
        records.write(replace(_launched(name), target="slurm", state="" if name == "a" else "ended"))
    assert _jobs("--forget", "b", "a") == 2 and "a is running; nexus stop a ends it" in capsys.readouterr().err
    assert {one.name for one in records.everything()} == {"a", "b"}, "all or none"


def _slurm_that_knows_nothing(home: Path, answer: str = "") -> Path:
    """A folder of Slurm's commands, which write down that they were asked."""
    folder = home / "bin"
    folder.mkdir()
    said = f"echo {answer}" if answer else "echo Invalid job id specified >&2; exit 1"
    for name in ("scontrol", "sacct"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} >> "{home}/asked"\n{said}\n')
        (folder / name).chmod(0o755)
    return folder
