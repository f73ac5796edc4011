"""Environments that fail when they are closed, drawn or forgotten: what was done stays done."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from actors import closing
from actors.conformance import check_environment
from actors.envs import make
from actors.evaluation import run_episodes
from actors.trivial_policies import RandomPolicy
from deploy.cli import main
from deploy.wiring.config import RunConfig
from deploy.wiring.task import spaces_of
from tests.integration.runs import environment


class Drawn(gymnasium.Env):
    """Ends after ten steps; nothing is wrong."""

    metadata: Any = {"render_modes": ["rgb_array"]}
    observation_space, action_space = Box(-1, 1, (2,), np.float32), Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.zeros(2, np.float32), 1.0, self.time >= 10, False, {}

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


class CloseRaises(Drawn):
    def close(self) -> None:
        raise RuntimeError("the window\nis gone")


class CloseExits(Drawn):
    def close(self) -> None:
        os._exit(0)


class CloseHangs(Drawn):
    def close(self) -> None:
        while True:
            try:
                time.sleep(3600)
            except Exception:
                continue


class HalfMade(Drawn):
    observation_space = None  # type: ignore[assignment]

    def close(self) -> None:
        raise RuntimeError("the window is gone")


class DrawRaises(Drawn):
    def render(self) -> Any:
        raise RuntimeError("no picture")


class DrawExits(Drawn):
    def render(self) -> Any:
        sys.exit(0)


class DrawsGrey(Drawn):
    def render(self) -> Any:
        return np.zeros((8, 8), np.uint8)


for kind in (CloseRaises, CloseExits, CloseHangs, HalfMade, DrawRaises, DrawExits, DrawsGrey):
    gymnasium.register(f"Nexus{kind.__name__}-v0", kind)  # type: ignore[arg-type]

CLOSED = [
    ("CloseRaises", "in close: RuntimeError: the window is gone"),
    ("CloseExits", "in close: ExitedError: tried to end the program with code 0"),
    ("CloseHangs", "in close: did not return within 0.2 s; the environments of this task are left open"),
]


@pytest.mark.parametrize(("kind", "message"), CLOSED)
def test_what_fails_at_closing_is_one_warning_and_the_work_is_kept(
    kind: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(closing, "PATIENCE", 0.2 if "Hangs" in kind else 60)
    monkeypatch.setattr(closing, "_said", set())
    monkeypatch.setattr(closing, "_hung", set())
    task, before = f"gym:Nexus{kind}-v0", signal.getsignal(signal.SIGALRM)
    _, actions = spaces_of(RunConfig(task=task))
    result = run_episodes([lambda: make(task)] * 3, RandomPolicy(actions, 0), 4, seed=0)
    assert result.scores == [10.0] * 4
    with pytest.raises(SystemExit) as left:
        main(["check-env", task, "--steps", "30"])
    said = capsys.readouterr()
    assert left.value.code == 0 and said.out.splitlines()[-1] == f"{task}: 0 errors, 1 warning in 30 steps"
    (line,) = said.err.splitlines()
    assert line.startswith(f"warning: {task}, close(), {__file__}, line ") and line.endswith(message), line
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_environment_that_is_refused_and_fails_at_closing_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match="has no observation_space; set self.observation_space"):
        make("gym:NexusHalfMade-v0")


def test_a_timer_that_runs_goes_on_after_closing() -> None:
    before = signal.setitimer(signal.ITIMER_REAL, 1000)  # the test's own time-out, perhaps
    try:
        closing.close_outside(lambda: None, "quick")
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("DrawRaises", "in render: RuntimeError: no picture"),
        ("DrawExits", "tried to end the program with code 0"),
        ("DrawsGrey", "returned an array of shape (8, 8); return a uint8 array of shape [H, W, 3]"),
    ],
)
def test_what_cannot_be_drawn_is_a_warning_with_its_place(kind: str, message: str) -> None:
    (finding,) = check_environment(make(f"gym:Nexus{kind}-v0"), 30)
    assert finding.severity == "warning" and message in finding.what and __file__ in finding.what


def test_what_a_forgotten_environment_raises_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "forgotten.py").write_text(
        "import gymnasium\nfrom tests.actors.test_closing import Drawn\n"
        "class E(Drawn):\n    def __del__(self):\n        raise RuntimeError('too late')\n"
        "gymnasium.register('Forgotten-v0', E)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "check-env", "gym:forgotten:Forgotten-v0", "--steps", "30"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0 and "0 errors" in done.stdout
    place = f"{tmp_path / 'forgotten.py'}, line 5, in __del__"
    assert done.stderr.splitlines() == [f"warning: {place}: RuntimeError: too late"]
