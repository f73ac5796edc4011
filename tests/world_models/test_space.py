"""Spaces: what they say of themselves, round trip through JSON, errors."""

import json

import numpy as np
import pytest

from tests.world_models.small_agent import CONTINUOUS, IMAGE, INTEGER, MULTI_DISCRETE, SCALAR, SWITCH, VECTOR
from world_models.space import Space


@pytest.mark.parametrize(
    ("space", "width", "discrete", "image"),
    [
        (VECTOR, 3, False, False),
        (SCALAR, 1, False, False),
        (INTEGER, 4, True, False),
        (MULTI_DISCRETE, 6, True, False),
        (SWITCH, 2, True, False),
        (IMAGE, 432, False, True),
    ],
)
def test_kinds(space: Space, width: int, discrete: bool, image: bool) -> None:
    assert (space.width, space.discrete, space.is_image) == (width, discrete, image)
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_elementwise_bounds_survive_json_and_tell_spaces_apart() -> None:
    low, high = np.array([-1, -2], np.float32), np.array([np.inf, 3], np.float32)
    space = Space(dtype=np.dtype(np.float32), shape=(2,), low=low, high=high)
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space and np.array_equal(again.high, high)
    assert space != CONTINUOUS and space != "a space"
    assert hash(again) == hash(space)


def test_errors_name_the_value_and_the_remedy() -> None:
    with pytest.raises(ValueError, match="'float64' is not one of.*adapter"):
        Space(dtype=np.dtype(np.float64), shape=())
    with pytest.raises(ValueError, match="classes=0; pass classes=n"):
        Space(dtype=np.dtype(np.int32), shape=(2,))
