"""How commands end: on what a user gets wrong, on Ctrl-C, and where nobody reads their output."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import main
from replay.counted import counted
from tests.integration.runs import environment

SLOW = """
import time
import gymnasium as gym, numpy as np

class Slow(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2)
    def reset(self, seed=None, options=None):
        print("playing", flush=True)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        time.sleep(0.05)
        return np.zeros(2, np.float32), 0.0, False, False, {}

gym.register("Slow-v0", Slow)
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "gym:CartPole-v1", "--presett", "quick"], "no option --presett; nearest: --preset"),
        (["train", "gym:CartPole-v1", "--framess=3"], "no option --framess; nearest: --frames"),
        (["train", "gym:CartPole-v1", "--xyzzy", "3"], "nexus train --help lists them all"),
        (["train", "gym:CartPole-v1", "--frames", "1e6"], "'1e6' is not a whole number; write 1000000."),
        (["train", "gym:CartPole-v1", "--learner.train-ratio", "abc"], "'abc' is not a number."),
        (["check-env", "gym:CartPole-v1", "--steps", "many"], "nexus check-env --steps: 'many' is not a whole number."),
        (["check-env", "gym:CartPole-v1", "--steps", "0"], "nexus check-env --steps: must be at least 1, not 0."),
        (["eval", "x", "--episodes", "inf"], "nexus eval --episodes: 'inf' is not a whole number."),
        (["eval", "x", "--seed", "-1"], "nexus eval --seed: must be at least 0, not -1."),
        (["eval", "x"], "give a run directory"),
        (["replay", "import", "nix", "--into", "x"], "nix: no such file or folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_at_once(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    error = " ".join(capsys.readouterr().err.split())
    assert left.value.code == 2 and expected in error


def test_eval_of_an_empty_folder_says_so_before_pytorch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from deploy.cli import main\n"
        f"try: main(['eval', {str(tmp_path)!r}])\n"
        "except SystemExit as left: print(left.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=500)
    assert done.stdout.split() == ["2", "False"] and "give a run directory" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_says_so_in_one_line(tmp_path: Path, number: int) -> None:
    (tmp_path / "mine.py").write_text(SLOW)
    command = [sys.executable, "-m", "deploy.cli", "check-env", "gym:mine:Slow-v0", "--steps", "100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        while process.stdout.readline() != "playing\n":
            assert process.poll() is None
        for _ in range(3):  # impatiently
            process.send_signal(number)
        assert process.stderr.read() == "nexus check-env was stopped.\n"
        assert process.wait(300) == 130


def test_a_second_ctrl_c_while_the_program_exits_changes_nothing() -> None:
    """As after a run that has taken the first one as a wish to save, and said so."""
    code = (
        "import atexit, os, signal; from deploy import cli\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), print('left')))\n"
        "import deploy.commands.doctor; deploy.commands.doctor.run = lambda arguments: cli.INTERRUPTED\n"
        "cli.main(['doctor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stdout, done.stderr) == (130, "left\n", "")


@pytest.mark.parametrize(
    "arguments", [[], ["check-env", "gym:CartPole-v1", "--steps", "100"], ["plot", "--help"], ["plot", "nowhere"]]
)
def test_output_that_nobody_reads_ends_a_command_in_silence(tmp_path: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for errors in (subprocess.PIPE, writing):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments], cwd=tmp_path, env=environment(), stdout=writing,
            stderr=errors, text=True, timeout=500,
        )  # fmt: skip
        assert done.returncode == (2 if "nowhere" in arguments else 130)
        assert not done.stderr or "nowhere" in arguments and "Error" not in done.stderr
    os.close(writing)


@pytest.mark.parametrize("arguments", [[], ["doctor", "--help"]])
def test_output_that_a_full_disk_does_not_take_is_one_message(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments], env=environment(), stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=500,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "The output cannot be written: No space left on device.\n")


def test_numbers_agree_with_their_nouns() -> None:
    assert [counted(n, "episode") for n in (0, 1, 1200)] == ["0 episodes", "1 episode", "1,200 episodes"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
