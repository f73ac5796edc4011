"""The last lines of a run are true: its counts, whether its policy was trained, what could not be drawn."""

from pathlib import Path

from deploy.reports.summary import label
from learner.checkpoint import Checkpoints, read_document
from tests.integration.runs import command, run

UNDRAWABLE = """
import gymnasium as gym, numpy as np

class Undrawable(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2)
    def reset(self, seed=None, options=None):
        self.left = 7
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.left -= 1
        return np.zeros(2, np.float32), 1.0, self.left == 0, False, {}

gym.register("Undrawable-v0", Undrawable)
"""


def test_a_run_that_made_no_update_and_cannot_be_drawn_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(UNDRAWABLE)
    options = ("--mode", "inline", "--frames", "150", "--learner.start-items", "1000")
    done = run(tmp_path, command("gym:mine:Undrawable-v0", Path("run"), *options))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    (policy,) = (i for i, line in enumerate(lines) if line.startswith("Policy "))
    assert lines[policy + 1].startswith("  untrained: mean 7.00, ") and lines[policy + 2].startswith("  random: ")
    assert "  trained:" not in done.stdout
    (video,) = (line for line in lines if line.startswith("video: "))
    assert "none: " in video and "Undrawable" in video
    (saved,) = (tmp_path / "run" / "checkpoints").glob("[0-9]*")
    state = read_document(saved / "state.json")
    counts = (
        f"{state['actor']['frames']}/150 frames (100%)  score 7.00  episodes {state['board']['episodes']}  updates 0 "
    )
    assert lines[policy - 1].startswith(counts) and lines[policy - 1].endswith("saved")


def test_a_policy_is_called_trained_once_an_update_was_made(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints")
    for number in (0, 1):
        assert label(store.save(number, {}, {})) == ("trained" if number else "untrained")
    for updates in (0, 5):
        assert label(store.save("best", {}, {"score": {"updates": updates}})) == ("trained" if updates else "untrained")
    (tmp_path / "downloaded").mkdir()
    assert label(tmp_path / "downloaded") == "trained"
