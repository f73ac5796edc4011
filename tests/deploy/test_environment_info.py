"""What a user's environment reports in info, and what hooks add, from a run's first step to its logs."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deploy.reports.metrics import METRICS, SCORES
from tests.integration.runs import command, lines, run

MINE = """
import gymnasium as gym, json, numpy as np, sys

class Walk(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2)
    def reset(self, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.t += 1
        info = {"log/push": 0.5, "is_success": self.t >= 20, "achievements": {"moved": self.t}, "log/name": "x"}
        return np.zeros(2, np.float32), 1.0, False, self.t >= 20, info

gym.register("Walk-v0", Walk)

def _keep(line):
    with open("seen.jsonl", "a") as file:
        file.write(json.dumps(line | {"torch": "torch" in sys.modules}) + "\\n")

def episode(line):
    _keep(line)
    return {"score_squared": line["score"] ** 2}

def result(line):
    _keep(line)
    if line["updates"] == 1:
        raise RuntimeError("disk of the dashboard is full")
    return {"mine/half": line["updates"] / 2}
"""
COLUMNS = {
    "is_success": 1, "achievements/moved": 20, "log/push/avg": 0.5, "log/push/max": 0.5, "log/push/sum": 10.0,
    "score_squared": 400.0,
}  # fmt: skip
OPTIONS = (
    "--hooks.on-episode-end", "mine:episode", "--hooks.on-train-result", "mine:result", "--learner.train-ratio", "4",
    "--log-every", "1", "--actor.environments", "2", "--evaluation.every", "2", "--evaluation.episodes", "2",
)  # fmt: skip


LENGTHS = {"inline": ["--frames", "240"], "local": ["--frames", "50000", "--evaluation.stop-score", "20"]}
"""Where processes act side by side, a run ends with its first evaluation, whenever that is: every episode scores 20."""


@pytest.mark.parametrize("mode", LENGTHS)
def test_info_and_hooks_become_columns_and_curves(tmp_path: Path, mode: str) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    logdir = tmp_path / "run"
    arguments = command("gym:mine:Walk-v0", logdir, "--mode", mode, *LENGTHS[mode], *OPTIONS)
    done = run(tmp_path, arguments, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("info 'log/name' is a str, not a number: it is left out.") == 1
    assert done.stdout.count("in result: RuntimeError: disk of the dashboard is full. The run goes on.") == 1
    assert (
        done.stdout.count("    is_success: mean 1, 95 % interval [0.839, 1]") == 2
    )  # of the policy and of a random one
    scores, metrics = lines(logdir / SCORES), lines(logdir / METRICS)
    assert {row["kind"] for row in scores} == {"train", "eval"}
    assert all(row.items() >= COLUMNS.items() and row["length"] == 20 for row in scores)
    assert [row.get("mine/half") for row in metrics] == [None, *(row["updates"] / 2 for row in metrics[1:])]
    groups = ("episode", "eval") if mode == "inline" else ("episode",)
    assert all(metrics[-1][f"{group}/{name}"] == value for group in groups for name, value in COLUMNS.items())
    events = EventAccumulator(str(logdir))
    events.Reload()
    for group, kind in (("episode", "train"), ("eval", "eval")):
        points = [(event.step, event.value) for event in events.Scalars(f"{group}/log/push/sum")]
        assert points == [(row["frames"], 10.0) for row in scores if row["kind"] == kind]
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    assert {line["torch"] for line in seen} == {mode == "inline"}  # the supervisor has not imported it
    assert len(seen) == len(scores) + len(metrics)
    assert all(line.items() >= {"log/push/avg": 0.5}.items() for line in seen if "kind" in line)
