"""A pool in use: what happens when it fails, and the metrics of its episodes."""

from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np
import pytest

from actors.batch_environment import episode_seed
from actors.faults import BrokenEnvironmentError
from actors.pool import Pool, PoolStep
from actors.pool_environment import PoolEnvironment
from world_models.space import Space

FINE = np.zeros(3, bool)
ACTIONS = {"action": np.zeros(3, np.int32)}


class Clocks:
    """A back end of three clocks that fail when they are told to: observation and reward are the time, and an episode
    ends after 4, 5 and 6 steps."""

    observation_space = {"vector": Space(dtype=np.dtype(np.float32), shape=(1,))}  # noqa: RUF012
    action_space = {"action": Space(dtype=np.dtype(np.int32), shape=(), classes=2)}  # noqa: RUF012
    frames_per_step = 2
    backend = "clocks"

    def __init__(self, fails: Mapping[int, str]) -> None:
        self.fails, self.calls, self.closed = fails, count(), False
        self.seeds: Sequence[int] = ()

    def __len__(self) -> int:
        return 3

    def reset(self, seeds: Sequence[int]) -> PoolStep:
        self.seeds, self.times = list(seeds), np.zeros(3)
        return self._answer()

    def step(self, actions: Mapping[str, np.ndarray], ended: np.ndarray) -> PoolStep:
        self.times = np.where(ended, 0, self.times + 1)
        return self._answer()

    def _answer(self) -> PoolStep:
        how = self.fails.get(next(self.calls), "")
        if how == "raise":
            raise RuntimeError("the clock has stopped")
        last = self.times >= np.arange(4, 7)
        times = self.times.astype(np.float32)
        infos = {"is_success": self.times > 4, "log/time": self.times, "episode/none": np.full(3, np.nan)}
        vector = times[:, None].copy()
        answer = PoolStep(observation={"vector": vector}, reward=times, is_last=last, is_terminal=last, infos=infos)
        if how == "nan":
            answer.observation["vector"][1] = np.nan
        return answer._replace(reward=np.full(3, np.inf)) if how == "reward" else answer

    def render(self, i: int) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)

    def close(self) -> None:
        self.closed = True


class Maker:
    """Makes pools that fail in turn as `failures` say: the number of the call, and how."""

    def __init__(self, *failures: Mapping[int, str]) -> None:
        self.failures, self.made = list(failures), list[Clocks]()

    def __call__(self) -> Clocks:
        self.made.append(Clocks(self.failures.pop(0) if self.failures else {}))
        return self.made[-1]


def test_a_pool_is_one_in_the_sense_of_the_protocol() -> None:
    assert isinstance(Clocks({}), Pool)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raise", r"clocks's environments 4 to 6, step\(\) number 2.*raised RuntimeError: the clock has stopped"),
        ("nan", r"environment 5, step\(\) number 2 of clocks \(episode 0\), observation 'vector': not finite"),
        ("reward", r"environment 4, step\(\) number 2 of clocks \(episode 0\), the reward: not finite"),
    ],
)
def test_a_failure_ends_the_step_and_says_where(how: str, words: str) -> None:
    environments = PoolEnvironment(Maker({2: how}), 0, [4, 5, 6])
    environments.step()
    environments.step(ACTIONS)
    with pytest.raises(BrokenEnvironmentError, match=words):
        environments.step(ACTIONS)


def test_the_reward_of_a_begun_episode_is_not_read() -> None:
    environments = PoolEnvironment(Maker({0: "reward"}), 0, [0, 1, 2])
    assert environments.step()["reward"].tolist() == [0.0, 0.0, 0.0]
    environments = PoolEnvironment(Maker({5: "reward"}), 0, [0, 1, 2])  # the first begins its second one
    environments.step()
    for _ in range(4):
        environments.step(ACTIONS)
    with pytest.raises(BrokenEnvironmentError, match="environment 1, .*the reward: not finite"):
        environments.step(ACTIONS)


