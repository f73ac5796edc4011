"""Which runs are found below a folder."""

from pathlib import Path

from deploy.monitor.runs import Runs
from tests.deploy.monitor.written_runs import write_run


def test_links_are_followed_and_lead_to_no_run_twice(tmp_path: Path) -> None:
    elsewhere = write_run(tmp_path / "elsewhere", "walker", [1.0])
    folder = tmp_path / "runs"
    write_run(folder / "sweep", "a", [1.0])
    (folder / "linked").symlink_to(elsewhere)
    (folder / "sweep" / "circle").symlink_to(folder)
    (folder / "sweep" / "again").symlink_to(elsewhere)
    (folder / "broken").symlink_to(tmp_path / "nothing")
    (folder / "itself").symlink_to(folder / "itself")
    runs = Runs([folder])
    runs.refresh()
    assert sorted(run.name for run in runs.by_id.values()) == ["linked", "sweep/a"]


def test_two_folders_that_share_a_run_have_it_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", "a", [1.0])
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "best").symlink_to(run)
    runs = Runs([tmp_path / "runs", tmp_path / "chosen"])
    assert [len(ids) for ids in runs.refresh()] == [1, 0]
    (found,) = runs.by_id.values()
    assert found.name == "a" and runs.refresh() == ([], []) and list(runs.by_id.values()) == [found]
