"""Environments that are stepped straight into rows give the rows of environments that are stepped one by one."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from actors.batch_environment import Rows
from actors.config import EnvironmentConfig
from actors.environment import Environment
from actors.envs import make
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.wrappers import TimeLimit
from actors.faults import BrokenEnvironmentError
from actors.stepping import ByRows, InTurn
from actors.trivial_policies import RandomPolicy
from actors.vector import VectorEnvironment

BOX = spaces.Box(-1, 1, (2,), np.float64)


class Answers(gymnasium.Env):
    """Step after step it gives the next of `answers`: reward, terminated, truncated, info."""

    metadata = {"render_modes": []}
    observation_space = BOX

    def __init__(self, answers: list[tuple[Any, Any, Any, Any]], action_space: spaces.Space) -> None:
        self.answers, self.action_space, self.taken = answers, action_space, list[Any]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        return np.zeros(2), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        self.taken.append(action)
        number = len(self.taken)
        return (np.full(2, number / 100), *self.answers[(number - 1) % len(self.answers)])


ODD: list[tuple[Any, Any, Any, Any]] = [
    (1, False, False, {}),
    (np.float32(0.5), np.bool_(False), 0, {"log/speed": 3.0}),
    (np.array([2.0]), False, False, None),
    (0.25, False, np.True_, {"is_success": True}),
    (0.25, 1, False, {"is_success": False}),
]
KINDS: dict[str, spaces.Space] = {
    "Discrete": spaces.Discrete(3, start=-1),
    "bounded Box": spaces.Box(-2, 3, (2,), np.float32),
    "Box of one number": spaces.Box(-2, 3, (), np.float64),
    "half bounded Box": spaces.Box(np.array([0, -1], np.float32), np.array([np.inf, 1], np.float32)),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4]),
    "Dict": spaces.Dict(turn=spaces.Discrete(2), speed=spaces.Box(0, 9, (1,), np.float32)),
}


def odd(space: spaces.Space) -> Environment:
    from actors.envs.wrappers import NormalizeActions

    return NormalizeActions(GymnasiumEnvironment(Answers(ODD, space), "gym:Odd-v0", EnvironmentConfig()))


def play(vector: VectorEnvironment, steps: int) -> tuple[list[Rows], list[Any]]:
    policy, actions, rows, episodes = RandomPolicy(vector.action_space, 3), None, list[Rows](), list[Any]()
    for draw in range(steps):
        rows.append(vector.step(actions))
        actions = policy.act(None, {}, np.zeros(len(vector), bool), draw)[1]
        episodes += vector.finished()
    return rows, episodes


def both(maker: Callable[[], Environment], steps: int) -> tuple[VectorEnvironment, VectorEnvironment]:
    """Two vectors after the same steps, the first of which were straight into rows."""
    fast, slow = (VectorEnvironment([maker] * 3, 7) for _ in range(2))
    assert isinstance(fast._stepping, ByRows)
    slow._stepping = InTurn(slow.environments)
    (some, ended), (others, ended_too) = play(fast, steps), play(slow, steps)
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype
            np.testing.assert_array_equal(value, other[key], key)
    assert ended == ended_too and ended
    return fast, slow


@pytest.mark.parametrize(("task", "steps"), [("gym:CartPole-v1", 90), ("gym:Pendulum-v1", 203)])
def test_real_tasks_give_the_same_rows_and_episodes(task: str, steps: int) -> None:
    for vector in both(partial(make, task), steps):
        vector.close()


@pytest.mark.parametrize("kind", KINDS)
def test_odd_rewards_flags_infos_and_actions_are_read_alike(kind: str) -> None:
    fast, slow = both(partial(odd, KINDS[kind]), 14)
    for one, other in zip(fast.environments, slow.environments, strict=True):
        taken, others = one.inner.raw.taken, other.inner.raw.taken  # type: ignore[attr-defined]
        assert len(taken) == len(others) > 9
        for action, same in zip(taken, others, strict=True):
            assert type(action) is type(same) and str(action) == str(same)
            assert one.inner.raw.action_space.contains(action)  # type: ignore[attr-defined]


def test_what_does_not_fit_is_stepped_like_any_other() -> None:
    def of(config: EnvironmentConfig, limit: int = 0) -> Environment:
        one = GymnasiumEnvironment(Answers(ODD, spaces.Discrete(2)), "gym:Odd-v0", config)
        return TimeLimit(one, limit) if limit else one

    plain = EnvironmentConfig()
    assert isinstance(VectorEnvironment([partial(of, plain)] * 2, 0)._stepping, ByRows)
    for maker in (
        partial(of, EnvironmentConfig(action_repeat=2)), partial(of, EnvironmentConfig(check_steps=False)),
        partial(of, plain, 5),
    ):  # fmt: skip
        vector = VectorEnvironment([maker] * 2, 0)
        assert type(vector._stepping) is InTurn
        vector.step()
        assert vector.step({"action": np.zeros(2, np.int32)})["reward"].tolist()[0] > 0


class Leaves(Answers):
    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        (sys.exit, os._exit)[int(action)](3)
        raise AssertionError("it goes on")


@pytest.mark.parametrize("way", [0, 1])
def test_one_that_tries_to_end_the_program_is_made_again(way: int) -> None:
    def one(kind: type[Answers]) -> Environment:
        return GymnasiumEnvironment(kind(ODD, spaces.Discrete(2)), "gym:Odd-v0", EnvironmentConfig())

    leave = os._exit
    vector = VectorEnvironment([partial(one, Answers), partial(one, Leaves)], 0, None, 5)
    vector.step()
    rows = vector.step({"action": np.full(2, way, np.int32)})
    (fault,) = vector.faults()
    assert (fault.env_index, fault.kind) == (1, "exception")
    assert "environment 1, step() at frame 0" in fault.text and "tried to end the program with code 3" in fault.text
    assert rows["is_first"].tolist() == [False, True] and rows["reward"].tolist() == [1, 0]
    assert os._exit is leave


class SharesItsArray(Answers):
    shared, count = np.zeros(2), 0

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        SharesItsArray.count += 1
        self.shared[:] = np.nan if SharesItsArray.count == 1 else 0.5
        return self.shared, 0.0, False, False, {}


@pytest.mark.parametrize("by_rows", [True, False])
def test_a_nan_in_an_array_that_environments_share_is_found(by_rows: bool) -> None:
    def one() -> Environment:
        return GymnasiumEnvironment(SharesItsArray(ODD, spaces.Discrete(2)), "gym:Odd-v0", EnvironmentConfig())

    SharesItsArray.count = 0
    vector = VectorEnvironment([one] * 2, 0)
    if not by_rows:
        vector._stepping = InTurn(vector.environments)
    vector.step()
    with pytest.raises(BrokenEnvironmentError, match="not finite: element"):
        vector.step({"action": np.zeros(2, np.int32)})
