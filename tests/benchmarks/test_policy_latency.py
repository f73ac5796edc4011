"""The benchmark of policies measures both paths at every number of environments."""

import json

import pytest

from tests.benchmarks.policy_latency import main


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--only", "size1m proprio", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    cells = report["cells"]
    assert [(cell["environments"], cell["actions"]) for cell in cells] == [
        (rows, actions) for rows in (1, 16, 64) for actions in ("sampled", "mode")
    ]
    assert report["name"] == "policy_latency/size1m proprio/16" and report["value"] == cells[2]["ratio"]
    for cell in cells:
        assert cell["ratio"] == pytest.approx(cell["cpu_ms"] / cell["modules_cpu_ms"])
