"""What of the command's folder travels to the nodes of a cluster."""

import zipfile
from pathlib import Path

import pytest

from deploy.distributed.cluster import user_code
from deploy.distributed.cluster.user_code import runtime_environment
from deploy.wiring.config import RunConfig

MINE = RunConfig(task="gym:mine:Mine-v0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a command, with code and much that is none."""
    for name in (
        "mine.py", "maps/level.json", "replay.py", ".git/HEAD", "venv/pyvenv.cfg", "venv/lib/x.py", ".venv/y.py",
        "__pycache__/mine.pyc", "old/config.yaml", "old/checkpoints/1/model", "here/metrics.jsonl",
        ".env", "maps/.token",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_code_travels_and_runs_environments_caches_and_what_is_hidden_stay(folder: Path) -> None:
    with runtime_environment(MINE, folder, folder / "here") as environment:
        assert environment
        package = zipfile.ZipFile(environment["working_dir"])
    with package:
        assert sorted(package.namelist()) == ["command/maps/level.json", "command/mine.py", "command/replay.py"]
        assert package.read("command/mine.py") == b"mine.py"


def test_nothing_travels_for_a_task_that_names_no_module(folder: Path) -> None:
    for task in ("gym:CartPole-v1", "dmc_walker_walk"):
        with runtime_environment(RunConfig(task=task), folder, folder / "here") as environment:
            assert environment is None


def test_a_folder_that_is_too_large_is_refused_by_its_largest_parts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_code, "MOST", 1e6)
    (folder / "data").mkdir()
    (folder / "data" / "film").write_bytes(bytes(3_000_000))
    message = r"holds 3 MB; at most 1 MB travel\. The most is in data \(3 MB\), "
    with pytest.raises(ValueError, match=message), runtime_environment(MINE, folder, folder / "here"):
        pass
