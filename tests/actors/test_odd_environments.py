"""Environments as people write them: each trains and its policy acts, or one message names place and remedy."""

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from actors.config import EnvironmentConfig
from actors.conformance import check_environment
from actors.envs import make
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.wrappers import FrameStack, NormalizeActions
from actors.faults import BrokenEnvironmentError
from actors.native_actions import native_action
from actors.native_observations import flat_observation
from world_models.space import Space

pytestmark = pytest.mark.filterwarnings("ignore:.*(WARN|Box|precision).*:UserWarning")
_numbers = itertools.count()


class Plain(gymnasium.Env):
    """Ends after ten steps; what it gives may be replaced."""

    metadata: Any = {"render_modes": []}

    def __init__(self, observation: gymnasium.Space | None = None, action: gymnasium.Space | None = None) -> None:
        self.observation_space = observation or Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = action or Discrete(2)
        self.observation_space.seed(0)
        self.taken: list[Any] = []

    def give(self) -> Any:
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time = 0
        return self.give(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.taken.append(action)
        self.time += 1
        return self.give(), 1.0, self.time >= 10, False, {}


def adapted(raw: gymnasium.Env, **settings: Any) -> NormalizeActions:
    return NormalizeActions(GymnasiumEnvironment(raw, "gym:odd", EnvironmentConfig(**settings)))


def registered(entry_point: Any, **more: Any) -> str:
    name = f"NexusOdd{next(_numbers)}-v0"
    gymnasium.register(name, entry_point, **more)
    return f"gym:{name}"


INT = np.iinfo
ACTIONS = [
    *(Box(low, high, (1,), np.float64) for low, high in ((-0.1, 0.1), (0, 0.7), (0.1, 0.3), (0, 1e300))),
    Box(-np.pi, np.pi, (1,), np.float64),
    Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (1,), np.float64),
    Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,), np.float32),
    Box(1e8, 1e8 + 3, (1,), np.float64),
    *(Box(-0.1, 0.7, (2,), kind) for kind in (np.float16, np.float32)),
    *(Box(INT(kind).min, INT(kind).max, (1,), kind) for kind in (np.int8, np.uint8, np.int16, np.int32, np.uint32)),
    *(Box(INT(kind).min, INT(kind).max, (1,), kind) for kind in (np.int64, np.uint64)),
    *(Box(0, top, (1,), np.int64) for top in (16_777_217, 10**9 + 7)),
    Box(np.array([-3, 0]), np.array([5, 2**40 + 1]), dtype=np.int64),
    Box(0, 1, (2,), np.bool_),  # type: ignore[arg-type]
    Box(-1, 1, (), np.float64),
]  # fmt: skip


@pytest.mark.parametrize("space", ACTIONS, ids=str)
def test_every_action_lies_in_the_declared_space(space: Box) -> None:
    raw = Plain(action=space)
    environment = adapted(raw)
    key, own = next(iter(environment.action_space.items()))
    documents = {key: Space.from_json(own.to_json())}
    middle = np.asarray(space.low, np.float64) / 2 + np.asarray(space.high, np.float64) / 2
    rng = np.random.default_rng(0)
    for value in [-7.0, -1.0, 0.0, 1.0, 7.0, *rng.normal(0, 1, 20)]:
        environment.reset(0)
        action = {key: np.full(own.shape, int(value > 0) if own.discrete else value, own.dtype)}
        environment.step(action)
        native = native_action(documents, action)
        assert space.contains(native) and repr(native) == repr(raw.taken[-1])
        if own.discrete:
            continue
        if value in (-7, -1):
            np.testing.assert_array_equal(native, space.low)
        elif value in (1, 7):
            np.testing.assert_array_equal(native, space.high)
        elif value == 0:
            span = np.asarray(space.high, np.float64) / 2 - np.asarray(space.low, np.float64) / 2
            assert (np.abs(native - middle) <= np.maximum(0.51, 1e-3 * span)).all()


