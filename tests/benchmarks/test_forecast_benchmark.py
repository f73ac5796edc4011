"""The benchmark of the forecast says what was expected and what was measured."""

import json

import pytest

from tests.benchmarks.forecast import main


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "quick", "--updates", "1"]) == 0
    *said, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["name"] == "forecast/quick" and len(said) == 2
    assert report["value"] == pytest.approx(report["seconds"][0] / report["seconds"][1])
    assert report["memory"] == pytest.approx(report["gb"][0] / report["gb"][1])
    assert min(report["seconds"] + report["gb"]) > 0
