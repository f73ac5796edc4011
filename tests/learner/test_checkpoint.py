"""Which checkpoints stay, which are passed over, and what a kill leaves behind."""

from pathlib import Path

import numpy as np
import pytest

from learner.checkpoint import Checkpoints, DamagedCheckpointError
from tests.privileges import without_privileges
from world_models.checkpoint_files import find_model, intact_beside, read_arrays, read_document, verify


def _save(checkpoints: Checkpoints, name: int | str) -> Path:
    return checkpoints.save(name, {"model": {"x": np.arange(4.0)}}, {"state": {"name": name}})


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def test_a_damaged_checkpoint_is_set_aside_and_the_next_one_written_stays(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    notes: list[str] = []
    for number in (10, 20, 30):
        _save(checkpoints, number)
    assert checkpoints.numbers() == [20, 30]
    _damage(checkpoints.path(30) / "model.safetensors")
    assert checkpoints.newest(notes.append) == checkpoints.path(20)
    assert "model.safetensors is damaged" in notes[0]
    assert checkpoints.numbers() == [20] and (tmp_path / "0000000030.damaged").is_dir()
    _save(checkpoints, 25)
    assert checkpoints.numbers() == [20, 25]
    assert Checkpoints(tmp_path, keep=1).newest(notes.append) == checkpoints.path(25)


def test_the_one_just_written_is_not_pruned_below_higher_numbers(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    _save(checkpoints, 30)
    _save(checkpoints, 20)
    assert checkpoints.numbers() == [20]


def test_one_is_due_after_so_many_updates_or_seconds(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert [n for n in range(1, 21) if checkpoints.due(n, every=8, seconds=0)] == [8, 16]
    assert [n for n in range(1, 21) if checkpoints.due(n, every=8, seconds=1000)] == [8, 16]
    checkpoints._saved -= 2000
    _save(checkpoints, "best")
    assert checkpoints.due(3, every=8, seconds=1000), "the best policy is no checkpoint of the run"
    _save(checkpoints, 3)
    assert not checkpoints.due(4, every=8, seconds=1000)


def test_beside_a_damaged_policy_the_newest_whole_one_is_found(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=4)
    names: list[int | str] = [1, 2, 3, "best"]
    paths = [checkpoints.save(name, {"model": {"x": np.arange(4.0)}}, {"config": {}}) for name in names]
    one, two, three, best = paths
    assert intact_beside(best) == three and intact_beside(three) == best
    _damage(three / "model.safetensors")
    assert intact_beside(best) == two
    _damage(best / "config.json")
    assert intact_beside(three) == two
    _damage(two / "model.safetensors")
    (one / "manifest.json").unlink()
    assert intact_beside(three) is None and intact_beside(tmp_path / "alone" / "policy") is None


def test_when_all_are_damaged_none_is_touched(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        _damage(_save(checkpoints, number) / "state.json")
    for _ in range(2):
        with pytest.raises(DamagedCheckpointError, match="Every checkpoint"):
            checkpoints.newest(lambda note: None)
    assert checkpoints.numbers() == [1, 2]


def test_leftovers_of_a_kill_go_but_not_those_of_the_other_writer(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, "best").rename(tmp_path / ".best.old")  # killed between two renames
    for name in (".0000000007.new", ".5.gone", ".best.new"):
        (tmp_path / name).mkdir()
    _save(checkpoints, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".best.new", ".best.old", "0000000008"]
    with pytest.raises(OSError, match="no space"):
        checkpoints.save("best", {}, {}, lambda folder: (_ for _ in ()).throw(OSError("no space")))
    assert read_document(tmp_path / "best" / "state.json") == {"name": "best"}
    _save(checkpoints, "best")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000008", "best"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = _save(Checkpoints(tmp_path), 1)
    verify(folder)
    for name, read in (("model.safetensors", read_arrays), ("state.json", read_document)):
        _damage(folder / name)
        with pytest.raises(DamagedCheckpointError, match=name):
            read(folder / name)
        with pytest.raises(DamagedCheckpointError, match=name):
            verify(folder, [name])


def test_a_directory_that_may_not_be_read_is_not_one_without_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nobody may pass the folders above it
    checkpoints = Checkpoints(Path("checkpoints"))
    checkpoints.directory.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    with without_privileges():
        for read in (checkpoints.numbers, lambda: checkpoints.newest(print), lambda: find_model(Path())):
            with pytest.raises(ValueError, match=r"^checkpoints cannot be read: Permission denied\. Give this user"):
                read()
