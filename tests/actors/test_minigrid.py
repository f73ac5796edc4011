"""MiniGrid and BabyAI: cells as classes or pixels, missions as words, success, and names."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("minigrid", reason="the extra minigrid is not installed")
import gymnasium
from gymnasium import spaces
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

from actors.config import EnvironmentConfig
from actors.environment import Environment, Step
from actors.envs import make
from actors.envs.minigrid import task_names
from actors.envs.minigrid_observations import LearnableObservation

# Of versions that the package has replaced.
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")
ROOT = Path(__file__).parents[2]
LEFT, RIGHT, FORWARD = (np.array(number, np.int32) for number in range(3))


def play(environment: Environment, *actions: np.ndarray) -> Step:
    step = environment.reset(0)
    for action in actions:
        step = environment.step({"action": action})
    return step


def shapes(environment: Environment) -> dict[str, tuple[tuple[int, ...], int]]:
    return {key: (space.shape, space.classes) for key, space in environment.observation_space.items()}


CELLS = {"object": ((7, 7), 11), "color": ((7, 7), 6), "state": ((7, 7), 3), "direction": ((), 4)}


@pytest.mark.parametrize("task", ["minigrid_empty_8x8", "gym:MiniGrid-Empty-8x8-v0", "minigrid_MiniGrid-Empty-8x8-v0"])
def test_the_cells_in_view_are_classes(task: str) -> None:
    environment = make(task)
    assert shapes(environment) == CELLS and environment.action_space["action"].classes == 7
    step = play(environment)
    raw, _ = gymnasium.make("MiniGrid-Empty-8x8-v0").reset(seed=0)
    for layer, key in enumerate(("object", "color", "state")):
        assert np.array_equal(step.observation[key], raw["image"][..., layer])
    assert step.observation["direction"] == raw["direction"] == 0
    assert (step.observation["object"] == OBJECT_TO_IDX["wall"]).any()


def test_reaching_the_goal_ends_the_task_and_is_a_success() -> None:
    environment = make("minigrid_empty_8x8")  # from one corner to the opposite one
    step = play(environment, *[FORWARD] * 5, RIGHT, *[FORWARD] * 5)
    assert step.is_last and step.is_terminal
    assert step.reward == pytest.approx(1 - 0.9 * 11 / 256)
    assert step.infos == [{"is_success": 1}]


def test_the_time_limit_is_the_environments_own_and_no_success() -> None:
    environment = make("minigrid_empty_5x5")
    step, frames = environment.reset(0), 0
    while not step.is_last:
        step, frames = environment.step({"action": LEFT}), frames + 1
    assert frames == 100 and not step.is_terminal
    assert step.infos == [{"is_success": 0}] and step.reward == 0


@pytest.mark.parametrize(
    ("observations", "keys"), [("pixels", {"image", "direction"}), ("both", {"image", *CELLS})]
)  # fmt: skip
def test_pixels_are_the_agents_view(observations: str, keys: set[str]) -> None:
    config = EnvironmentConfig(observations=observations)  # type: ignore[arg-type]
    environment = make("minigrid_empty_8x8", config)
    image = play(environment, FORWARD).observation["image"]
    assert environment.observation_space.keys() == keys
    assert image.shape == (64, 64, 3) and image.std() > 10
    published = make("minigrid_empty_8x8", EnvironmentConfig(observations="pixels", image_size=(0, 0)))
    raw = gymnasium.make("MiniGrid-Empty-8x8-v0").unwrapped
    raw.reset(seed=0)
    raw.step(2)
    view = play(published, FORWARD).observation["image"]
    assert np.array_equal(view, raw.get_frame(tile_size=8, agent_pov=True))  # type: ignore[attr-defined]


def test_a_mission_that_varies_is_seen_as_words() -> None:
    environment = make("minigrid_gotodoor_5x5")
    words, raw = environment.inner.raw._words, environment.inner.raw  # type: ignore[attr-defined]
    assert isinstance(raw, LearnableObservation)
    assert set(words) == {"go", "to", "the", "door", *COLOR_TO_IDX}
    names = {index: word for word, index in words.items()}
    seen = set()
    for seed in range(12):
        mission = environment.reset(seed).observation["mission"]
        assert " ".join(names[index] for index in mission) == raw.unwrapped.mission  # type: ignore[attr-defined]
        seen.add(mission.tobytes())
    assert len(seen) > 1


def test_names_are_unique_and_every_environment_can_be_learned_from() -> None:
    names = task_names()
    assert {"minigrid_doorkey_5x5", "minigrid_lavacrossings9n1", "minigrid_babyai_gotoredball"} <= set(names)
    registered = [key for key in gymnasium.registry if key.startswith(("MiniGrid-", "BabyAI-"))]
    assert len(names) == len(registered) > 150
    for name in names:
        if "wfc" not in name:  # those take long to make
            environment = make(name)
            assert shapes(environment).items() >= CELLS.items(), name
            assert ("mission" in environment.observation_space) >= ("babyai" in name), name
            environment.close()


def test_the_words_of_babyai_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the levels with every kind of instruction, up to four of them joined."""
    for name in ("bosslevel", "synthseq", "synthloc", "putnextlocal", "opendoorsordern4", "unlocktounlock"):
        environment = make(f"minigrid_babyai_{name}")
        for seed in range(40 if "bosslevel" in name or "synth" in name else 5):
            mission = environment.reset(seed).observation["mission"]
            assert mission[0] and not mission[-1]
        environment.close()


def test_an_environment_of_ones_own_is_seen_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import gymnasium\nfrom minigrid.envs.empty import EmptyEnv\n"
        "gymnasium.register('Mine-v0', lambda render_mode=None: EmptyEnv(size=6, render_mode=render_mode))\n"
    )
    code = (
        "from actors.envs import make\n"
        "print(sorted(make('gym:mine:Mine-v0').reset(0).observation), "
        "make('gym:CartPole-v1').reset(0).observation.keys())"
    )
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=500
    )
    assert done.stdout.strip() == "['color', 'direction', 'object', 'state'] dict_keys(['vector'])", done.stderr


def test_texts_of_other_environments_are_refused_as_before() -> None:
    class Talks(gymnasium.Env):
        observation_space = spaces.Dict({"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "mission": spaces.Text(9)})
        action_space = spaces.Discrete(2)

    gymnasium.register("NexusTalks-v0", lambda **_: Talks())
    try:
        with pytest.raises(ValueError, match="'mission' is a Text, whose values have no fixed size"):
            make("gym:NexusTalks-v0")
    finally:
        del gymnasium.registry["NexusTalks-v0"]


@pytest.mark.parametrize(
    ("task", "nearest"),
    [
        ("minigrid_empty_9x9", "minigrid_empty_8x8"),
        ("minigrid_Empty8x8", "minigrid_empty_8x8"),
        ("minigrid_babyai_gotoball", "minigrid_babyai_goto"),
        ("gym:MiniGrid-Empty-9x9-v0", "gym:MiniGrid-Empty-8x8-v0"),
    ],
)
def test_an_unknown_task_names_the_nearest(task: str, nearest: str) -> None:
    with pytest.raises(ValueError, match="Unknown task") as caught:
        make(task)
    assert repr(task) in str(caught.value) and nearest in str(caught.value)
