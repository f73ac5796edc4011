"""The checkpoint benchmark, on a small shard: what it reports is about what it did."""

import json

import pytest

from tests.benchmarks.replay_checkpoint import main


def test_bytes_written_are_those_of_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--steps", "20480", "--streams", "4", "--seconds", "0.2", "--checked", "10", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    saves = {name: report[name] for name in ("everything", "meanwhile", "settled", "small")}
    for name, save in saves.items():
        assert save["bytes_written"] == sum(save["bytes_by_kind"].values()) <= save["bytes_held"]
        assert 0 < save["bytes_of_latents"] < save["bytes_written"], name
        assert save["stalls"]["sample"]["calls"] > 0 < save["longest_ms"]
    assert saves["everything"]["steps_new"] == 20480 and saves["everything"]["steps_refreshed"] == 0
    assert saves["everything"]["written_over_changed"] == pytest.approx(1, abs=0.05)
    # One block of each stream and one batch, where everything is 20 MB.
    assert saves["small"]["steps_new"] == 4 * 16 and 500 < saves["small"]["steps_refreshed"] <= 1040  # some overlap
    assert saves["small"]["bytes_written"] < 1.2 * saves["small"]["bytes_changed"] + 20_000 < 600_000
    assert report["value"] == max(save["longest_ms"] for save in saves.values())
