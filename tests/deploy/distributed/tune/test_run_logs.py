"""The logs of a run, read while they grow, are cut and are replaced."""

import math
from pathlib import Path

import pytest

from deploy.reports.metrics import MetricsWriter

pytest.importorskip("ray.tune", reason='needs ray.tune: pip install "nexus-worlds[tune]"')


def test_numbers_are_the_newest_and_unknown_ones_are_nan(tmp_path: Path) -> None:
    from deploy.distributed.tune.run_logs import RunLogs

    logs = RunLogs(tmp_path)
    assert not logs.read()
    result = logs.result()
    assert math.isnan(result["score"]) and math.isnan(result["eval_score"])
    assert (result["frames"], result["updates"], result["episodes"]) == (0, 0, 0)
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        for score in range(30):
            writer.episode(10 * score, 0, score=score, length=10, seed=0, kind="train")
        assert not logs.read(), "no line of metrics"
        assert logs.result()["score"] == 19.5  # of the newest 20
        for updates, score in ((5, 1), (10, 2), (10, 4)):
            writer.episode(300, updates, score=score, length=10, seed=0, kind="eval")
        writer.metrics(310, 10, {"train/loss/total": 2.5, "train/loss/value": math.nan})
        state = writer.state()
        assert logs.read() and not logs.read()
        result = logs.result()
        assert (result["eval_score"], result["train/loss/total"]) == (3.0, 2.5)
        assert (result["frames"], result["updates"], result["episodes"]) == (310, 10, 30)
        assert math.isnan(result["train/loss/value"]) and "time" not in result
        writer.metrics(400, 20, {"train/loss/total": 1.5})
        writer.episode(400, 20, score=100.0, length=10, seed=0, kind="train")
        logs.read()
        writer.load(state)
    assert logs.read()
    assert (logs.result()["frames"], logs.result()["train/loss/total"]) == (310, 2.5)
    assert (logs.result()["score"], logs.result()["episodes"]) == (19.5, 30)
