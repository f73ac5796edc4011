import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from deploy.reports.prometheus import COUNTERS, GAUGES, RunMetrics, serve
from deploy.wiring.config import RunConfig

DASHBOARD = Path(__file__).parents[3] / "deploy" / "monitor" / "grafana.json"

STATS = {"items": 10.0, "steps": 12.0, "gb": 0.5, "max_gb": 1.0, "inserted": 20.0, "sampled": 640.0, "stale": 1.0}
LIMITER = {"ahead": -3.5, "insert_waited_seconds": 0.0, "sample_waited_seconds": 2.5}


def _read(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def test_every_shard_is_told_apart_and_units_are_base_units() -> None:
    metrics = RunMetrics()
    url, stop = serve(metrics, 0)
    try:
        assert url.startswith("http://127.0.0.1:")
        metrics.update(
            1000, 30, {"shard-0": STATS, "shard-1": STATS | {"items": 4.0}}, ["shard-1"], LIMITER, {"actor 0": 3},
            {"timeout": 2}, (12.5, 0.75), {"asked": 5, "running": 4}, {"added": 2, "removed": 1},
        )  # fmt: skip
        metrics.newest({"episode/score": 412.5, "train/loss/total": 3.0, "gpu/memory_gb": 2.5, "gpu/utilisation": 0.8})
        seen = _read(url)
        metrics.update(1001, 31, {"shard-0": STATS})
        assert _read(url)["nexus_learner_updates_total"] == 31
    finally:
        stop()
    assert seen["nexus_environment_frames_total"] == 1000
    assert seen["nexus_gpu_memory_bytes"] == 2.5e9 and seen["nexus_gpu_utilisation_ratio"] == 0.8
    assert "nexus_gpu_memory_limit_bytes" not in seen
    assert seen['nexus_replay_items{shard="shard-0"}'] == 10 and seen['nexus_replay_items{shard="shard-1"}'] == 4
    assert seen['nexus_replay_size_bytes{shard="shard-0"}'] == 5e8
    assert seen['nexus_replay_sampled_steps_total{shard="shard-0"}'] == 640
    assert seen['nexus_replay_up{shard="shard-0"}'] == 1 and seen['nexus_replay_up{shard="shard-1"}'] == 0
    assert seen["nexus_limiter_ahead_steps"] == -3.5
    assert (seen["nexus_policy_lag_updates"], seen["nexus_policy_lag_seconds"]) == (12.5, 0.75)
    assert seen['nexus_restarts_total{process="actor 0"}'] == 3
    assert seen['nexus_environment_failures_total{kind="timeout"}'] == 2
    assert seen['nexus_actors{state="asked"}'] == 5 and seen['nexus_actors{state="running"}'] == 4
    assert seen['nexus_autoscale_decisions_total{kind="added"}'] == 2
    assert seen['nexus_limiter_wait_seconds_total{side="sample"}'] == 2.5
    assert seen['nexus_metric{name="episode/score"}'] == 412.5
    assert all(name.startswith("nexus_") for name in seen)


def test_numbers_that_cannot_be_told_cost_one_answer(capfd: pytest.CaptureFixture[str]) -> None:
    metrics = RunMetrics()
    url, stop = serve(metrics, 0)
    try:
        metrics.update(1000, 30, {}, limiter={"not of a limiter": 1.0})
        with pytest.raises(urllib.error.HTTPError, match="500"):
            _read(url)
        metrics.update(1001, 31, {}, limiter=LIMITER)
        assert _read(url)["nexus_learner_updates_total"] == 31
    finally:
        stop()
    assert "KeyError: 'ahead'" in capfd.readouterr().err


def test_the_dashboard_asks_for_what_a_run_exports() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for name in re.findall(r"nexus_\w+", target["expr"])
    }
    metrics = RunMetrics()
    metrics.update(
        1, 1, {"a": dict.fromkeys([*GAUGES, *COUNTERS], 1.0)}, (), LIMITER, {"actor 0": 1}, {"raised": 1}, (1.0, 1.0),
        {"asked": 1}, {"added": 1},
    )  # fmt: skip
    metrics.newest({"episode/score": 1.0})
    exported = {sample.name for family in metrics.collect() for sample in family.samples}
    assert asked and asked <= exported, asked - exported
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_metrics_are_served_where_they_are_wanted() -> None:
    for host in ("127.0.0.1", "::1"):
        url, stop = serve(RunMetrics(), 0, host)
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert b"nexus_environment_frames" in answer.read()
        finally:
            stop()
    with pytest.raises(ValueError, match=r"metrics_host='lab' is no IP address; 0.0.0.0 stands for all"):
        RunConfig(metrics_host="lab")


def test_a_taken_port_is_named() -> None:
    url, stop = serve(RunMetrics(), 0)
    try:
        with pytest.raises(ValueError, match="metrics_port=.* cannot be opened at 127.0.0.1"):
            serve(RunMetrics(), int(url.split(":")[2].split("/")[0]))
    finally:
        stop()
