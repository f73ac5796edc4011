"""Every suite trains for 2,000 steps and draws itself, and a sweep over several leaves nothing behind."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integration.processes import end_all, members, start_marked
from tests.integration.runs import command, run, wait_for
from tests.session import SHARED_MEMORY, folder

pytestmark = pytest.mark.timeout(1300)
PACKAGES = {"crafter": "crafter", "minigrid": "minigrid", "atari": "ale_py", "memory": "memory_maze", "box2d": "Box2D"}
FAST = ("--environment.fast-rendering", "True")
ATARI = ("--frames", "8000", "--environment.time-limit", "400", "--actor.actors", "1", "--log-every", "20")
LIGHT = [
    ("minigrid", "minigrid_empty_5x5", ["--environment.time-limit", "40"], "minigrid"),
    (
        "box2d",
        "gym:LunarLander-v3",
        ["--environment.time-limit", "60", "--environment.action-repeat", "1"],
        "gymnasium",
    ),
]
HEAVY = [
    ("crafter", "crafter_reward", ["--environment.time-limit", "100"], "crafter"),
    ("memory", "memory_maze_9x9", ["--environment.time-limit", "25", *FAST], "memory_maze"),
    ("box2d", "gym:CarRacing-v3", ["--environment.time-limit", "100"], "gymnasium"),
    ("mujoco", "gym:HalfCheetah-v5", ["--environment.time-limit", "200"], "gymnasium"),
    ("classic", "gym:Pendulum-v1", [], "gymnasium"),
    ("classic", "gym:Acrobot-v1", ["--environment.time-limit", "100", "--environment.action-repeat", "1"], "gymnasium"),
    ("classic", "gym:MountainCarContinuous-v0", ["--environment.time-limit", "100"], "gymnasium"),
    ("atari", "atari_pong", ["--preset", "atari100k", *ATARI], "ale-py"),
    ("atari", "atari_pong", ["--preset", "atari200m", *ATARI], "ale-py"),
]
CASES = [*LIGHT, *(pytest.param(*case, marks=pytest.mark.slow) for case in HEAVY)]


def require(suite: str) -> None:
    if (package := PACKAGES.get(suite)) and not find_spec(package):
        pytest.skip(f"the package {package} is not installed")


@pytest.mark.parametrize(("suite", "task", "options", "backend"), CASES)
def test_a_suite_trains_and_draws_itself(
    tmp_path: Path, suite: str, task: str, options: list[str], backend: str
) -> None:
    require(suite)
    logdir = tmp_path / "run"
    always = ("--mode", "inline", "--frames", "2000", "--learner.train-ratio", "1")
    done = run(tmp_path, command(task, logdir, *always, *options), timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads((logdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["frames"] >= 1500 and last["updates"] > 30
    assert f"back end {backend}" in done.stdout
    assert (logdir / "videos" / "best.mp4").stat().st_size > 1000
    if suite == "crafter":
        assert done.stdout.count("Crafter score (geometric mean") == 2  # of the best and of a random policy
        assert "Crafter score of " in done.stdout and last["episode/crafter_score"] >= 0
    if suite == "minigrid":
        assert "is_success: mean" in done.stdout


@pytest.mark.slow
def test_a_sweep_of_short_runs_leaves_no_process_and_no_shared_memory(tmp_path: Path) -> None:
    tasks = {
        "minigrid": "minigrid_empty_5x5", "crafter": "crafter_reward", "box2d": "gym:LunarLander-v3",
        "dmc": "dmc_cartpole_swingup",
    }  # fmt: skip
    before = {path.name for path in SHARED_MEMORY.iterdir()}
    try:
        for suite, task in tasks.items():
            require(suite)
            options = ("--mode", "local", "--frames", "600", "--learner.train-ratio", "2", "--actor.actors", "2")
            short = ("--environment.time-limit", "50")
            arguments = command(task, tmp_path / suite, *options, *short)
            with start_marked(tmp_path, arguments) as process:
                code = process.wait(240)
            assert code == 0, (tmp_path / "output.log").read_text()
            wait_for(lambda: not members(tmp_path), f"the processes of the run on {task} to end", 60)
        wait_for(lambda: not new_segments(before), "its shared memory to be freed", 60)
    finally:
        end_all(tmp_path)


def new_segments(before: set[str]) -> set[str]:
    """Shared memory that was not there before and is not that of other tests of this session."""
    names = {path.name for path in SHARED_MEMORY.iterdir()} - before
    return {name for name in names if not name.startswith(f"{folder().name}-")}
