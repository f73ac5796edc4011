"""What environments report in info becomes metrics of their episodes, and what cannot be one is named once."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from actors.batch_environment import Episode
from actors.config import EnvironmentConfig
from actors.envs.gymnasium import GymnasiumEnvironment
from actors.envs.wrappers import FrameStack, TimeLimit
from actors.episode_metrics import MOST, EpisodeMetrics, as_number, read_info
from actors.vector import VectorEnvironment


class Told(gymnasium.Env):
    """Ends after 6 steps; `info(t)` is what it reports after t of them."""

    observation_space, action_space = Box(0, 255, (4, 4, 1), np.uint8), Discrete(2)

    def __init__(self, info: Any) -> None:
        self.info, self.time = info, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        self.time = 0
        return np.zeros((4, 4, 1), np.uint8), self.info(0)

    def step(self, action: int) -> tuple[Any, float, bool, bool, Any]:
        self.time += 1
        return np.zeros((4, 4, 1), np.uint8), 1.0, self.time == 6, False, self.info(self.time)


def make(info: Any, stack: bool = False, limit: int = 0, **config: Any) -> Any:
    made: Any = GymnasiumEnvironment(Told(info), "told", EnvironmentConfig(image_size=(0, 0), **config))
    made = TimeLimit(made, limit) if limit else made
    return FrameStack(made, 2) if stack else made


def play(info: Any, episodes: int = 1, **options: Any) -> list[Episode]:
    environments = VectorEnvironment([partial(make, info, **options)], 0)
    finished: list[Episode] = []
    while len(finished) < episodes:
        environments.step({"action": np.zeros(1, np.int32)})
        finished += environments.finished()
    return finished


def usual(time: int) -> dict[str, Any]:
    """Solved from frame 3 to 4; wood found twice."""
    out: dict[str, Any] = {"log/speed": np.float32(time), "is_success": np.bool_(3 <= time <= 4), "lives": 3}
    out["achievements"] = {"wood": min(time, 2), "coal": 0}
    return out | ({"episode": {"r": np.array([7.5]), "l": 6, "score": 1}} if time == 6 else {})


EXPECTED = {
    "is_success": 0, "achievements/wood": 2, "achievements/coal": 0, "r": 7.5, "l": 6, "info/score": 1,
    "log/speed/avg": 3.0, "log/speed/max": 6.0, "log/speed/sum": 21.0,
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"action_repeat": 4}, {"stack": True, "action_repeat": 2}], ids=str)
def test_metrics_are_the_same_whatever_wraps_the_environment(options: dict[str, Any]) -> None:
    first, second = play(usual, 2, **options)
    assert first.metrics == second.metrics == EXPECTED
    assert first.notes == ("info 'episode/score' is kept as info/score: score is the name of another column.",)
    assert second.notes == ()
    assert isinstance(first.metrics["is_success"], int)


def test_a_time_limit_ends_the_count() -> None:
    (episode,) = play(usual, limit=4)
    assert episode.metrics == {
        "is_success": 1, "achievements/wood": 2, "achievements/coal": 0,
        "log/speed/avg": 2.0, "log/speed/max": 4.0, "log/speed/sum": 10.0,
    }  # fmt: skip


def test_the_last_value_counts_even_if_later_steps_do_not_have_it() -> None:
    (episode,) = play(lambda time: {"is_success": True} if time == 2 else {"is_success": None} if time == 3 else {})
    assert episode.metrics == {"is_success": 1} and not episode.notes


@pytest.mark.parametrize("info", [{}, None, [], "text", {"lives": 3}, {3: 1}, np.zeros(3)], ids=repr)
def test_other_infos_add_nothing(info: Any) -> None:
    assert read_info(info) == {}
    (episode,) = play(lambda time: info)
    assert (episode.metrics, episode.notes) == ({}, ())


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1), (np.bool_(False), 0), (3, 3), (np.int64(-3), -3), (2.5, 2.5), (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5), (np.array(4, np.uint8), 4), (np.array([[0.25]]), 0.25), (10**30, 10**30),
        ("yes", "a str, not a number"), (1j, "a complex, not a number"), ([1], "a list, not a number"),
        (np.zeros(2), "an array of float64 of shape (2,), not a number"), (float("nan"), "nan"),
        (np.float32("-inf"), "-inf"), (1e39, "beyond 3.4e+38"), (10**400, "beyond 3.4e+38"),
        (np.str_("1"), "an array of <U1 of shape (), not a number"),
    ],
    ids=repr,
)  # fmt: skip
def test_one_number_is_a_number(value: Any, number: float | str) -> None:
    found = as_number(value)
    assert found == number and type(found) is type(number)


def test_what_cannot_be_used_is_noted_once() -> None:
    def info(time: int) -> dict[str, Any]:
        bad = {"log/a": "fast", "log/": 1, "is_success": float("nan"), "achievements": ["wood"]}
        return bad | {"episode": {"x" * 101: 1, "two\nlines": 1, (1, 2): 1, 7: 2.0}, "log/good": 1}

    first, second = play(info, 2)
    assert first.metrics == second.metrics == {"7": 2.0, "log/good/avg": 1, "log/good/max": 1, "log/good/sum": 7}
    assert first.notes == (
        "info 'log/a' is a str, not a number: it is left out.",
        "info 'log/' is left out: use 1 to 100 printable characters.",
        "info 'is_success' is nan: it is left out.",
        "info 'achievements' is a list, not a dictionary: it is left out.",
        f"info 'episode/{'x' * 92}' is left out: use 1 to 100 printable characters.",
        "info 'episode/two\\nlines' is left out: use 1 to 100 printable characters.",
        "info 'episode' is a dictionary with a tuple among its keys: it is left out.",
    )
    assert second.notes == ()


def test_a_sum_too_large_is_left_out() -> None:
    (episode,) = play(lambda time: {"log/x": 3e38})
    assert set(episode.metrics) == {"log/x/avg", "log/x/max"}


def test_there_is_room_for_a_bounded_number_of_metrics() -> None:
    metrics, names = EpisodeMetrics(), [f"episode/m{n:03}" for n in range(MOST + 3)]
    for _ in range(2):
        metrics.begin(5)
        metrics.add(5, [dict.fromkeys(names, 1.0)])
        assert list(metrics.end(5)) == [f"m{n:03}" for n in range(MOST)]
    (note,) = metrics.notes()
    assert note.startswith("An episode has at most 100 metrics from info; left out: m100, m101, m102. Report fewer")
    huge = {"episode": {f"k{n}": n for n in range(10_000)}}
    assert len(read_info(huge)) == 2 * MOST


def test_environments_do_not_mix_and_an_unfinished_episode_is_forgotten() -> None:
    metrics = EpisodeMetrics()
    metrics.add(0, [{"log/x": 1, "is_success": 1}])
    metrics.add(1, [{"log/x": 5}])
    metrics.begin(0)
    metrics.add(0, [{"log/x": 2}, {"log/x": 4}])
    assert metrics.end(0) == {"log/x/avg": 3, "log/x/max": 4, "log/x/sum": 6}
    assert metrics.end(1) == {"log/x/avg": 5, "log/x/max": 5, "log/x/sum": 5}
    assert metrics.end(1) == {}
