"""Where a command will write is tried before its work begins, and nothing is left of the attempt."""

from pathlib import Path

import pytest

from deploy.cli import main
from deploy.wiring.output_path import require_new_folder, require_writable_file, require_writable_folder
from tests.privileges import without_privileges


def test_a_place_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # nobody may pass the folders above it
    (tmp_path / "file.png").touch(0o444)
    tmp_path.chmod(0o777)
    with without_privileges():
        with pytest.raises(ValueError, match=r"^file\.png cannot be written: Permission denied\. Choose another file"):
            require_writable_file(Path("file.png"))
        require_writable_file(Path("x.png"))
    tmp_path.chmod(0o555)
    denied = "Permission denied. Choose a directory that you may write to."
    with without_privileges():
        for path in (Path("x"), Path("x/y")):
            with pytest.raises(ValueError, match=f"^--into {path} cannot be written to: {denied}"):
                require_writable_folder(path, "--into")
            with pytest.raises(ValueError, match=f"^--out {path} cannot be written to: {denied}"):
                require_new_folder(path, "--out")
            with pytest.raises(ValueError, match=f"^{path} cannot be written: .*: Permission denied. Choose a place"):
                require_writable_file(path)
    tmp_path.chmod(0o755)


def test_a_place_below_a_file_or_with_too_long_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for part, reason in (("file/x", "Not a directory"), ("n" * 300, "File name too long")):
        for require in (require_writable_folder, require_new_folder):
            with pytest.raises(ValueError, match=f"cannot be written to: {reason}"):
                require(tmp_path / part, "--out")
        with pytest.raises(ValueError, match=f"cannot be written: .*({reason}|it is a file)"):
            require_writable_file(tmp_path / part)
    with pytest.raises(ValueError, match="file already exists; name a new folder with --out, or remove that one"):
        require_new_folder(tmp_path / "file", "--out")
    assert (tmp_path / "file").read_text() == "kept"


def test_an_attempt_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there", tmp_path / "a" / "b"):
        require_writable_folder(path, "--logdir")
        require_new_folder(path, "--out")
        require_writable_file(path / "c.png")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["train", "gym:CartPole-v1", "--logdir", "/proc/x"], "--logdir /proc/x"),
        (
            ["train", "gym:CartPole-v1", "--replay", "disk", "--replay.directory", "/proc/x"],
            "--replay.directory /proc/x",
        ),
        (["replay", "export", "unix:///nowhere", "--out", "/proc/x"], "--out /proc/x"),
        (["replay", "import", ".", "--into", "/proc/x", "--task", "gym:CartPole-v1"], "--into /proc/x"),
    ],
)
def test_a_command_tries_its_folder_first(
    arguments: list[str],
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, error = capsys.readouterr()
    assert left.value.code == 2 and f"{option} cannot be written to: No such file" in error
    assert error.count("\n") == 1 and not out and not list(tmp_path.iterdir())