OBSERVATIONS = [
    Discrete(5, start=-2), MultiDiscrete([30, 250]), MultiDiscrete([3, 3], start=[5, -1]), MultiBinary(4),
    Box(0, 5, (5, 5, 5), np.uint8), Box(0, 255, (63, 64, 3), np.uint8), Box(0, 2, (6, 7), np.uint8),
    Box(0, 255, (3, 20, 30), np.uint8), Box(0, 255, (84, 84, 1), np.uint8), Box(-1, 1, (2, 3), np.float64),
    Box(-1, 1, (), np.float32), Box(-5, 5, (3,), np.int64), Box(0, 1, (3,), np.bool_),  # type: ignore[arg-type]
    Tuple((Discrete(3, start=1), Box(-1, 1, (2,), np.float32))),
    Dict(a=Dict(b=Discrete(3, start=7), c=Box(0, 255, (9, 9, 3), np.uint8)), d=Tuple((MultiBinary(2), Discrete(2)))),
    Dict({"empty": Box(-1, 1, (0,), np.float32), "full": Box(-1, 1, (2,), np.float32)}),
    Box(-1, 1, (4, 5, 6), np.float32), Box(0, 255, (2, 9, 9, 3), np.uint8), MultiBinary([2, 3, 4]),
]  # fmt: skip


@pytest.mark.parametrize("space", OBSERVATIONS, ids=str)
def test_a_loaded_policy_sees_what_training_saw(space: gymnasium.Space) -> None:
    raw = Plain(space)
    environment = adapted(raw)
    known = {key: Space.from_json(own.to_json()) for key, own in environment.observation_space.items()}
    given: list[Any] = []
    raw.give = lambda: given.append(space.sample()) or given[-1]  # type: ignore[method-assign, func-returns-value]
    seen = environment.reset(3).observation
    again = flat_observation(known, given[-1])
    assert again.keys() == seen.keys() == known.keys()
    for key, value in seen.items():
        assert again[key].dtype == value.dtype
        np.testing.assert_array_equal(again[key], value)


