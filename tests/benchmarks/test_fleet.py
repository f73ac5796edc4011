"""The benchmark of the fleet finds its parts by the names of their modules."""

import pytest

from tests.benchmarks.fleet import main, parts


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    error = capsys.readouterr().err
    assert "'nonsense' is not a part" in error and all(part in error for part in parts())


def test_a_part_checks_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["coordinator", "--workers", "2"])
    assert "--workers is 4 or more" in capsys.readouterr().err


def test_help_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in parts())
