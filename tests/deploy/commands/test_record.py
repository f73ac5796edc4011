"""`nexus record`: what it writes is what was played, it stops and goes on, and says what does not fit."""

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from deploy.commands.record import parse_record, run
from deploy.exit_codes import INTERRUPTED
from deploy.stored.datasets import open_dataset
from deploy.stored.episode_files import read_index
from learner.datasets.dataset import Clip
from learner.datasets.keys import Keys
from learner.datasets.videos import Video
from tests.actors.envpool_here import what_procgen_lacks
from tests.deploy.commands.test_plan import saved_dreamer

REACH = "gym:actors.envs.point_reach:PointReach-v0"
COUNTING = f"gym:{__name__}:Recorded-v0"
STOPS_AT = 30


class Counting(gymnasium.Env[np.ndarray, np.int64]):
    """Pictures of the sum of its actions; it sends Ctrl-C after 30 of all environments' steps in the first process."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Discrete(3)
    steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.sum = self.length = 0
        return self._picture(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.sum, self.length = self.sum + int(action), self.length + 1
        Counting.steps += 1
        if Counting.steps == STOPS_AT:
            os.kill(os.getpid(), signal.SIGINT)
        return self._picture(), float(action), self.length == 9, False, {}

    def _picture(self) -> np.ndarray:
        return np.full((8, 8, 3), self.sum, np.uint8)


gymnasium.register("Recorded-v0", f"{__name__}:Counting")


def counted(out: Path) -> list[list[int]]:
    """The actions of some clips, which are what changes their pictures."""
    data = open_dataset(str(out), Clip(frames=5))
    found = []
    for seed in range(20):
        clip = data.example(seed % len(data), np.random.default_rng(seed))
        sums = clip["frames"][:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(clip["actions"].argmax(1), np.diff(sums))
        np.testing.assert_array_equal(clip["rewards"], np.diff(sums))
        found.append(clip["actions"].argmax(1).tolist())
    return found


def test_ctrl_c_keeps_what_is_there_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Counting.steps = 0
    arguments = [COUNTING, "--out", str(tmp_path / "out"), "--frames", "101", "--envs", "3"]
    assert run(arguments) == INTERRUPTED
    assert "Stopped; what was recorded is stored. Continue with:" in capsys.readouterr().err
    index = read_index(tmp_path / "out")
    assert index and STOPS_AT <= index["counts"]["steps"] < 50
    first = counted(tmp_path / "out")
    assert run(arguments) == 0
    printed = capsys.readouterr().out
    assert "Continuing" in printed and "101 frames, 9 whole episodes, mean score" in printed and "frames/s" in printed
    index = read_index(tmp_path / "out")
    assert index and index["counts"]["steps"] == 101
    assert (index["task"], index["policy"], index["seed"], index["actions"]) == (COUNTING, "random", 0, "random")
    assert first != counted(tmp_path / "out")
    assert run(arguments) == 0 and "has 101 frames already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="out is a recording with seed=0, not 5"):
        run([*arguments[:-2], "--seed", "5"])


def test_a_checkpoint_plays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    folder = saved_dreamer(tmp_path / "run")
    (folder / "config.yaml").write_text(f"task: {REACH}\nenvironment:\n  image_size: [16, 16]\n")
    video = tmp_path / "first.mp4"
    play = [REACH, "--policy", str(folder), "--deterministic", "--frames", "40", "--envs", "2"]
    assert run([*play, "--out", str(tmp_path / "out"), "--video", str(video)]) == 0
    index = read_index(tmp_path / "out")
    assert index and index["policy"] == str(folder / "checkpoints" / "best") and index["actions"] == "mode"
    assert index["keys"]["image"] == ["|u1", [16, 16, 3]]  # the run's own, not the default
    with Video(video) as written:
        assert written.frames == 9  # an episode of point reach has 8 steps
    data = open_dataset(str(tmp_path / "out"), Clip(frames=3), keys=Keys(frames="image", conditions=False))
    assert data.example(0, np.random.default_rng(0))["frames"].shape == (3, 16, 16, 3)
    with pytest.raises(ValueError, match=r"The policy in .*best sees position float32 \[2\], but gym:CartPole-v1 has"):
        run(["gym:CartPole-v1", *play[1:], "--out", str(tmp_path / "other")])


def test_procgens_levels_are_those_asked_for(tmp_path: Path) -> None:
    if missing := what_procgen_lacks():
        pytest.skip(missing)
    game = ["procgen_coinrun", "--envs", "2", "--frames", "4"]
    for first in (7, 8):
        level = ["--environment.procgen.num-levels", "1", "--environment.procgen.start-level", str(first)]
        assert run([*game, *level, "--out", str(tmp_path / str(first))]) == 0
    (seven, again), eight = (
        [np.load(file)["image"][0] for file in sorted((tmp_path / name).glob("*.npz"))] for name in ("7", "8")
    )
    np.testing.assert_array_equal(seven, again)
    assert not np.array_equal(seven, eight[0])
    index = read_index(tmp_path / "8")
    assert index and index["environment"]["procgen"] == {"num_levels": 1, "start_level": 8}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nexus record needs TASK and --out and --frames, e.g. nexus record procgen_coinrun"),
        (["--out", "x"], "nexus record: TASK comes first, e.g."),
        ([REACH, "--out", "x"], "nexus record needs --frames, e.g."),
        ([REACH, "--out", "x", "--frames", "0"], "--frames: must be at least 1, not 0"),
        ([REACH, "--out", "x", "--frames", "9", "--policy", "nowhere"], "nowhere is no directory; give a run"),
        ([REACH, "--out", "x", "--frames", "9", "--video", "a.wav"], r"name it \.mp4 or \.gif"),
        ([REACH, "--out", "x", "--frames", "9", "--environment.procgen.num-levels", "3"], "is for procgen_ tasks"),
        ([REACH, "--out", "x", "--frames", "9", "--environment.procgen.start-level", "3"], "num_levels too"),
        ([REACH, "--out", "x", "--frames", "9", "--polcy", "random"], "no option --polcy; nearest: --policy"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words) as refused:
        run(arguments)
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_the_task_has_its_usual_environment() -> None:
    given, config = parse_record(["atari_pong", "--out", "x", "--frames", "9"])
    assert config.environment.action_repeat == 4 and given.envs == config.actor.environments == 16
    given, config = parse_record(["dmc_walker_walk", "--preset", "dmc_vision", "--out", "x", "--frames", "9"])
    assert config.environment.observations == "pixels"
