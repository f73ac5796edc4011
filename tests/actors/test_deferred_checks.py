"""Values that the vector checks for all environments at once are refused exactly as by each environment itself."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.wrappers import FrameStack, NormalizeActions, TimeLimit
from actors.faults import BrokenEnvironmentError
from actors.row_stepping import DefersChecks, RowChecks
from actors.vector import VectorEnvironment
from world_models.space import Space

ACTION, ACTIONS = ({"action": np.zeros(shape, np.int32)} for shape in ((), 3))


class Says(gymnasium.Env):
    """Observes `value` from its second step on."""

    metadata = {"render_modes": []}

    def __init__(self, space: Any, value: Any) -> None:
        self.observation_space, self.action_space, self.value, self.time = space, spaces.Discrete(2), value, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.time = 0
        return self._fine(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict]:
        self.time += 1
        return self.value if self.time == 2 else self._fine(), 1.0, False, False, {}

    def _fine(self) -> np.ndarray:
        space: Any = self.observation_space
        return np.zeros(space.shape, space.dtype)


def environment(space: Any, value: Any, check: bool = True) -> GymnasiumEnvironment:
    return GymnasiumEnvironment(Says(space, value), "gym:Says-v0", EnvironmentConfig(check_steps=check))


BOX = spaces.Box(-1, 1, (3,), np.float32)
WIDE = spaces.Box(-np.inf, np.inf, (2, 2), np.float64)
WIDE3 = spaces.Box(-np.inf, np.inf, (3,), np.float32)
LARGE = spaces.Box(-1e7, 1e7, (2,), np.float64)
IMAGE = spaces.Box(0, 255, (64, 64, 3), np.uint8)
WRONG: dict[str, tuple[Any, Any, str]] = {
    "NaN": (BOX, np.array([0, np.nan, 0], np.float32), "not finite: element (1,) is nan"),
    "above": (BOX, np.array([0, 0, 1.5], np.float32), "outside its space: element (2,) is 1.5"),
    "below": (BOX, np.array([-7, 0, 0], np.float32), "outside its space: element (0,) is -7.0"),
    "infinite": (WIDE, np.array([[0, 0], [-np.inf, 0]]), "not finite: element (1, 0) is -inf"),
    "too large": (WIDE, np.array([[0, 1e300], [0, 0]]), "too large: element (0, 1) is 1e+300"),
    "just outside": (LARGE, np.array([0, 1e7 + 300]), "outside its space: element (1,)"),
    "shape": (BOX, np.zeros(2, np.float32), "wrong shape: (2,)"),
    "dtype": (BOX, np.zeros(3), "wrong dtype: float64"),
    "list": (BOX, [0.0, 0.0, 0.0], "wrong type: a list"),
    "image": (IMAGE, np.zeros((64, 64), np.uint8), "wrong shape: (64, 64)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_vector_refuses_what_the_environment_refuses(what: str) -> None:
    space, value, message = WRONG[what]
    alone = environment(space, value)
    alone.reset(0)
    alone.step(ACTION)
    with pytest.raises(BrokenEnvironmentError) as own:
        alone.step(ACTION)
    assert message in str(own.value)
    fine = np.zeros(space.shape, space.dtype)
    makers = [partial(environment, space, one) for one in (fine, value, fine)]
    vector = VectorEnvironment(makers, 0)
    assert all(isinstance(one, DefersChecks) for one in vector.environments)
    vector.step()
    vector.step(ACTIONS)
    seed = vector.seeds[1]
    with pytest.raises(BrokenEnvironmentError) as shared:
        vector.step(ACTIONS)
    assert str(shared.value) == str(own.value).replace("seed 0", f"seed {seed}")
    assert shared.value.kind == own.value.kind


def test_only_the_broken_environment_of_a_tolerant_vector_is_made_again() -> None:
    values = [np.zeros(3, np.float32), np.full(3, np.nan, np.float32), np.zeros(3, np.float32)]
    vector = VectorEnvironment([partial(environment, BOX, value) for value in values], 0, None, 5)
    for _ in range(3):
        rows = vector.step(ACTIONS)
    (fault,) = vector.faults()
    assert (fault.env_index, fault.kind) == (1, "non_finite")
    assert vector.lengths.tolist() == [2, 0, 2]
    assert rows["is_first"].tolist() == [False, True, False]
    for _ in range(3):  # what was made again leaves its checks to the vector too
        rows = vector.step(ACTIONS)
    assert [fault.kind for fault in vector.faults()] == ["non_finite"]
    assert all(np.isfinite(rows["vector"]).all() for _ in range(2))
    vector.close()


def test_values_within_the_slack_of_rounding_pass() -> None:
    value = np.array([1 + 5e-6, -1, 0], np.float32)
    assert value[0] > 1
    vector = VectorEnvironment([lambda: environment(BOX, value)] * 3, 0)
    for _ in range(3):
        rows = vector.step(ACTIONS)
    assert rows["vector"].tolist() == [value.tolist()] * 3


def test_nothing_is_checked_where_checks_are_off() -> None:
    value = np.full(3, np.nan, np.float32)
    vector = VectorEnvironment([lambda: environment(BOX, value, check=False)] * 3, 0)
    for _ in range(3):
        rows = vector.step(ACTIONS)
    assert np.isnan(rows["vector"]).all()


def test_wrappers_hand_the_checks_on() -> None:
    def bare() -> GymnasiumEnvironment:
        return environment(BOX, np.full(3, 9, np.float32))

    for wrapped in (NormalizeActions(bare()), TimeLimit(bare(), 5), FrameStack(bare(), 2)):
        assert isinstance(wrapped, DefersChecks)
        assert wrapped.defer_checks()
        wrapped.reset(0)
        wrapped.step(ACTION)
        wrapped.check_last()
        wrapped.step(ACTION)
        with pytest.raises(BrokenEnvironmentError, match="step\\(\\) number 2 .*outside its space"):
            wrapped.check_last()


class Reuses(Says):
    """Every observation is the same array, with the number of the step."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(0, 255, (8, 8, 3), np.uint8), None)
        self.frame = self._fine()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.frame[:] = self.time = 0
        return self.frame, {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict]:
        self.time += 1
        self.frame[:] = self.time
        return self.frame, 1.0, False, False, {}


