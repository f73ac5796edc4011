"""Local runs whose environments fail in every way go on, count what happened, and end when none is left."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.processes import end_all, members, start_marked
from tests.integration.runs import checkpoints, command, lines, replay_of, wait_for

FAILING = """
import ctypes, json, os, time
import gymnasium as gym, numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

class Failing(CartPoleEnv):
    kind = ""
    def reset(self, *, seed=None, options=None):
        if not os.path.exists("calm") and seed % 4 == 0:
            self.kind = {kinds}[seed // 4 % {count}]
        self.steps, self.kept = 0, []
        return super().reset(seed=seed)
    def step(self, action):
        self.steps += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.kind and self.steps >= 5:
            if self.steps == 5:
                with open("injected", "a") as file:
                    file.write(self.kind + "\\n")
            terminated = False
            if self.kind == "exception":
                raise RuntimeError("the robot has fallen over")
            if self.kind == "non_finite":
                observation[0] = np.nan
            if self.kind == "timeout":
                time.sleep(1000)
            if self.kind == "crash":
                ctypes.string_at(0)
            if self.kind == "memory":
                self.kept.append(np.ones(8_000_000))
                time.sleep(0.05)
        return observation, reward, terminated, truncated, info

gym.register("Failing-v0", Failing)
"""
KINDS = ["exception", "non_finite", "timeout", "crash", "memory"]
TASK = "gym:failing:Failing-v0"
OPTIONS = [
    "--mode", "local", "--actor.actors", "2", "--actor.environments", "4", "--log-every", "2",
    "--learner.train-ratio", "1", "--checkpoint-every", "20", "--frames", "1000000", "--actor.step-timeout", "2",
    "--actor.environment-gb", "0.4", "--actor.quarantine-after", "20",
]  # fmt: skip


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    end_all(tmp_path)


def _output(logdir: Path) -> str:
    return (logdir.parent / "output.log").read_text()


def _counted(logdir: Path) -> dict[str, int]:
    newest = (lines(logdir / "metrics.jsonl") or [{}])[-1]
    return {kind: int(newest.get(f"failures/{kind}", 0)) for kind in [*KINDS, "invalid"]}


def _injected(logdir: Path) -> dict[str, int]:
    path = logdir.parent / "injected"
    count = Counter(path.read_text().split() if path.exists() else [])
    return {kind: count[kind] for kind in [*KINDS, "invalid"]}


def test_environments_that_fail_in_every_way_are_made_again_and_counted(logdir: Path) -> None:
    (logdir.parent / "failing.py").write_text(FAILING.format(kinds=KINDS, count=len(KINDS)))
    run = start_marked(logdir.parent, command(TASK, logdir, *OPTIONS))
    wait_for(lambda: all(_injected(logdir)[kind] for kind in KINDS) or run.poll() is not None, "every kind", 150)
    assert run.poll() is None, _output(logdir)
    (logdir.parent / "calm").touch()
    wait_for(lambda: _counted(logdir) == _injected(logdir), "every failure to be counted, and no other", 60)
    frames = lines(logdir / "metrics.jsonl")[-1]["frames"]
    wait_for(lambda: lines(logdir / "metrics.jsonl")[-1]["frames"] > frames + 200, "the run to go on")
    run.send_signal(signal.SIGINT)
    assert run.wait(300) == 130, _output(logdir)
    assert _counted(logdir) == _injected(logdir)

    newest = lines(logdir / "metrics.jsonl")[-1]
    assert newest["restarts/actor"] == 0, "no worker died of it"
    told = "".join(path.read_text() for path in (logdir / "faults").glob("environment-*.log"))
    for part in ("RuntimeError: the robot has fallen over", "failing.py", "not finite", "signal 11 (SIGSEGV)",
                 "step() did not return within 2 s", "actor.environment_gb allows 0.4"):  # fmt: skip
        assert part in told
    assert "Traceback" not in _output(logdir) and "failed (timeout) and is made again" in " ".join(
        _output(logdir).split()
    )
    rows = replay_of(logdir, logdir / "checkpoints" / f"{checkpoints(logdir)[-1]:010d}")
    streams = {key.rsplit("/", 1)[0] for key in rows if key.endswith("/is_first")}
    assert len(streams) > 4, "every failure cuts a stream"
    for stream in streams:
        first, last = rows[f"{stream}/is_first"], rows[f"{stream}/is_last"]
        assert first[0] and (first[1:] == last[:-1]).all(), (
            f"{stream}: an episode begins without the one before it ending"
        )
    wait_for(lambda: not [p for p in members(logdir.parent) if p.status() != psutil.STATUS_ZOMBIE], "all to end", 30)


HOPELESS = """
import os
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Hopeless(CartPoleEnv):
    def step(self, action):
        raise RuntimeError("the robot was sold")

gym.register("Hopeless-v0", Hopeless)
"""


def test_a_run_that_has_no_environment_left_ends_with_its_last_words(logdir: Path) -> None:
    (logdir.parent / "hopeless.py").write_text(HOPELESS)
    options = [
        *OPTIONS,
        "--actor.environments",
        "2",
        "--actor.quarantine-after",
        "2",
    ]  # one each: none is like the others
    run = start_marked(logdir.parent, command("gym:hopeless:Hopeless-v0", logdir, *options))
    assert run.wait(150) == 1, _output(logdir)
    said = " ".join(_output(logdir).split())
    assert "the robot was sold" in said and "hopeless.py, line 8, in step" in said and "Traceback" not in said
    for i in range(2):
        assert (logdir / "faults" / f"environment-{i}.log").read_text().count("Traceback") == 2