def test_values_are_not_checked_if_that_is_not_wanted() -> None:
    environments = PoolEnvironment(Maker({1: "nan"}), 0, [0, 1, 2], check=False)
    environments.step()
    assert np.isnan(environments.step(ACTIONS)["vector"][1])


def test_a_tolerated_failure_has_the_pool_made_again_once() -> None:
    maker = Maker({3: "raise"})
    environments = PoolEnvironment(maker, 0, [4, 5, 6], quarantine_after=5)
    environments.step()
    for _ in range(2):
        environments.step(ACTIONS)
    absent = environments.step(ACTIONS)
    assert not environments.there.any() and absent["is_first"].all()
    assert maker.made[0].closed and environments.quarantined == 0
    (fault,) = environments.faults()
    assert (fault.env_index, fault.kind, fault.quarantined) == (4, "exception", False)
    assert "the clock has stopped" in fault.text and "test_pool_environment.py" in fault.text
    again = environments.step(ACTIONS)
    assert environments.there.all() and environments.replaced.all() and again["is_first"].all()
    assert maker.made[1].seeds == environments.seeds == [episode_seed(0, index, 1) for index in (4, 5, 6)]
    after = environments.step(ACTIONS)
    assert not environments.replaced.any() and not after["is_first"].any()
    assert environments.finished() == []  # the open episodes are lost


def test_a_pool_that_fails_alike_twice_has_an_error_of_the_task() -> None:
    environments = PoolEnvironment(Maker({1: "nan"}, {1: "nan"}), 0, [0, 1, 2], quarantine_after=5)
    environments.step()
    environments.step(ACTIONS)
    environments.step(ACTIONS)
    with pytest.raises(BrokenEnvironmentError, match="not finite"):
        environments.step(ACTIONS)


def test_a_pool_that_goes_on_failing_is_given_up() -> None:
    maker = Maker({1: "raise"}, {2: "raise"}, {3: "raise"})
    environments = PoolEnvironment(maker, 0, [0, 1, 2], quarantine_after=2)
    environments.step()
    while not environments.quarantined:
        environments.step(ACTIONS)
    assert (environments.quarantined, len(maker.made)) == (3, 2)
    assert [(fault.env_index, fault.quarantined) for fault in environments.faults()] == [
        (0, False), (0, True), (1, True), (2, True),
    ]  # fmt: skip
    environments.step(ACTIONS)
    assert not environments.there.any() and len(maker.made) == 2
    environments.close()


def test_infos_become_metrics_of_the_episodes() -> None:
    environments = PoolEnvironment(Maker(), 0, [0, 1, 2])
    environments.step()
    for _ in range(13):
        environments.step(ACTIONS)
    episodes = environments.finished()
    assert [(e.env_index, e.episode, e.length, e.score) for e in episodes] == [
        (0, 0, 8, 10.0), (1, 0, 10, 15.0), (2, 0, 12, 21.0), (0, 1, 8, 10.0), (1, 1, 10, 15.0), (2, 1, 12, 21.0),
    ]  # fmt: skip
    assert episodes[3].metrics == {"is_success": 0, "log/time/avg": 2.0, "log/time/max": 4.0, "log/time/sum": 10.0}
    assert episodes[2].metrics == {"is_success": 1, "log/time/avg": 3.0, "log/time/max": 6.0, "log/time/sum": 21.0}
    assert episodes[0].notes == ("info 'episode/none' is nan: it is left out.",)
    assert episodes[3].notes == ()
    assert [e.seed for e in episodes] == [*(episode_seed(0, i, 0) for i in range(3)), -1, -1, -1]


def test_indices_fit_the_pool() -> None:
    maker = Maker()
    with pytest.raises(ValueError, match="3 environments but 2 indices"):
        PoolEnvironment(maker, 0, [0, 1])
    assert maker.made[0].closed
