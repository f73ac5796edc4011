"""Runs that explore by disagreement: logs, checkpoints, and the same numbers after they were continued."""

from pathlib import Path

import numpy as np
import pytest

from actors.policy import load_policy
from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.wiring.build import build_exploration
from deploy.wiring.config import load_config
from learner.checkpoint import read_arrays
from tests.integration.runs import TINY, checkpoints, command, differences, lines, run, state_of, train_inline
from world_models.checkpoint_files import WEIGHTS
from world_models.loading import load_model
from world_models.space import Space

TASK = "gym:CartPole-v1"
RATIO = ["--mode", "inline", "--learner.train-ratio", "4", "--checkpoint-every", "10", "--keep-checkpoints", "9",
         "--log-every", "5", "--report-every", "0"]  # fmt: skip
EXPLORING = ["--exploration.disagreement", "10", "--exploration.task", "0.5", "--exploration.members", "3"]
FOUND = {f"exploration/{name}" for name in
         ("disagreement_replay", "disagreement_imagined", "intrinsic_return", "task_return")}  # fmt: skip


def train(logdir: Path, frames: int, *options: str) -> InlineRun:
    return train_inline(logdir, TASK, *TINY, *RATIO, "--frames", str(frames), *options)


def test_a_run_that_was_continued_gives_the_same_numbers_as_one_that_was_not(tmp_path: Path) -> None:
    straight, continued = tmp_path / "straight", tmp_path / "continued"
    train(straight, 320, *EXPLORING)
    train(continued, 200, *EXPLORING)
    before = checkpoints(continued)[-1]
    train(continued, 320, *EXPLORING)
    last = checkpoints(straight)[-1]
    assert before < last == checkpoints(continued)[-1]
    state = state_of(straight, last)
    assert any(key.startswith("training/exploration.members.2.") for key in state)
    assert any(key.startswith("training/optimizer.mu.exploration.members.2.") for key in state)
    assert differences(state, state_of(continued, last)) == []
    assert lines(straight / "metrics.jsonl") == lines(continued / "metrics.jsonl")
    for line in lines(straight / "metrics.jsonl"):
        assert FOUND | {"train/loss/disagreement"} < line.keys()
        assert all(np.isfinite(line[key]) for key in FOUND)

    fresh = build_exploration(load_config(straight), {"action": Space(dtype=np.dtype(np.int32), shape=(), classes=2)})
    assert fresh is not None
    new = {f"training/exploration.{name}": value.numpy() for name, value in fresh.state_dict().items()}
    assert new.keys() == {key for key in state if key.startswith("training/exploration.")}
    assert not any(np.array_equal(state[key], value) for key, value in new.items()), "trained, and part of the training"
    assert not any("member" in key for key in read_arrays(straight / "checkpoints" / f"{last:010d}" / WEIGHTS))
    assert load_model(straight)
    assert load_policy(straight / "checkpoints" / f"{last:010d}")({"vector": np.zeros(4, np.float32)}) in (0, 1)


def test_without_it_nothing_of_it_is_there(tmp_path: Path) -> None:
    whole = train(tmp_path, 200)
    assert whole.learner.step.exploration is None and build_exploration(whole.config, {}) is None
    assert not [key for key in state_of(tmp_path, checkpoints(tmp_path)[-1]) if "exploration" in key]
    assert not [key for line in lines(tmp_path / "metrics.jsonl") for key in line if "exploration" in key]


def test_a_run_is_not_continued_with_other_weights(tmp_path: Path) -> None:
    train(tmp_path, 160, *EXPLORING)
    config = parse_train([TASK, *TINY, *RATIO, "--frames", "200", "--logdir", str(tmp_path)])
    with pytest.raises(ValueError, match=r"exploration.disagreement: 10.0 there, 0.0 now"):
        InlineRun(config, tmp_path)


@pytest.mark.slow
def test_a_local_run_explores_and_continues(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    options = ["--mode", "local", "--learner.train-ratio", "4", "--log-every", "5", "--report-every", "0", *EXPLORING]
    for frames in ("300", "500"):
        done = run(tmp_path, command(TASK, logdir, *options, "--frames", frames), timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    newest = checkpoints(logdir)[-1]
    training = state_of(logdir, newest)
    assert any(key.startswith("training/exploration.members.") for key in training)
    assert lines(logdir / "metrics.jsonl")[-1].keys() > FOUND
