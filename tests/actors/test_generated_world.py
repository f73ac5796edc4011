"""A generated world is an environment like others: repeatable under a seed, with actions that matter."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from actors.config import EnvironmentConfig
from actors.conformance import check_environment
from actors.envs import make
from actors.envs.generated_world import GeneratedWorld, WorldConfig, load_world
from deploy.commands.pretraining.world import run
from deploy.stored.generated_world import make_world
from tests.actors.small_world import saved_genie
from world_models.checkpoint_files import MODEL_CONFIG

OWN_SIZE = EnvironmentConfig(image_size=(0, 0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    return made(folder)


def made(folder: Path, real_actions: int = 0, data: str = "generated:block_world") -> Path:
    out = folder / "out"
    make_world(saved_genie(folder / "genie", real_actions), data, out, WorldConfig(steps=6), starts=8)
    return out


def test_it_is_an_environment(world: Path) -> None:
    check_env(GeneratedWorld(world), skip_render_check=True)
    environment = make(f"genie:{world}", OWN_SIZE)
    assert environment.backend == "genie"
    assert environment.observation_space["image"].shape == (8, 8, 3)
    assert environment.action_space["action"].classes == 3
    assert not check_environment(environment, steps=60)
    environment.close()


def played(environment: gymnasium.Env, seed: int, actions: list[int]) -> np.ndarray:
    first, _ = environment.reset(seed=seed)
    return np.stack([first, *(environment.step(action)[0] for action in actions)])


def generated(environment: GeneratedWorld, first: np.ndarray, seed: int, actions: list[int]) -> np.ndarray:
    """What the model itself makes of a start frame."""
    environment.reset(seed=seed)
    draws = torch.Generator()
    draws.set_state(environment.generator.get_state())
    frames = torch.from_numpy(first)[None, None]
    return environment.world.model.generate(frames, torch.tensor([actions]), draws)[0].numpy()


def test_a_seed_and_the_actions_say_everything_and_two_worlds_are_apart(world: Path) -> None:
    one, other = GeneratedWorld(world), GeneratedWorld(world)
    assert one.world is other.world  # a model is in memory once
    first, _ = one.reset(seed=5)
    other.reset(seed=6)
    frames = [first]
    for action in (0, 1, 2, 2):
        frames.append(one.step(action)[0])
        other.step(1)
    np.testing.assert_array_equal(played(other, 5, [0, 1, 2, 2]), np.stack(frames))
    np.testing.assert_array_equal(generated(one, frames[0], 5, [0, 1, 2, 2]), np.stack(frames[1:]))
    assert len({played(one, seed, []).tobytes() for seed in range(8)}) > 3


def test_an_episode_is_truncated(world: Path) -> None:
    environment = make(f"genie:{world}", OWN_SIZE)
    environment.reset(0)
    steps = [environment.step({"action": np.array(1, np.int32)}) for _ in range(6)]
    assert [step.is_last for step in steps] == [False] * 5 + [True]
    assert not any(step.is_terminal or step.reward for step in steps)
    environment.close()


def test_stepping_leaves_the_threads_of_the_process_as_they_are(world: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        played(GeneratedWorld(world), 0, [0])
        assert torch.get_num_threads() == 2 and not torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("data", "width", "kind"), [("block_world", 5, gymnasium.spaces.Discrete), ("point_reach", 2, gymnasium.spaces.Box)]
)
def test_real_actions_are_those_of_the_data(tmp_path: Path, data: str, width: int, kind: type) -> None:
    out = made(tmp_path, real_actions=width, data=f"generated:{data}")
    environment = GeneratedWorld(out)
    assert isinstance(environment.action_space, kind)
    environment.action_space.seed(0)
    assert played(environment, 0, [environment.action_space.sample() for _ in range(2)]).shape == (3, 8, 8, 3)


def test_what_is_no_world_is_refused(tmp_path: Path, world: Path) -> None:
    with pytest.raises(ValueError, match=r"no world\.json in .*nowhere\. Make one with nexus world"):
        make(f"genie:{tmp_path / 'nowhere'}", OWN_SIZE)
    with pytest.raises(ValueError, match=r"It holds a model: make a world of it"):
        make(f"genie:{saved_genie(tmp_path / 'genie')}", OWN_SIZE)
    (tmp_path / "world.json").write_text('{"steps": 0}')
    (tmp_path / MODEL_CONFIG).write_bytes((world / MODEL_CONFIG).read_bytes())
    with pytest.raises(ValueError, match=r"world\.json: steps=0 must be at least 1"):
        make(f"genie:{tmp_path}", OWN_SIZE)


def recording(folder: Path) -> Path:
    """Two episodes in which the pictures of rewarded steps are bright."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(2):
        rewards = (rng.random(200) < 0.2).astype(np.float32)
        frames = rng.integers(60, size=(200, 8, 8, 3)) + 190 * rewards[:, None, None, None].astype(int)
        np.savez(folder / f"{number}.npz", image=frames.astype(np.uint8), reward=rewards, action=np.zeros((200, 3)))
    return folder


def test_rewards_are_learnt_from_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genie, data, out = saved_genie(tmp_path / "genie"), recording(tmp_path / "data"), tmp_path / "out"
    words = [str(genie), "--data", str(data), "--out", str(out), "--steps", "5", "--starts", "4", "--updates", "20"]
    assert run([*words, "--transitions", "200", "--rewards", "--ends-with-reward"]) == 0
    said = capsys.readouterr().out
    assert "Reward head, on held-out recordings: accuracy" in said and f"nexus train genie:{out}" in said
    environment = GeneratedWorld(out)
    head = environment.world.reward
    assert head is not None and head.values.tolist() == [0, 1]
    head.logits.bias.data[:] = torch.tensor([-50.0, 50.0])
    environment.reset(seed=0)
    _, reward, terminated, _, info = environment.step(0)
    assert (reward, terminated, info) == (1.0, True, {"is_success": True})
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"has ended with its reward; call reset\(\)"):
        environment.step(0)
    environment.reset(seed=0)
    environment.step(0)
    assert run([*words, "--transitions", "200", "--rewards"]) == 0
    assert GeneratedWorld(out).world is not environment.world and not load_world(out).config.ends_with_reward


def test_rewards_that_say_nothing_are_refused(tmp_path: Path) -> None:
    genie, data = saved_genie(tmp_path / "genie"), recording(tmp_path / "data")
    for file in data.glob("*.npz"):
        arrays = dict(np.load(file))
        np.savez(file, **arrays | {"reward": np.zeros(200, np.float32)})
    for where, what in ((str(data), "all have the reward 0"), ("generated:block_world", "has no rewards")):
        with pytest.raises(ValueError, match=what):
            make_world(genie, where, tmp_path / "out", WorldConfig(), rewards=True, transitions_read=64)
    with pytest.raises(ValueError, match="--ends-with-reward needs --rewards"):
        run([str(genie), "--data", str(data), "--out", str(tmp_path / "out"), "--ends-with-reward"])
