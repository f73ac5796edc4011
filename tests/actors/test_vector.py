"""Rows of vectors of environments: resets, seeds, scores, and open episodes restored."""

from functools import partial

import numpy as np
import pytest

from actors.batch_environment import Rows, episode_seed
from actors.config import EnvironmentConfig
from actors.environment import Environment
from actors.envs import make
from actors.trivial_policies import RandomPolicy
from actors.vector import VectorEnvironment
from tests.contracts.test_environment import SMALL

TASKS = {
    "cartpole": ("gym:CartPole-v1", EnvironmentConfig()),
    "walker": ("dmc_walker_walk", EnvironmentConfig(action_repeat=2, time_limit=60)),
    "blocks": ("gym:NexusBlocks-v0", SMALL),  # pictures, dict actions
}


def vector(task: str, count: int = 2, run_seed: int = 0) -> VectorEnvironment:
    return VectorEnvironment([partial(make, *TASKS[task])] * count, run_seed)


def roll(environments: VectorEnvironment, calls: int) -> tuple[Rows, Rows]:
    """All rows [T N ...] with the actions chosen at them, and the newest actions."""
    policy, rows, actions = RandomPolicy(environments.action_space), [], None
    for draw in range(calls):
        row = environments.step(actions)
        _, actions, _ = policy.act(None, row, row["is_first"], draw)
        rows.append(row | actions)
    assert actions is not None
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}, actions


@pytest.mark.parametrize("task", ["cartpole", "walker"])
def test_the_row_after_the_last_is_a_first_one(task: str) -> None:
    rows, _ = roll(vector(task), 100)
    assert rows["is_first"][0].all()
    assert rows["is_last"].any()
    np.testing.assert_array_equal(rows["is_first"][1:], rows["is_last"][:-1])
    assert (rows["reward"][rows["is_first"]] == 0).all()
    assert not rows["is_last"][rows["is_first"]].any()
    terminal = {"cartpole": rows["is_last"], "walker": np.zeros_like(rows["is_last"])}[task]
    np.testing.assert_array_equal(rows["is_terminal"], terminal)


def test_environments_before_one_that_cannot_be_made_are_closed() -> None:
    closed: list[int] = []

    def fails() -> Environment:
        raise RuntimeError("no display")

    def make_one(number: int) -> Environment:
        environment = make(*TASKS["cartpole"])
        environment.close = lambda: closed.append(number)  # type: ignore[method-assign]
        return environment

    with pytest.raises(RuntimeError, match="no display"):
        VectorEnvironment([partial(make_one, 0), partial(make_one, 1), fails], 0)
    assert closed == [0, 1]


def test_rows_have_the_dtypes_of_replay() -> None:
    row = vector("walker", 3).step()
    assert {key: (value.dtype.name, value.shape) for key, value in row.items()} == {
        "orientations": ("float32", (3, 14)),
        "height": ("float32", (3, 1)),
        "velocity": ("float32", (3, 9)),
        "reward": ("float32", (3,)),
        "is_first": ("bool", (3,)),
        "is_last": ("bool", (3,)),
        "is_terminal": ("bool", (3,)),
    }


@pytest.mark.parametrize("task", TASKS)
def test_finished_episodes_carry_score_length_and_seed(task: str) -> None:
    environments = vector(task, run_seed=3)
    rows, _ = roll(environments, 100)
    finished = environments.finished()
    assert environments.finished() == []
    assert len(finished) == rows["is_last"].sum()
    for episode in finished:
        lane = rows["is_first"][:, episode.env_index]
        start = np.flatnonzero(lane)[episode.episode]
        end = start + np.flatnonzero(rows["is_last"][start:, episode.env_index])[0]
        assert episode.length == (end - start) * environments.frames_per_step
        assert episode.score == pytest.approx(rows["reward"][start : end + 1, episode.env_index].sum(), rel=1e-5)
        assert episode.seed == episode_seed(3, episode.env_index, episode.episode)


def test_actions_of_last_rows_are_ignored() -> None:
    environments = vector("cartpole", 1)
    action = {"action": np.zeros(1, np.int32)}
    while not environments.step(action)["is_last"]:
        pass
    row = environments.step({"action": np.full(1, 10**6, np.int32)})
    assert row["is_first"]


def test_seeds_are_pinned_and_differ() -> None:
    # Literal values: another hash would silently make runs unrepeatable across versions.
    assert [episode_seed(0, 0, 0), episode_seed(0, 1, 0), episode_seed(0, 0, 1)] == [77847210, 223732139, 1002310197]
    seeds = {episode_seed(run, index, episode) for run in range(5) for index in range(20) for episode in range(20)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_environments_can_be_numbered_across_the_run() -> None:
    both = VectorEnvironment([partial(make, "gym:CartPole-v1")] * 4, 7)
    odd = VectorEnvironment([partial(make, "gym:CartPole-v1")] * 2, 7, env_indices=[1, 3])
    np.testing.assert_array_equal(both.step()["vector"][[1, 3]], odd.step()["vector"])


@pytest.mark.parametrize("task", TASKS)
def test_an_open_episode_is_restored(task: str) -> None:
    old = vector(task)
    rows, actions = roll(old, 45)
    new = vector(task)
    for i in range(2):
        assert not old.ended[i]
        start = np.flatnonzero(rows["is_first"][:, i])[-1]
        assert new.restore(i, old.episodes[i], {key: value[start:, i] for key, value in rows.items()})
    assert new.finished() == []
    assert (new.seeds, new.episodes) == (old.seeds, old.episodes)
    np.testing.assert_array_equal(new.scores, old.scores)
    np.testing.assert_array_equal(new.lengths, old.lengths)
    old.finished()
    policy = RandomPolicy(old.action_space, seed=1)
    for draw in range(60):
        one, other = old.step(actions), new.step(actions)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{key}, {draw} steps on")
        _, actions, _ = policy.act(None, one, one["is_first"], draw)
    assert old.finished() == new.finished()


@pytest.mark.parametrize("key", ["height", "reward", "is_last"])
def test_a_mismatch_says_where_and_begins_the_next_episode(key: str) -> None:
    old = vector("walker", 1)
    rows, _ = roll(old, 20)
    recorded = {name: value[:, 0].copy() for name, value in rows.items()}
    recorded[key][7] = ~recorded[key][7] if key == "is_last" else recorded[key][7] + 1
    new = vector("walker", 1)
    restored = new.restore(0, 0, recorded)
    assert not restored
    assert f"'{key}' differs at step 7 of 20" in restored.reason and str(new.seeds[0]) in restored.reason
    assert new.step()["is_first"]
    assert new.episodes == [1]
    assert new.finished() == []


def test_an_episode_that_ended_in_a_mismatch_is_not_counted() -> None:
    old = vector("cartpole", 1)
    rows, _ = roll(old, 5)
    recorded = {key: np.concatenate([value[:, 0]] * 20) for key, value in rows.items()}
    assert not old.restore(0, 0, recorded)
    assert old.finished() == []


def test_no_environment_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one environment"):
        VectorEnvironment([], 0)
