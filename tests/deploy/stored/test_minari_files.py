"""Minari datasets: what is exported, Minari itself reads; what Minari's own recorder wrote is read here."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gym_spaces

from actors.native_actions import native_action, native_actions
from deploy.stored.gymnasium_data import action_space, flat_rows
from deploy.stored.minari_files import MinariEpisodes, write_minari
from learner.datasets.minari import is_minari
from replay.memory.memory_store import MemoryStore
from replay.reading.episodes import Found, episodes
from replay.step import Field, Schema
from tests.replay.cartpole import LATENTS, LENGTH, assert_same, play, schema, spaces, whole

minari = pytest.importorskip("minari")
h5py = pytest.importorskip("h5py")
BLOCKS = "gym:tests.contracts.test_environment:NexusBlocks-v0"  # pictures, nested vectors, a class and two numbers
CARTPOLE = "gym:CartPole-v1"
PENDULUM = "gym:Pendulum-v1"  # continuous, in [-2, 2]


def played(task: str, steps: int = 120) -> MemoryStore:
    store = MemoryStore(schema(task), length=LENGTH, capacity=4000, chunk_length=16, streams=4)
    play(store, steps=steps, task=task)
    return store


@pytest.mark.parametrize(("task", "steps"), [(CARTPOLE, 120), (BLOCKS, 100), (PENDULUM, 420)])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_exported_comes_back_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, steps: int, known: bool
) -> None:
    if task == BLOCKS and not known:
        pytest.skip("its action keys have names that say nothing")
    store = played(task, steps)
    counts = write_minari(
        tmp_path / "set-v0", store.schema, episodes(store, Found()), spaces(task) if known else None, {}
    )
    before = whole(store)
    assert counts == {"episodes": len(before), "steps": sum(len(one["reward"]) - 1 for one in before)}
    for path in (tmp_path / "set-v0", tmp_path / "set-v0" / "data", tmp_path / "set-v0" / "data" / "main_data.hdf5"):
        assert is_minari(path)
        assert_same(list(MinariEpisodes([path], store.schema)), before)
    assert_same(list(MinariEpisodes([tmp_path / "set-v0"], store.schema, spaces(task)[1])), before)

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("set-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (counts["episodes"], counts["steps"])
    for episode, rows in zip(dataset.iterate_episodes(), before, strict=True):
        np.testing.assert_array_equal(episode.rewards, rows["reward"][1:])
        assert episode.terminations.tolist() == rows["is_terminal"][1:].tolist()
        assert (episode.terminations | episode.truncations).tolist() == [False] * (len(episode) - 1) + [True]
        np.testing.assert_array_equal(episode.infos["version"], rows["version"])
    first = next(iter(dataset.iterate_episodes()))
    observation, action = dataset.observation_space, dataset.action_space
    assert observation.contains({key: at(value, 0) for key, value in first.observations.items()})
    if known:
        raw = gymnasium.make(task.rpartition(":")[2], disable_env_checker=True)
        assert action == raw.action_space
        assert all(raw.action_space.contains(at(first.actions, t)) for t in range(len(first)))
        raw.close()


def at(tree: Any, t: int) -> Any:
    """One step of a tree of arrays, as an environment would give it."""
    if isinstance(tree, dict):
        return {key: at(value, t) for key, value in tree.items()}
    return tuple(at(value, t) for value in tree) if isinstance(tree, tuple) else tree[t]


def test_pictures_are_kept_to_the_bit_and_actions_are_the_environments(tmp_path: Path) -> None:
    store = played(PENDULUM, 420)
    write_minari(tmp_path / "set-v0", store.schema, episodes(store, Found()), spaces(PENDULUM), {})
    with h5py.File(tmp_path / "set-v0" / "data" / "main_data.hdf5") as file:
        actions = file["episode_0/actions"][()]
        ours = whole(store)[0]["action"][:-1]
        np.testing.assert_array_equal(actions, np.clip(2 * ours, -2, 2))
        assert np.abs(actions).max() > 1
    image = Schema.transitions(
        {"image": Field(dtype=np.dtype(np.uint8), shape=(40, 40, 3)), "flag": Field(dtype=np.dtype(bool), shape=(2,))},
        {"action": Field(dtype=np.dtype(np.float32), shape=(2,))}, latents=LATENTS,
    )  # fmt: skip
    store = MemoryStore(image, length=3, capacity=100, streams=2)
    rng, n = np.random.default_rng(0), 12
    rows = {key: rng.integers(0, 256, (n, *f.shape)).astype(f.dtype) for key, f in image.all.items()}
    rows |= {"is_first": np.arange(n) % 6 == 0, "is_last": np.arange(n) % 6 == 5, "is_terminal": np.arange(n) == 5}
    rows["action"] = rng.normal(0, 2, (n, 2)).astype(np.float32)  # beyond the bounds too
    rows["action"][rows["is_last"]] = rows["reward"][rows["is_first"]] = 0
    store.append(0, 0, rows)
    write_minari(tmp_path / "image-v0", image, episodes(store, Found()), None, {})
    assert_same(list(MinariEpisodes([tmp_path / "image-v0"], image)), whole(store))


def test_an_episode_that_is_damaged_is_left_out(tmp_path: Path) -> None:
    store = played(CARTPOLE, 60)
    write_minari(tmp_path / "set-v0", store.schema, episodes(store, Found()), spaces(CARTPOLE), {})
    before = {one["vector"].tobytes(): one for one in whole(store)}
    file = tmp_path / "set-v0" / "data" / "main_data.hdf5"
    content = file.read_bytes()
    silent = 0
    for place in range(0, len(content), len(content) // 40):
        file.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        source = MinariEpisodes([tmp_path / "set-v0"], store.schema)
        got = list(source)
        for rows in got:
            assert_same([rows], [before[rows["vector"].tobytes()]])
        assert len(got) + len(source.damaged) == len(before)
        silent += not source.damaged
    assert silent < 40  # HDF5 leaves room in its files


NESTED = gym_spaces.Dict(
    stick=gym_spaces.Box(-2, 2, (2,), np.float32),
    arm=gym_spaces.Dict(button=gym_spaces.Discrete(3, start=5), steps=gym_spaces.Box(0, 10, (1,), np.int32)),
    pair=gym_spaces.Tuple((gym_spaces.MultiDiscrete([2, 3]), gym_spaces.MultiBinary(4))),
)


def test_nested_actions_go_there_and_back() -> None:
    from actors.config import EnvironmentConfig
    from actors.envs.gymnasium import GymnasiumEnvironment
    from actors.envs.wrappers import NormalizeActions
    from tests.actors.test_native_actions import Recorder

    known = NormalizeActions(GymnasiumEnvironment(Recorder(NESTED), "any", EnvironmentConfig())).action_space
    assert action_space(known) == NESTED
    rng = np.random.default_rng(0)
    rows = {
        key: rng.integers(0, space.classes, (9, *space.shape)).astype(np.int32)
        if space.discrete else rng.uniform(-1, 1, (9, *space.shape)).astype(np.float32)
        for key, space in known.items()
    }  # fmt: skip
    tree = native_actions(known, rows)
    for t in range(9):
        single = native_action(known, {key: value[t] for key, value in rows.items()})
        assert repr(at(tree, t)) == repr(single) and NESTED.contains(single)
    fields = {key: Field(dtype=space.dtype, shape=space.shape) for key, space in known.items()}
    back = flat_rows(NESTED, tree, Schema(fields=fields, latents={}), "here", actions=True, known=known)
    for key in rows:
        assert back[key].dtype == rows[key].dtype
        atol = 0.11 if key == "arm/steps" else 1e-6  # whole numbers from 0 to 10
        np.testing.assert_allclose(back[key], rows[key], atol=atol)


def test_datasets_of_minaris_own_recorder_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    raw = gymnasium.make("Pendulum-v1", max_episode_steps=12)
    (tmp_path / "set-v3").mkdir()
    storage = MinariStorage.new(tmp_path / "set-v3" / "data", raw.observation_space, raw.action_space)
    played: list[tuple[list[Any], list[Any], list[float]]] = []
    for seed in range(3):
        raw.action_space.seed(seed)
        observations, actions, rewards, cut = [raw.reset(seed=seed)[0]], [], [], False
        while not cut:
            actions.append(raw.action_space.sample())
            observation, reward, _, cut, _ = raw.step(actions[-1])
            observations.append(observation)
            rewards.append(float(reward))
        played.append((observations, actions, rewards))
        flags = [False] * 11
        storage.update_episodes(
            [EpisodeBuffer(observations=observations, actions=actions, rewards=rewards,
                           terminations=[False] * 12, truncations=[*flags, True])]
        )  # fmt: skip
    storage.update_metadata({"dataset_id": "set-v3", "minari_version": minari.__version__})
    raw.close()
    got = list(MinariEpisodes([tmp_path / "set-v3"], schema(PENDULUM)))
    for rows, (observations, actions, rewards) in zip(got, played, strict=True):
        np.testing.assert_array_equal(rows["vector"], observations)
        np.testing.assert_allclose(rows["action"][:-1], np.array(actions) / 2, rtol=1e-6)
        assert not rows["action"][-1].any() and rows["reward"][0] == 0
        np.testing.assert_allclose(rows["reward"][1:], rewards, rtol=1e-6)
        assert rows["is_last"].tolist() == [False] * 12 + [True] and not rows["is_terminal"].any()
    with pytest.raises(ValueError, match=r"set-v3, episode 0: key 'vector' is float32 \[13, 3\], .* float32 \[n, 4\]"):
        list(MinariEpisodes([tmp_path / "set-v3"], schema(CARTPOLE)))
    with pytest.raises(ValueError, match=r"observation 'vector' \(float32 \[13, 3\]\) is not among .* another task"):
        list(MinariEpisodes([tmp_path / "set-v3"], schema(BLOCKS)))


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = played(CARTPOLE, 60)
    with pytest.raises(ValueError, match=r"Minari names datasets like cartpole-v0, which 'set' .* --out .*/set-v0\."):
        write_minari(tmp_path / "set", store.schema, episodes(store, Found()), None, {})
    with pytest.raises(ValueError, match="There is no whole episode to export"):
        write_minari(tmp_path / "set-v0", store.schema, [], None, {})
    with pytest.raises(ValueError, match=r"are actions is not clear from their names; give --task"):
        write_minari(tmp_path / "set-v0", schema(BLOCKS), [], None, {})
    with pytest.raises(ValueError, match="cannot be read as a Minari dataset"):
        MinariEpisodes([tmp_path], store.schema)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ValueError, match=r"need the package minari, .* pip install 'minari\[hdf5\]'"):
        write_minari(tmp_path / "set-v0", store.schema, [], None, {})