def test_rows_are_copies_of_observations_that_an_environment_reuses() -> None:
    def stack() -> FrameStack:
        return FrameStack(GymnasiumEnvironment(Reuses(), "gym:Reuses-v0", EnvironmentConfig(image_size=(0, 0))), 2)

    vector = VectorEnvironment([stack] * 3, 0)
    rows = [vector.step(ACTIONS)["image"] for _ in range(4)]
    for time, row in enumerate(rows):
        assert row[..., 3:].min() == row[..., 3:].max() == time
        assert row[..., :3].min() == row[..., :3].max() == max(time - 1, 0)


class Shares(Says):
    """All environments write their observations to one array, as some simulators do."""

    shared = np.zeros(3, np.float32)

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict]:
        self.shared[:] = self.value
        return self.shared, 1.0, False, False, {}


def test_environments_may_share_an_array() -> None:
    def one(value: int) -> GymnasiumEnvironment:
        return GymnasiumEnvironment(Shares(WIDE3, value), "gym:Shares-v0", EnvironmentConfig())

    vector = VectorEnvironment([partial(one, value) for value in (1, 2, 3)], 0)
    vector.step()
    assert vector.step(ACTIONS)["vector"].tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_a_value_in_another_dtype_is_checked_by_the_environment() -> None:
    space = spaces.Box(-1, 1, (3,), np.float64)
    vector = VectorEnvironment([partial(environment, space, np.full(3, 1 + 5e-6, np.float32))] * 3, 0)
    for _ in range(3):
        rows = vector.step(ACTIONS)
    assert (rows["vector"] > 1).all()


def test_a_value_beyond_float32_is_refused_in_dm_control_too() -> None:
    vector = VectorEnvironment([partial(make, "dmc_cartpole_balance")] * 2, 0)
    vector.step()
    task = vector.environments[1].inner.raw.task  # type: ignore[attr-defined]
    observe = task.get_observation
    task.get_observation = lambda physics: observe(physics) | {"velocity": np.array([0.0, 1e300])}
    with pytest.raises(BrokenEnvironmentError, match="observation 'velocity': not finite"):
        vector.step({"action": np.zeros((2, 1), np.float32)})
    vector.close()


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(0, 9, (2,), np.int64), spaces.Dict(a=BOX, b=BOX)])
def test_other_spaces_are_checked_by_the_environment(space: spaces.Space) -> None:
    assert not environment(space, 0).defer_checks()


def test_doubtful_rows_are_found_in_every_key() -> None:
    bounded = Space(dtype=np.dtype(np.float32), shape=(2,), low=-1, high=1)
    free = Space(dtype=np.dtype(np.float32), shape=(1,))
    flag = Space(dtype=np.dtype(np.bool_), shape=())
    checks = RowChecks({"bounded": bounded, "free": free, "flag": flag}, 5)
    rows = {"bounded": np.zeros((5, 2), np.float32), "free": np.zeros((5, 1), np.float32), "flag": np.zeros(5, bool)}
    assert checks.doubtful(rows) == []
    rows["free"][[1, 4], 0] = np.inf, -np.nan
    rows["bounded"][3, 1] = 1.1
    assert checks.doubtful(rows) == [1, 3, 4]
