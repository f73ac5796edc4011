"""Broken environments, and whether the errors say what is wrong and where."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from actors.config import EnvironmentConfig
from actors.conformance import Finding, check_environment
from actors.environment import Environment
from actors.envs import make
from actors.faults import BrokenEnvironmentError
from actors.vector import VectorEnvironment


class Sound(gymnasium.Env):
    """Nothing wrong here; the others differ from it by one thing."""

    observation_space = Dict({"image": Box(0, 255, (8, 8, 3), np.uint8), "vector": Box(-1, 1, (2,), np.float32)})
    action_space = Dict({"kind": Discrete(2), "force": Box(-1, 1, (1,), np.float32)})
    length = 12

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.time >= self.length:
            raise RuntimeError("the episode is over")
        self.time += 1
        return self.look(), self.reward(), self.time >= self.length, False, {}

    def look(self) -> dict[str, Any]:
        image = np.full((8, 8, 3), self.time, np.uint8)
        return {"image": image, "vector": self.np_random.uniform(-1, 1, 2).astype(np.float32)}

    def reward(self) -> float:
        return 1.0


class WrongDtype(Sound):
    def look(self) -> dict[str, Any]:
        return super().look() | {"image": np.full((8, 8, 3), 0.5)}


class WrongShape(Sound):
    def look(self) -> dict[str, Any]:
        return super().look() | {"vector": np.zeros(3 if self.time == 4 else 2, np.float32)}


class NanReward(Sound):
    def reward(self) -> float:
        return float("nan") if self.time == 7 else 0.0


class OutsideItsSpace(Sound):
    def look(self) -> dict[str, Any]:
        return super().look() | {"vector": np.array([0, 0.4 * self.time], np.float32)}


class NanObservation(Sound):
    def look(self) -> dict[str, Any]:
        return super().look() | {"vector": np.array([0, np.nan if self.time == 5 else 0], np.float32)}


class MissingKey(Sound):
    def look(self) -> dict[str, Any]:
        return {"image": super().look()["image"]}


class GoesOnAfterItsEnd(Sound):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self.look(), 1.0, self.time == self.length, False, {}


class AcceptsSilently(Sound):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self.look(), 1.0, self.time >= self.length, False, {}


class ForgetsItsSeed(Sound):
    def look(self) -> dict[str, Any]:
        return super().look() | {"vector": np.random.uniform(-1, 1, 2).astype(np.float32)}


class Raises(Sound):
    def reward(self) -> float:
        raise KeyError("goal")


class NeverEnds(Sound):
    length = 10**9


@pytest.fixture
def make_broken() -> Iterator[Callable[..., Environment]]:
    made: list[str] = []

    def register(kind: type[gymnasium.Env], check_steps: bool = True) -> Environment:
        name = f"Nexus{kind.__name__}-v0"
        made.append(name)
        gymnasium.register(id=name, entry_point=kind)  # type: ignore[arg-type]
        return make(f"gym:{name}", EnvironmentConfig(image_size=(0, 0), check_steps=check_steps))

    yield register
    for name in made:
        del gymnasium.registry[name]


BROKEN = [
    (WrongDtype, "wrong dtype: float64, the space declares uint8", ["observation['image']", "reset() of the episode"]),
    (WrongShape, r"wrong shape: (3,), the space declares (2,)", ["observation['vector']", "step() number 4"]),
    (NanReward, "wrong reward: nan, a reward must be finite", ["step() number 7", "reward"]),
    (OutsideItsSpace, "outside its space: element (1,) is 1.2", ["observation['vector']", "step() number 3"]),
    (NanObservation, "not finite: element (1,) is nan", ["observation['vector']", "step() number 5"]),
    (MissingKey, "wrong keys: ['image'], the space declares ['image', 'vector']", ["observation", "reset()"]),
]


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


@pytest.mark.parametrize(("kind", "what", "where"), BROKEN)
def test_the_check_says_what_is_wrong_and_where(
    make_broken: Callable[..., Environment], kind: type[gymnasium.Env], what: str, where: list[str]
) -> None:
    (finding,) = errors(check_environment(make_broken(kind), steps=100))
    assert what in finding.what
    assert all(part in finding.where for part in [f"gym:Nexus{kind.__name__}-v0", "seed 0", *where]), finding.where
    assert finding.remedy


@pytest.mark.parametrize(("kind", "what", "where"), BROKEN)
def test_training_stops_with_the_same_words(
    make_broken: Callable[..., Environment], kind: type[gymnasium.Env], what: str, where: list[str]
) -> None:
    vector = VectorEnvironment([lambda: make_broken(kind)], run_seed=0)
    action = {"kind": np.zeros(1, np.int32), "force": np.zeros((1, 1), np.float32)}
    with pytest.raises(BrokenEnvironmentError) as caught:
        for _ in range(20):
            vector.step(action)
    assert what in str(caught.value)
    assert all(part in str(caught.value) for part in where)


@pytest.mark.parametrize("kind", [WrongDtype, OutsideItsSpace])
def test_the_checks_of_training_can_be_turned_off(make_broken: Callable[..., Environment], kind: type) -> None:
    environment = make_broken(kind, check_steps=False)
    step = environment.reset(0)
    while not step.is_last:
        step = environment.step({"kind": np.zeros((), np.int32), "force": np.zeros(1, np.float32)})
        assert step.observation["image"].dtype == np.uint8


def test_a_step_after_the_end_that_goes_on_is_an_error(make_broken: Callable[..., Environment]) -> None:
    (finding,) = errors(check_environment(make_broken(GoesOnAfterItsEnd), steps=100))
    assert "a step after the end was accepted, and the episode went on" in finding.what
    assert "step() after the end" in finding.where


def test_a_step_after_the_end_that_reports_the_end_again_is_fine(make_broken: Callable[..., Environment]) -> None:
    """As most of Gymnasium's own environments do."""
    assert not any("after the end" in finding.where for finding in check_environment(make_broken(AcceptsSilently), 100))


