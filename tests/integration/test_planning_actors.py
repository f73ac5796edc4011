"""Runs whose actors and evaluations plan in the newest world model."""

import json
from pathlib import Path

import numpy as np
import pytest

from actors.policy import load_policy
from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.reports.summary import score
from deploy.wiring.claim import _LOCKS
from deploy.wiring.task import TaskSpaces, require_trainable
from tests.integration.runs import TINY, command, lines, run
from tests.world_models.small_agent import DISCRETE, VECTOR

FEW = ["--actor.planner-horizon", "2", "--actor.planner-samples", "6"]


@pytest.mark.parametrize(("task", "planner"), [("gym:CartPole-v1", "cem"), ("gym:Pendulum-v1", "icem")])
def test_an_inline_run_acts_evaluates_and_is_scored_by_planning(task: str, planner: str, tmp_path: Path) -> None:
    evaluates = task == "gym:CartPole-v1"  # an episode of Pendulum takes longer
    options = ["--mode", "inline", "--learner.train-ratio", "2", "--frames", "240", "--actor.planner", planner, *FEW]
    options += ["--evaluation.every", "12", "--evaluation.episodes", "1"] if evaluates else []
    config = parse_train([task, *TINY, "--logdir", str(tmp_path), *options])
    whole = InlineRun(config, tmp_path)
    try:
        assert whole.run() == "done"
        policy = whole.actor.policy
        row = whole.store.read(whole.actor.streams[0], 30, 1)
        assert row["deter"].any() and row["stoch"].min() >= 0 and row["version"][0] > 0
        before = whole.store.read(whole.actor.streams[0], 0, 1)
        assert not before["deter"].any() and (before["stoch"] == -1).all(), "an action that was not planned"
        assert policy.version == whole.learner.updates
    finally:
        _LOCKS.pop(tmp_path).close()
    if evaluates:
        best = json.loads((tmp_path / "checkpoints" / "best" / "score.json").read_text())
        told = [line["protocol"]["actions"] for line in lines(tmp_path / "scores.jsonl") if line["kind"] == "eval"]
        assert {best["protocol"]["actions"], *told} == {"planned"}
        assert score(tmp_path, 1, 0)[0].protocol["actions"] == "planned"
        assert score(tmp_path, 1, 0, mode=True)[0].protocol["actions"] == "mode"
        action = load_policy(tmp_path)({"vector": np.zeros(4, np.float32)})
        assert action in (0, 1)


@pytest.mark.slow
def test_a_local_run_acts_and_evaluates_by_planning(tmp_path: Path) -> None:
    options = ["--mode", "local", "--frames", "400", "--actor.planner", "cem", *FEW, "--learner.train-ratio", "4"]
    logdir = tmp_path / "run"
    done = run(tmp_path, command("gym:CartPole-v1", logdir, *options, "--evaluation.every", "20"), timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned" in done.stdout
    assert any(line["kind"] == "eval" for line in lines(logdir / "scores.jsonl"))


def test_a_planner_of_continuous_actions_is_refused_where_they_are_discrete() -> None:
    config = parse_train(["gym:CartPole-v1", *TINY, "--actor.planner", "gradient"])
    with pytest.raises(ValueError, match="continuous actions, but action of gym:CartPole-v1 is discrete; use cem"):
        require_trainable(config, TaskSpaces({"vector": VECTOR}, {"action": DISCRETE}))
    with pytest.raises(ValueError, match=r"planner_horizon=0 must be at least 1"):
        parse_train(["gym:CartPole-v1", *TINY, "--actor.planner", "cem", "--actor.planner-horizon", "0"])
