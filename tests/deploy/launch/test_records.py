"""What is kept of launched jobs."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.commands.waiting import launched, reach
from deploy.launch import records
from deploy.launch.target import Launched
from deploy.stored.control import RunDirectory

pytestmark = pytest.mark.timeout(60)


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