def test_an_environment_that_ignores_its_seed_is_found(make_broken: Callable[..., Environment]) -> None:
    (finding,) = errors(check_environment(make_broken(ForgetsItsSeed), steps=100))
    assert "not repeatable" in finding.what and "'vector'" in finding.what
    assert finding.where == "reset()"


def test_an_exception_inside_is_a_finding_with_its_line(make_broken: Callable[..., Environment]) -> None:
    (finding,) = errors(check_environment(make_broken(Raises), steps=100))
    assert "KeyError: 'goal'" in finding.what
    assert __file__ in finding.where and "in reward" in finding.where


def test_endless_episodes_are_mentioned(make_broken: Callable[..., Environment]) -> None:
    findings = check_environment(make_broken(NeverEnds), steps=50)
    assert not errors(findings)
    assert "no episode ended in 50 random steps" in findings[0].what
    said = [str(finding) for finding in check_environment(make_broken(Sound), steps=1)]
    assert any("no episode ended in 1 random step, so" in line for line in said)


class Blind(Sound):
    observation_space = Box(-1, 1, (2,), np.float32)  # type: ignore[assignment]

    def look(self) -> Any:
        return super().look()["vector"]


def test_a_finding_ends_each_sentence_with_one_full_stop(make_broken: Callable[..., Environment]) -> None:
    (finding,) = check_environment(make_broken(Blind), steps=100)
    assert str(finding).endswith("to the environment to get a video. Training needs none.")


class Reporting(Sound):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return *super().step(action)[:4], {"is_success": "yes", "log/time": self.time, "episode": {"score": 1}}


def test_metrics_that_cannot_be_used_are_mentioned(make_broken: Callable[..., Environment]) -> None:
    assert [str(finding) for finding in check_environment(make_broken(Reporting), 60)] == [
        "warning: metrics: info 'is_success' is a str, not a number: it is left out. Correct it if you need it.",
        "warning: metrics: info 'episode/score' is kept as info/score: score is the name of another column. "
        "Correct it if you need it.",
    ]


def test_a_sound_environment_has_no_findings(make_broken: Callable[..., Environment]) -> None:
    assert check_environment(make_broken(Sound), steps=100) == []


def test_values_a_rounding_error_outside_pass(make_broken: Callable[..., Environment]) -> None:
    class Rounded(Sound):
        def look(self) -> dict[str, Any]:
            return super().look() | {"vector": np.array([1 + 2e-7, -1], np.float32)}

    assert check_environment(make_broken(Rounded), steps=30) == []
