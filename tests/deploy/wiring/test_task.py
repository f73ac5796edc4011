"""What the task decides, and what is said before a run begins."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from deploy.commands.train import parse_train
from deploy.wiring.task import require_trainable, spaces_of

pytestmark = pytest.mark.timeout(60)


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
