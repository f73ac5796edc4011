"""What a user's environment reports in info, from a run's first step to its logs, without adapter code."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deploy.reports.metrics import METRICS, SCORES
from tests.integration.runs import MY_MODULE, command, lines, run

pytestmark = pytest.mark.timeout(150)
REPORTING = MY_MODULE.replace(
    "self.t >= 20, {}",
    "self.t >= 20, {'log/push': 0.5, 'is_success': self.t >= 20, 'achievements': {'moved': self.t}, 'log/name': 'x'}",
)
COLUMNS = {"is_success": 1, "achievements/moved": 20, "log/push/avg": 0.5, "log/push/max": 0.5, "log/push/sum": 10.0}


def test_info_becomes_columns_and_curves(tmp_path: Path) -> None:
    assert "achievements" in REPORTING
    (tmp_path / "my_module.py").write_text(REPORTING)
    options = ("--mode", "inline", "--learner.train-ratio", "4", "--log-every", "1", "--actor.environments", "2")
    evaluated = ("--evaluation.every", "2", "--evaluation.episodes", "2", "--environment.image-size", "48", "48")
    done = run(tmp_path, command("gym:my_module:MyEnv-v0", tmp_path / "run", *options, *evaluated, "--frames", "240"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("info 'log/name' is a str, not a number: it is left out.") == 1
    scores = lines(tmp_path / "run" / SCORES)
    assert {row["kind"] for row in scores} == {"train", "eval"}
    assert all(row.items() >= COLUMNS.items() and row["length"] == 20 for row in scores)
    last = lines(tmp_path / "run" / METRICS)[-1]
    assert all(last[f"{group}/{name}"] == value for group in ("episode", "eval") for name, value in COLUMNS.items())
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    for group, kind in (("episode", "train"), ("eval", "eval")):
        points = [(event.step, event.value) for event in events.Scalars(f"{group}/log/push/sum")]
        assert points == [(row["frames"], 10.0) for row in scores if row["kind"] == kind]
