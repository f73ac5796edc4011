"""Crafter: the published numbers of its task, exact episodes, achievements as metrics."""

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("crafter", reason="the extra crafter is not installed")

from actors.config import EnvironmentConfig
from actors.environment import Step
from actors.envs import make
from actors.envs.crafter import CrafterEnvironment
from actors.evaluation import describe_metrics, run_episodes
from actors.trivial_policies import RandomPolicy
from actors.vector import VectorEnvironment

NOTHING = {"action": np.array(0, np.int32)}
LONG = 450  # frames: past nightfall, when pictures have noise and creatures come and go


def crafter(task: str = "crafter_reward", **options: object) -> CrafterEnvironment:
    return CrafterEnvironment(task, EnvironmentConfig(**options))  # type: ignore[arg-type]


def acts(seed: int, count: int) -> Iterator[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield {"action": np.array(random.integers(17), np.int32)}


def same(one: Step, two: Step) -> bool:
    return one[1:] == two[1:] and np.array_equal(one.observation["image"], two.observation["image"])


def test_the_task_is_the_published_one() -> None:
    environment = crafter()
    assert environment.observation_space["image"].shape == (64, 64, 3)
    assert environment.action_space["action"].classes == 17
    assert environment.raw._length == 10_000 and environment.frames_per_step == 1
    environment.reset(0)
    infos = environment.step(NOTHING).infos
    assert len(infos) == 1 and len(infos[0]) == 22
    assert {"achievements/collect_diamond", "achievements/wake_up"} < infos[0].keys()


def test_an_episode_is_the_same_in_a_fresh_and_in_a_used_environment_drawn_or_not() -> None:
    """Whatever was created in between: the order of Crafter's creatures does not depend on memory addresses."""
    fresh, used = crafter(), crafter()
    used.reset(1)
    for action in acts(1, 100):
        if used.step(action).is_last:
            break
    keep = [object() for _ in range(1000)]
    one, other = fresh.reset(3), used.reset(3)
    assert same(one, other)
    for number, action in enumerate(acts(3, LONG)):
        for environment in (fresh, used):
            environment.raw._player.health = 9
        one, other = fresh.step(action), used.step(action)
        assert same(one, other) and not one.is_last, f"step {number}"
        if number % 10 == 0:
            assert used.render().shape == (432, 432, 3)
    assert keep


def test_death_is_terminal_and_the_time_limit_is_not() -> None:
    environment = crafter()
    environment.reset(0)
    environment.raw._player.health = 0
    step = environment.step(NOTHING)
    assert step.is_last and step.is_terminal
    environment.reset(0)
    environment.raw._step = 9_999
    step = environment.step(NOTHING)
    assert step.is_last and not step.is_terminal


def test_without_reward_the_achievements_still_count() -> None:
    for task, reward in (("crafter_reward", 1.0), ("crafter_noreward", 0.0)):
        environment = crafter(task)
        environment.reset(0)
        environment.raw._player.achievements["collect_wood"] = 2
        step = environment.step(NOTHING)
        assert step.reward == reward and step.infos[0]["achievements/collect_wood"] == 2


def test_other_sizes_and_repeated_actions() -> None:
    environment = crafter(image_size=(48, 96), action_repeat=4)
    assert environment.reset(0).observation["image"].shape == (48, 96, 3)
    assert len(environment.step(NOTHING).infos) == 4
    assert environment.raw._step == 4


def test_an_interrupted_episode_is_restored_exactly() -> None:
    vector = VectorEnvironment([crafter], 5)
    first = vector.step()
    rows, actions = [first], list(acts(5, 40))
    for action in actions:
        rows.append(vector.step({key: value[None] for key, value in action.items()}))
    stored = {key: np.stack([row[key][0] for row in rows]) for key in first}
    last = np.zeros((), np.int32)
    stored["action"] = np.stack([*(action["action"] for action in actions), last])
    again = VectorEnvironment([crafter], 5)
    assert again.restore(0, vector.episodes[0], stored)


def test_an_evaluation_tells_success_rates_and_the_score() -> None:
    short = [lambda: make("crafter_reward", EnvironmentConfig(time_limit=60))] * 2
    policy = RandomPolicy(make("crafter_reward").action_space, 0)
    evaluation = run_episodes(short, policy, 2, seed=0)
    assert len(evaluation.metrics) == 22
    lines = describe_metrics(evaluation.metrics, 2)
    assert lines[-1].startswith("Crafter score") and lines[-1].endswith(" %")


@pytest.mark.parametrize("task", ["crafter_rewards", "crafter_", "crafter_no_reward"])
def test_an_unknown_task_names_the_nearest(task: str) -> None:
    with pytest.raises(ValueError, match=r"Unknown task 'crafter_.*nearest are .*crafter_(no)?reward"):
        make(task)