def test_flipped_views_lists_and_one_of_a_stack_are_taken() -> None:
    picture = np.arange(64 * 64 * 3, dtype=np.uint64).astype(np.uint8).reshape(64, 64, 3)
    raw = Plain(Box(0, 255, (64, 64, 3), np.uint8))
    raw.give = lambda: picture[::-1, :, ::-1]  # type: ignore[method-assign]
    environment = FrameStack(adapted(raw), 3)
    np.testing.assert_array_equal(environment.reset(0).observation["image"][..., :3], picture[::-1, :, ::-1])
    assert environment.observation_space["image"].native["stack"] == 3  # type: ignore[index]
    pair = Plain(Tuple((Discrete(3), Box(-1, 1, (2,), np.float32))))
    pair.give = lambda: [1, np.zeros(2, np.float32)]  # type: ignore[method-assign]
    assert adapted(pair).reset(0).observation["0"] == 1


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (Discrete(5, start=-2), 3, "its 5 values begin at -2"),
        (MultiDiscrete([3, 4]), np.array([0, 4]), "its 4 values begin at 0"),
        (Box(0, 255, (63, 64, 3), np.uint8), np.zeros((60, 64, 3), np.uint8), r"shape \(60, 64, 3\), not \(63"),
        (Dict(a=Discrete(2), b=Discrete(2)), {"a": 0}, "lacks the keys .'b'."),
        (Box(-9, 9, (2,), np.float64), np.array([0, 1e39]), "not finite in float32"),
        (Box(-9, 9, (2,), np.float64), "text", "not an array of numbers"),
    ],
)  # fmt: skip
def test_a_loaded_policy_refuses_what_training_never_saw(space: gymnasium.Space, value: Any, message: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        flat_observation(adapted(Plain(space)).observation_space, value)


TWICE: Any = {1: Discrete(2), "1": Discrete(3)}


def test_tuples_on_both_sides_get_names_of_their_own() -> None:
    raw = Plain(Tuple((Discrete(2), Discrete(3))), Tuple((Discrete(2), Box(-1, 1, (1,), np.float32))))
    environment = adapted(raw)
    assert list(environment.action_space) == ["action/0", "action/1"]
    assert not [finding for finding in check_environment(environment, 40) if finding.severity == "error"]


@pytest.mark.parametrize("space", [Dict({"a/b": Discrete(2), "a": Dict(b=Discrete(3))}), Dict(TWICE)])
def test_parts_that_would_have_one_name_are_refused(space: gymnasium.Space) -> None:
    with pytest.raises(ValueError, match="would both be called"):
        adapted(Plain(space))


@pytest.mark.parametrize(
    ("space", "is_large"),
    [
        (Box(0, 1, (64, 64, 3), np.float32), True), (Box(0, 255, (4, 64, 64, 3), np.uint8), True),
        (Box(-1, 1, (4, 5, 6), np.float32), False), (Box(0, 255, (64, 64, 3), np.uint8), False),
    ],
)  # fmt: skip
def test_a_picture_that_is_learned_as_a_vector_is_mentioned(space: Box, is_large: bool) -> None:
    findings = [one for one in check_environment(adapted(Plain(space)), 12) if one.where.startswith("observation")]
    assert [one.severity for one in findings] == ["warning"] * is_large
    assert not is_large or f"a vector of {np.prod(space.shape):,} numbers, not as an image" in findings[0].what


def test_the_check_plays_the_corners() -> None:
    raw = Plain(action=Box(-2, 3, (2,), np.float64))
    assert not [finding for finding in check_environment(adapted(raw), 30) if finding.severity == "error"]
    assert [action.tolist() for action in raw.taken[:3]] == [[-2, -2], [3, 3], [0.5, 0.5]]


def _answer(position: int, value: Any) -> Callable[[Plain, Any], Any]:
    def step(self: Plain, action: Any) -> Any:
        answer = list(Plain.step(self, action))
        answer[position] = value
        return tuple(answer)

    return step


def _raises(self: Plain, action: Any) -> Any:
    raise RuntimeError("no fuel left.")


BAD_STEPS = {
    "four values": (lambda self, action: Plain.step(self, action)[:4], "returned 4 values. Return observation, reward"),
    "string flag": (_answer(2, "False"), "wrong flag: 'False' is a str"),
    "array of flags": (_answer(2, np.array([True, False])), "wrong flag"),
    "no flag": (_answer(3, None), "truncated: wrong flag: None"),
    "huge reward": (_answer(1, 1e39), "wrong reward: 1e.39, the largest float32 is"),
    "huge observation": (_answer(0, np.array([0, 1e39])), "wrong dtype: float64"),
    "complex": (_answer(0, np.zeros(2, np.complex64)), "complex64, .* Return its real and imaginary parts as two"),
    "text": (_answer(0, np.array(["a", "b"])), "the space declares float32. Return numbers, a float32 array.$"),
    "one value": (lambda self, action: (0.0,), "returned 1 value. Return observation"),
    "ends with a full stop": (_raises, "RuntimeError: no fuel left. Correct that line"),
    "objects": (_answer(0, np.array([np.zeros(2), 3], object)), "wrong dtype: object"),
    "leaves": (lambda self, action: exit(0), "tried to end the program with code 0"),
    "leaves at once": (lambda self, action: os._exit(0), "tried to end the program with code 0"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_a_bad_step_is_named_where_it_happens(name: str) -> None:
    step, message = BAD_STEPS[name]
    environment = adapted(type("Bad", (Plain,), {"step": step})())
    (finding,) = check_environment(environment, 20)
    assert finding.severity == "error"
    said = str(finding)
    assert __file__ in said, "it names our own file, or none"
    assert re.search(message, said), said


def test_an_observation_beyond_float32_is_refused_at_its_step() -> None:
    raw = Plain(Box(-np.inf, np.inf, (2,), np.float64))
    raw.give = lambda: np.array([0.0, 1e39])  # type: ignore[method-assign]
    with pytest.raises(BrokenEnvironmentError, match=r"too large: element \(1,\) is 1e\+39, the largest float32 is"):
        adapted(raw).reset(0)


def test_keys_of_mixed_types_are_named() -> None:
    raw = Plain(Dict(v=Discrete(3), w=Discrete(2)))
    raw.give = lambda: {"v": 0, 1: 0}  # type: ignore[method-assign]
    with pytest.raises(BrokenEnvironmentError, match=r"wrong keys: \[1, 'v'\]"):
        adapted(raw).reset(0)


class NoSeed(Plain):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class OnlyObservation(Plain):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


@pytest.mark.parametrize(
    ("kind", "message"), [(NoSeed, "unexpected keyword"), (OnlyObservation, "returned a ndarray alone")]
)
def test_an_old_reset_is_named(kind: type[Plain], message: str) -> None:
    with pytest.raises(BrokenEnvironmentError, match=message) as caught:
        make(registered(kind)).reset(0)
    assert __file__ in str(caught.value)


class TakesNoRenderMode(Plain):
    metadata = {"render_modes": ["rgb_array"]}


class NoMetadata(Plain):
    metadata = None


class Moves(Plain):
    def __init__(self) -> None:
        super().__init__()
        os.chdir("/")


@pytest.mark.parametrize("kind", [TakesNoRenderMode, NoMetadata])
def test_odd_metadata_does_not_matter(kind: type[Plain]) -> None:
    environment = make(registered(kind))
    assert not [finding for finding in check_environment(environment, 30) if finding.severity == "error"]
    environment.close()


def test_a_time_limit_holds_whatever_the_metadata() -> None:
    environment = make(registered(NoMetadata, max_episode_steps=3))
    environment.reset(0)
    steps = [environment.step({"action": np.asarray(0, np.int32)}) for _ in range(3)]
    assert [step.is_last for step in steps] == [False, False, True] and not steps[-1].is_terminal


class Needs(Plain):
    def __init__(self, level: int, world: str) -> None:
        super().__init__()


class NeedsOne(Plain):
    def __init__(self, *, _under: int) -> None:
        super().__init__()


class Raises(Plain):
    def __init__(self) -> None:
        raise FileNotFoundError("rom.bin is missing.")


class Leaves(Plain):
    def __init__(self) -> None:
        raise SystemExit(0)


class NoSpaces(gymnasium.Env):
    pass


class NoEnvironment:
    pass


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        (Needs, "needs the arguments 'level' and 'world'"),
        (Raises, "in __init__: FileNotFoundError: rom.bin is missing. Correct that line"),
        (NeedsOne, "NeedsOne needs the argument '_under'; give it a default, or"),
        (Leaves, "tried to end the program with code 0"), (NoSpaces, "has no observation_space; set self.obs"),
        (NoEnvironment, "does not make a gymnasium.Env; derive"), ("nowhere:Env", "cannot be loaded.*nowhere"),
        (None, "vector_entry_point='nothing:Env' alone"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_one_message(entry_point: Any, message: str) -> None:
    more = {"vector_entry_point": "nothing:Env"} if entry_point is None else {}
    with pytest.raises(ValueError, match=message) as caught:
        make(registered(entry_point, **more))
    if isinstance(entry_point, type):
        assert __file__ in str(caught.value)


def test_an_argument_that_the_class_does_not_take_is_named_with_the_class() -> None:
    with pytest.raises(ValueError, match=f"{__file__}, line .*, Plain: .* keyword argument '_level'; take it"):
        make(registered(Plain, kwargs={"_level": 3}))


def test_an_environment_that_moves_leaves_the_commands_paths_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from deploy.wiring.config import RunConfig, rooted
    from deploy.wiring.task import spaces_of

    monkeypatch.chdir(tmp_path)
    config = rooted(RunConfig(task=registered(Moves), logdir="run"))
    spaces_of(config)
    assert os.getcwd() == str(tmp_path) and config.logdir == str(tmp_path / "run")
