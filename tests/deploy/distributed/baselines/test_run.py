"""`nexus baseline` as a user starts it: logs, checkpoints, Ctrl-C, and the same command once more."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from deploy.commands.baseline import parse_baseline
from deploy.reports.curves import load_runs
from deploy.reports.metrics import METRICS, SCORES, read_lines
from deploy.wiring.baselines import SACConfig
from learner.checkpoint import Checkpoints, read_arrays
from tests.integration.processes import end_all, members, start_marked
from tests.integration.runs import NEXUS, wait_for

pytest.importorskip("ray.rllib", reason='needs RLlib: pip install "nexus-worlds[baselines]"')
pytestmark = pytest.mark.timeout(1200)


def test_the_command_line_is_that_of_train() -> None:
    config = parse_baseline(
        ["sac", "dmc_walker_walk", "--environment.action-repeat", "2", "--hidden", "8", "--seed", "3"]
    )
    assert isinstance(config, SACConfig) and config.hidden == (8,) and config.environment.action_repeat == 2
    assert config.logdir == "runs/sac-dmc_walker_walk-seed3" and config.as_run.environment == config.environment
    assert parse_baseline(["ppo", "atari_pong"]).environment.action_repeat == 4  # of the preset
    for wrong, message in (
        ([], "needs a method and a TASK"), (["dqn", "gym:CartPole-v1"], "ppo, sac, not 'dqn'"),
        (["ppo"], "needs TASK"), (["ppo", "gym:CartPole-v1", "--tau", "1"], "--tau"),
        (["sac", "gym:Pendulum-v1", "--discount", "2"], "discount=2 must lie in"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            parse_baseline(wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "task", "options"),
    [
        ("ppo", "gym:CartPole-v1", ["--batch-size", "64", "--minibatch-size", "32", "--epochs", "2"]),
        ("sac", "gym:Pendulum-v1", ["--batch-size", "16", "--start", "100"]),
    ],
)  # fmt: skip
def test_a_run_is_stopped_continued_and_leaves_no_process(
    tmp_path: Path, method: str, task: str, options: list[str]
) -> None:
    logdir = tmp_path / "run"
    command = [
        *NEXUS, "baseline", method, task, *options, "--logdir", str(logdir), "--hidden", "8", "--log-every", "50",
        "--checkpoint-every", "200", "--evaluation.every", "60", "--evaluation.episodes", "1",
    ]  # fmt: skip
    try:
        first = start_marked(tmp_path, [*command, "--frames", "1000000"])
        wait_for(lambda: len(Checkpoints.of(logdir).numbers()) == 2, "two checkpoints", timeout=500)
        first.send_signal(signal.SIGINT)
        assert first.wait(200) == 130 and "Continue with" in (tmp_path / "output.log").read_text()
        wait_for(lambda: not members(tmp_path), "every process to end", timeout=500)
        frames = max(line["frames"] for line in read_lines(logdir / METRICS))
        newest = Checkpoints.of(logdir).path(Checkpoints.of(logdir).numbers()[-1])
        before = read_arrays(newest / "weights.safetensors")
        assert all(np.isfinite(values).all() for values in before.values())
        assert ("log_alpha" in before) == (method == "sac")
        second = start_marked(tmp_path, [*command, "--frames", str(frames + 400)])
        code = second.wait(400)
        out = (tmp_path / "output.log").read_text()
        assert code == 0 and f"Continuing {logdir}" in out, out
        wait_for(lambda: not members(tmp_path), "every process to end", timeout=500)
    finally:
        end_all(tmp_path)
    lines = list(read_lines(logdir / SCORES))
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["frames"] for line in train] == sorted(line["frames"] for line in train)
    assert len({line["seed"] for line in train}) == len(train), "no episode is played twice"
    assert any(line["kind"] == "eval" for line in lines)
    measured = list(read_lines(logdir / METRICS))
    assert all(a["updates"] <= b["updates"] for a, b in zip(measured, measured[1:], strict=False))
    assert all("train/loss/total" in line and "fps/env" in line for line in measured[-2:])
    evaluation = json.loads((logdir / "evaluation.json").read_text())
    assert len(evaluation["trained"]["scores"]) == len(evaluation["random"]["scores"]) == 20
    assert (logdir / "curve.png").exists()
    (curve,) = load_runs([logdir]).curves
    assert curve.method == f"{method.upper()}, RLlib" and len(curve.xs) == len(train)
