"""Runs with several reward heads and an anchor: logs, checkpoints, and the same numbers after they were continued."""

from pathlib import Path

import numpy as np
import pytest

from deploy.inline_run import InlineRun
from deploy.wiring.build import build_anchor
from deploy.wiring.presets import options_for
from tests.integration.runs import TINY, checkpoints, command, differences, lines, run, state_of, train_inline
from world_models.loading import load_model

TASK = "gym:CartPole-v1"
RATIO = ["--mode", "inline", "--learner.train-ratio", "4", "--checkpoint-every", "10", "--keep-checkpoints", "9",
         "--log-every", "1", "--report-every", "0", "--learner.optimizer.warmup", "0"]  # fmt: skip
HELD = ["--anchor.weight", "0.5", "--anchor.every", "7", "--model.reward-heads", "3"]


def train(logdir: Path, frames: int, *options: str) -> InlineRun:
    return train_inline(logdir, TASK, *TINY, *RATIO, "--frames", str(frames), *options)


def test_a_run_that_was_continued_gives_the_same_numbers_as_one_that_was_not(tmp_path: Path) -> None:
    straight, continued = tmp_path / "straight", tmp_path / "continued"
    whole = train(straight, 320, *HELD)
    train(continued, 200, *HELD)
    before = checkpoints(continued)[-1]
    assert before % 7, "the copy is an older one"
    train(continued, 320, *HELD)
    last = checkpoints(straight)[-1]
    assert before < last == checkpoints(continued)[-1]
    state = state_of(straight, last)
    assert differences(state, state_of(continued, last)) == []
    assert lines(straight / "metrics.jsonl") == lines(continued / "metrics.jsonl")
    kept = {key.removeprefix("training/anchor."): state[key] for key in state if key.startswith("training/anchor.")}
    assert {key.partition(".")[0] for key in kept} == {"encoder", "rssm"}
    assert not np.array_equal(kept["rssm.gru.weight"], state["model/rssm.gru.weight"])
    assert not [key for key in state if "optimizer" in key and "anchor" in key]
    for line in lines(straight / "metrics.jsonl"):
        renewed = (line["updates"] - 1) % 7 == 0
        assert (abs(line["train/anchor/posterior_kl"]) < 1e-5) == renewed, line["updates"]
        assert np.isfinite(line["train/loss/anchor"])
    assert len(load_model(straight).reward_heads) == 3  # type: ignore[arg-type]
    assert {*HELD} < {*options_for(whole.config)}


def test_without_them_nothing_of_them_is_there(tmp_path: Path) -> None:
    whole = train(tmp_path, 120)
    assert whole.learner.step.anchor is None and build_anchor(whole.config, whole.agent) is None
    state = state_of(tmp_path, checkpoints(tmp_path)[-1])
    assert not [key for key in state if "anchor" in key or "more_rewards" in key]
    assert not [key for line in lines(tmp_path / "metrics.jsonl") for key in line if "anchor" in key]


@pytest.mark.slow
def test_a_local_run_keeps_its_anchor_and_continues(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    options = ["--mode", "local", "--learner.train-ratio", "4", "--log-every", "5", "--report-every", "0", *HELD]
    for frames in ("300", "500"):
        done = run(tmp_path, command(TASK, logdir, *options, "--frames", frames), timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    assert any(key.startswith("training/anchor.") for key in state_of(logdir, checkpoints(logdir)[-1]))
    assert lines(logdir / "metrics.jsonl")[-1]["train/anchor/prior_kl"] >= -1e-6
