"""Broken environments in a vector are made again one by one; the others and their streams are not affected."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import psutil
import pytest

from actors import closing
from actors.batch_environment import Rows, episode_seed
from actors.config import EnvironmentConfig
from actors.environment import Environment
from actors.envs import make
from actors.faults import BrokenEnvironmentError, Kind
from actors.isolation.environment_process import Limits
from actors.isolation.isolated import IsolatedEnvironment, IsolatedEnvironments
from actors.repairs import FIRST_STEPS, EnvironmentFault
from actors.vector import VectorEnvironment
from tests.actors.faulty import END, GO_ON, HANG, KILL, LEAK, NAN, RAISE, SEGFAULT, TASK, WRONG

LIMITS = Limits(3.0, 60.0, 0.2)
Maker = Callable[[], Environment]


@pytest.fixture(scope="module")
def makers() -> Iterator[dict[str, Maker]]:
    isolated = IsolatedEnvironments(TASK, EnvironmentConfig(), LIMITS)
    yield {"process": isolated, "none": partial(make, TASK)}
    isolated.close()


@pytest.fixture(params=["process", "none"])
def maker(request: pytest.FixtureRequest, makers: dict[str, Maker]) -> Maker:
    return makers[request.param]


class Played:
    """A vector that is stepped, and what came of it."""

    def __init__(self, makers: list[Maker], quarantine_after: int = 5):
        self.vector = VectorEnvironment(makers, 0, [10 + i for i in range(len(makers))], quarantine_after)
        self.faults: list[EnvironmentFault] = []
        self.rows: Rows = {}

    def step(self, *actions: int) -> Rows:
        self.rows = self.vector.step({"action": np.array(actions, np.int32)} if actions else None)
        self.faults += self.vector.faults()
        return self.rows

    def until_there(self, i: int, others: int = GO_ON) -> int:
        """Steps until environment i has a row again."""
        deadline, steps = time.monotonic() + 60, 0
        while not self.vector.there[i]:
            assert time.monotonic() < deadline, "it does not come back"
            self.step(*[others] * len(self.vector))
            steps += 1
        return steps


@pytest.fixture
def play(maker: Maker) -> Iterator[Callable[..., Played]]:
    made: list[Played] = []

    def begin(count: int, **options: Any) -> Played:
        made.append(Played([maker] * count, **options))
        made[-1].step()
        return made[-1]

    yield begin
    for one in made:
        one.vector.close()


FAULTS: list[tuple[int, Kind]] = [
    (RAISE, "exception"), (NAN, "non_finite"), (WRONG, "invalid"), (HANG, "timeout"), (SEGFAULT, "crash"),
    (KILL, "crash"), (LEAK, "memory"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind"), FAULTS, ids=[f"{kind}-{action}" for action, kind in FAULTS])
def test_one_that_breaks_is_made_again_and_the_others_go_on(
    play: Callable[..., Played], request: pytest.FixtureRequest, action: int, kind: Kind
) -> None:
    if "none" in request.node.name and kind in ("timeout", "crash", "memory"):
        pytest.skip("it would end this process")
    one = play(3)
    one.step(GO_ON, GO_ON, GO_ON)
    seeds = list(one.vector.seeds)
    one.step(GO_ON, action, GO_ON)
    if kind == "memory":  # found at the next look
        one.vector.environments[1]._process._looked = 0.0  # type: ignore[attr-defined]
        one.step(GO_ON, GO_ON, GO_ON)
    (fault,) = one.faults
    assert (fault.env_index, fault.kind, fault.quarantined) == (11, kind, False)
    assert fault.text.startswith("environment 11, ") or kind in ("non_finite", "invalid")
    step = int(one.rows["vector"][0, 1])
    assert one.vector.replaced[1] == one.vector.there[1] and one.rows["is_first"][1]
    step += one.until_there(1)
    assert one.vector.there.all() and one.vector.replaced.tolist() == [False, True, False]
    assert one.rows["is_first"].tolist() == [False, True, False]
    assert one.rows["vector"][:, 1].tolist() == [step, 0, step], "the others have missed no step"
    assert one.vector.seeds == [seeds[0], episode_seed(0, 11, 1), seeds[2]]
    one.step(GO_ON, GO_ON, GO_ON)
    assert one.vector.there.all() and not one.vector.replaced.any()
    assert one.rows["vector"][:, 1].tolist() == [step + 1, 1, step + 1]
    one.step(GO_ON, END, GO_ON)
    (episode,) = one.vector.finished()
    assert (episode.env_index, episode.episode, episode.score, episode.length) == (11, 1, 2.0, 2)
    assert episode.metrics == {"log/time/avg": 1.5, "log/time/max": 2, "log/time/sum": 3}


def test_failures_in_a_row_end_in_quarantine_and_finished_episodes_in_between_forgive(
    play: Callable[..., Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.repairs.FIRST_PAUSE", 0.05)
    one = play(2, quarantine_after=3)
    for _ in range(3):
        one.step(RAISE, GO_ON)
        one.until_there(0)
        one.step(END, GO_ON)
        one.step(GO_ON, GO_ON)
    assert [fault.quarantined for fault in one.faults] == [False] * 3
    for _ in range(2):
        one.step(RAISE, GO_ON)
        one.until_there(0)
    one.step(RAISE, GO_ON)
    assert [fault.quarantined for fault in one.faults[3:]] == [False, False, True]
    assert one.vector.quarantined == 1 and len(one.vector.finished()) == 3
    for _ in range(20):
        one.step(GO_ON, GO_ON)
        assert one.vector.there.tolist() == [False, True]
        time.sleep(0.01)
    one.step(GO_ON, END)
    assert [episode.env_index for episode in one.vector.finished()] == [11]


def test_the_only_one_is_waited_for_without_a_row(play: Callable[..., Played]) -> None:
    one = play(1)
    one.step(RAISE)
    one.until_there(0)
    assert one.rows["is_first"][0] and one.rows["vector"][0, 1] == 0 and one.vector.replaced[0]


def test_steps_without_a_failure_forgive_even_if_no_episode_ends(
    play: Callable[..., Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.vector.FORGIVEN", 3)
    monkeypatch.setattr("actors.repairs.FIRST_PAUSE", 0.05)
    one = play(1, quarantine_after=2)
    for steps in (3, 3, 2):
        one.step(RAISE)
        one.until_there(0)
        for _ in range(steps):
            one.step(GO_ON)
    one.step(RAISE)
    assert [fault.quarantined for fault in one.faults] == [False, False, False, True]


def fail(one: Played, action: int, age: int, *places: int) -> None:
    """The environments in these places fail one after the other, `age` steps after each was made."""
    for i in places:
        one.vector._made[i] = one.vector._steps[i] - age
        one.step(*[action if i == j else GO_ON for j in range(len(one.vector))])
        one.until_there(i)


def test_an_error_of_all_after_as_many_steps_twice_is_the_tasks(play: Callable[..., Played]) -> None:
    one = play(2)
    fail(one, RAISE, 2, 0, 1, 0)
    assert [fault.env_index for fault in one.faults] == [10, 11, 10]
    with pytest.raises(BrokenEnvironmentError, match="environment 11, .*the gripper is stuck"):
        fail(one, RAISE, 2, 1)


@pytest.mark.parametrize(("age", "action", "later"), [(2, NAN, 2), (2, RAISE, 3), (FIRST_STEPS + 1, RAISE, 1001)])
def test_other_errors_of_all_are_those_of_environments(
    play: Callable[..., Played], age: int, action: int, later: int
) -> None:
    one = play(2)
    fail(one, RAISE, age, 0, 1, 0)
    fail(one, action, later, 1)
    assert [fault.env_index for fault in one.faults] == [10, 11, 10, 11]


def test_one_fault_of_what_all_share_ends_nothing(play: Callable[..., Played]) -> None:
    one = play(3)
    one.step(GO_ON, GO_ON, GO_ON)
    one.step(RAISE, RAISE, RAISE)
    for i in range(3):
        one.until_there(i)
    assert len(one.faults) == 3 and one.vector.quarantined == 0


def test_a_reset_that_never_works_is_the_tasks(makers: dict[str, Maker]) -> None:
    def without_map() -> Environment:
        environment = makers["none"]()
        environment.reset = partial(int, "no map")  # type: ignore[method-assign,assignment]
        return environment

    one = Played([without_map] * 2)
    with pytest.raises(BrokenEnvironmentError, match=r"environment 1[01], reset\(\).*int\(\) base"):
        one.step()
        one.until_there(0)
    one.vector.close()


def close_fails(environment: Environment) -> None:
    """Let it close, and then raise an error."""
    closes = environment.close

    def close() -> None:
        closes()
        raise RuntimeError("the window is gone")

    environment.close = close  # type: ignore[method-assign]


def test_closing_closes_every_environment_whatever_one_answers(
    makers: dict[str, Maker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_said", set())
    vector = VectorEnvironment([makers["process"]] * 4, 0)
    processes = vector.step()["vector"][:, 0].astype(int)
    with pytest.raises(BrokenEnvironmentError, match="environment 0, .*the gripper is stuck"):
        vector.step({"action": np.array([RAISE, NAN, RAISE, GO_ON], np.int32)})
    close_fails(vector.environments[2])
    vector.close()
    assert not [process for process in processes if psutil.pid_exists(process)]
    (line,) = closing.warnings()
    assert line.startswith("warning: environment 2, close(), ") and line.endswith("RuntimeError: the window is gone")


def test_one_that_cannot_be_closed_is_made_again(play: Callable[..., Played], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_said", set())
    one = play(2)
    close_fails(one.vector.environments[0])
    one.step(RAISE, GO_ON)
    one.until_there(0)
    (line,) = closing.warnings()
    assert line.startswith("warning: a broken environment, close(), ")


def test_without_a_limit_an_error_is_raised(maker: Maker) -> None:
    vector = VectorEnvironment([maker] * 2, 0)
    vector.step()
    with pytest.raises(BrokenEnvironmentError, match=r"environment 1, step\(\) at frame 0 of the episode with seed"):
        vector.step({"action": np.array([GO_ON, RAISE], np.int32)})
    vector.close()


def test_hangs_at_the_same_time_cost_one_timeout(makers: dict[str, Maker]) -> None:
    one = Played([makers["process"]] * 3)
    one.step()
    environments = [cast(IsolatedEnvironment, environment) for environment in one.vector.environments]
    one.step(HANG, HANG, GO_ON)
    assert [fault.kind for fault in one.faults] == ["timeout"] * 2
    begun = [environment._deadline - LIMITS.step for environment in environments]
    assert max(begun) - min(begun) < LIMITS.step, "one was begun before the other was waited for"
    one.vector.close()
