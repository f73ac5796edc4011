"""Inline runs repeat bit for bit, also through a SIGKILL and the same command again."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.integration.runs import MY_MODULE, checkpoints, command, differences, lines, run, start, state_of, wait_for

# Checkpoints at updates 10, 20 and 30. 4 x 8 steps an update, 4 replayed ones an environment step.
RATIO = ["--mode", "inline", "--learner.train-ratio", "4", "--checkpoint-every", "10", "--keep-checkpoints", "9",
         "--log-every", "5"]  # fmt: skip

# The tasks, and a process that is killed in the middle of its STEPS_TO_LIVE-th step.
MORTAL = (
    MY_MODULE
    + """
import os, signal
from gymnasium.envs.classic_control import CartPoleEnv

left = int(os.environ.get("STEPS_TO_LIVE", 0))

def mortal(step):
    def counted(self, action):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, action)
    return counted

MyEnv.step, CartPoleEnv.step = mortal(MyEnv.step), mortal(CartPoleEnv.step)
gym.register("Pole-v0", CartPoleEnv, max_episode_steps=500)
"""
)


def _command(
    task: str, logdir: Path, frames: int, consecutive: int = 1, priority: float = 0.0, report: int = 0
) -> list[str]:
    return command(
        task, logdir, *RATIO, "--frames", str(frames), "--learner.consecutive", str(consecutive),
        "--replay.selection.priority", str(priority), "--report-every", str(report),
    )  # fmt: skip


# With 3 the checkpoint at update 20 lies between the parts of a sequence.
@pytest.mark.parametrize(
    ("task", "frames", "steps_to_live", "consecutive", "priority", "report"),
    [("gym:my_module:Pole-v0", 360, 330, 3, 0.0, 28), ("gym:my_module:MyEnv-v0", 320, 250, 1, 0.5, 0)],
)
def test_killed_after_a_checkpoint_continues_bit_for_bit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    frames: int,
    steps_to_live: int,
    consecutive: int,
    priority: float,
    report: int,
) -> None:
    (tmp_path / "my_module.py").write_text(MORTAL)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    done = run(tmp_path, _command(task, straight, frames, consecutive, priority, report))
    assert done.returncode == 0, done.stdout + done.stderr
    last = checkpoints(straight)[-1]
    assert last >= 30

    monkeypatch.setenv("STEPS_TO_LIVE", str(steps_to_live))
    process = start(tmp_path, _command(task, killed, frames, consecutive, priority, report))
    monkeypatch.delenv("STEPS_TO_LIVE")
    assert process.wait(200) == -signal.SIGKILL, (tmp_path / "output.log").read_text()
    assert checkpoints(killed)[-1] == 20
    assert lines(killed / "metrics.jsonl")[-1]["updates"] > 20, "nothing to go back behind"

    again = run(tmp_path, _command(task, killed, frames, consecutive, priority, report))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "update 20" in again.stdout
    assert checkpoints(killed)[-1] == last
    assert differences(state_of(straight, last), state_of(killed, last)) == []
    for name in ("scores.jsonl", "metrics.jsonl"):
        assert lines(straight / name) == lines(killed / name), name
    assert any("report/openloop_reward" in line for line in lines(killed / "metrics.jsonl")) == bool(report)


def test_episode_that_does_not_repeat_starts_anew_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    logdir = tmp_path / "run"
    first = run(tmp_path, _command("gym:my_module:MyEnv-v0", logdir, 110))
    assert first.returncode == 0, first.stdout + first.stderr
    (tmp_path / "my_module.py").write_text(MY_MODULE.replace("0.1 *", "0.11 *"))
    second = run(tmp_path, _command("gym:my_module:MyEnv-v0", logdir, 220))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "did not repeat itself" in second.stdout
    assert [json.loads(line)["frames"] for line in (logdir / "scores.jsonl").read_text().splitlines()][-1] > 110


def test_ctrl_c_saves_and_says_how_to_continue(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    process = start(tmp_path, _command("gym:CartPole-v1", logdir, 100_000))
    try:
        wait_for(lambda: any(line["updates"] >= 20 for line in lines(logdir / "metrics.jsonl")), "update 20")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(300) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    output = (tmp_path / "output.log").read_text()
    assert "Continue with:\n  nexus train gym:CartPole-v1" in output
    assert checkpoints(logdir)[-1] >= 20
