"""What the task decides, and what is said before a run begins."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from deploy.commands.train import parse_train
from deploy.wiring.task import isolated, require_trainable, spaces_of


class Picture(gymnasium.Env):
    """Has a picture of 84 rows and columns, as Atari games have."""

    observation_space, action_space = Box(0, 255, (84, 84, 1), np.uint8), Discrete(2)
    metadata: Any = {"render_modes": []}


gymnasium.register("NexusPicture-v0", Picture)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--environment.image-size", "84", "84"], "'image': .*multiples of 16 .*got .84, 84.; set environment.image"),
        (["--environment.image-size", "0", "0"], "'image': .*multiples of 16 .*got .84, 84.; set environment.image"),
        (["--model.decoder.blocks", "3"], "decoder.blocks=3 must divide"),
    ],
)
def test_pictures_that_no_agent_fits_are_refused_before_anything_starts(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"Task 'gym:NexusPicture-v0': .*{message}"):
        _require(["gym:NexusPicture-v0", *options])
    _require(["gym:NexusPicture-v0"])


def _require(arguments: list[str]) -> None:
    config = parse_train(arguments)
    require_trainable(config, spaces_of(config))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gym:CartPole-v1"], False),
        (["dmc_walker_walk"], False),
        (["gym:ALE/Pong-v5"], False),
        (["gym:my_module:MyEnv-v0"], True),
        (["rllib:my_module:my_env"], True),
        (["gym:my_module:MyEnv-v0", "--mode", "inline"], False),
        (["gym:my_module:MyEnv-v0", "--actor.isolation", "none"], False),
        (["gym:CartPole-v1", "--actor.isolation", "process"], True),
    ],
)
def test_environments_of_ones_own_have_processes_of_their_own(arguments: list[str], expected: bool) -> None:
    assert isolated(parse_train(arguments)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--actor.isolation", "process", "--mode", "inline"], "actor.isolation='process' needs mode='local'"),
        (["--actor.step-timeout", "0"], r"actor.step_timeout=0 must lie in \(0, 150\] seconds"),
        (["--actor.reset-timeout", "200"], r"actor.reset_timeout=200 must lie in \(0, 150\] seconds"),
        (["--actor.environment-gb", "-1"], "actor.environment_gb=-1 must not be negative; 0 sets no limit"),
        (["--actor.quarantine-after", "0"], "actor.quarantine_after=0 must be at least 1"),
    ],
)
def test_limits_of_environments_are_checked(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_train(["gym:CartPole-v1", *options])
