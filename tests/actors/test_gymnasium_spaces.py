"""Nested Gymnasium spaces as flat dicts, and back."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.envs.gymnasium_spaces import Leaf, decode, encode, flatten
from actors.native_observations import resize


def keys(leaves: list[Leaf]) -> dict[str, tuple[str, tuple[int, ...], int]]:
    return {key: (s.dtype.name, s.shape, s.classes) for leaf in leaves for key, s in leaf.keys.items()}


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Box(-1, 1, (3,), np.float64), {"vector": ("float32", (3,), 0)}),
        (Box(-1, 1, (), np.float32), {"vector": ("float32", (1,), 0)}),
        (Box(0, 255, (10, 12, 3), np.uint8), {"image": ("uint8", (10, 12, 3), 0)}),
        (Box(0, 255, (3, 10, 12), np.uint8), {"image": ("uint8", (10, 12, 3), 0)}),
        (Box(0, 255, (10, 12), np.uint8), {"image": ("uint8", (10, 12, 1), 0)}),
        (Box(0, 255, (128,), np.uint8), {"vector": ("float32", (128,), 0)}),
        (Box(0, 9, (4,), np.int64), {"vector": ("float32", (4,), 0)}),
        (Discrete(5, start=2), {"vector": ("int32", (), 5)}),
        (MultiDiscrete([4, 4]), {"vector": ("int32", (2,), 4)}),
        (MultiDiscrete([4, 3]), {"vector/0": ("int32", (), 4), "vector/1": ("int32", (), 3)}),
        (MultiBinary(6), {"vector": ("bool", (6,), 2)}),
        (
            Dict({"a": Dict({"b": Discrete(2), "c": Box(0, 1, (2,))}), "d": Tuple([Discrete(3), Discrete(4)])}),
            {"a/b": ("int32", (), 2), "a/c": ("float32", (2,), 0), "d/0": ("int32", (), 3), "d/1": ("int32", (), 4)},
        ),
    ],
)
def test_observation_spaces(space: spaces.Space, expected: dict[str, Any]) -> None:
    leaves = flatten(space, actions=False, image_size=(0, 0))
    assert keys(leaves) == expected
    space.seed(0)
    encoded = encode(leaves, space.sample(), "here", check=True)
    assert {key: (value.dtype.name, value.shape) for key, value in encoded.items()} == {
        key: fields[:2] for key, fields in expected.items()
    }


def test_channels_come_last_with_their_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 7), np.uint8)
    encoded = encode(flatten(Box(0, 255, (3, 5, 7), np.uint8), actions=False, image_size=(0, 0)), image, "", True)
    np.testing.assert_array_equal(encoded["image"], np.moveaxis(image, 0, -1))


def test_images_are_resized() -> None:
    checks = np.kron([[0, 200], [200, 0]], np.ones((2, 2)))[..., None].astype(np.uint8)
    np.testing.assert_array_equal(resize(checks, 2, 2)[..., 0], [[0, 200], [200, 0]])
    np.testing.assert_array_equal(resize(checks, 8, 8)[::2, ::2], checks)
    np.testing.assert_array_equal(resize(checks, 1, 1), [[[100]]])


def test_class_numbers_begin_at_zero() -> None:
    leaves = flatten(MultiDiscrete([3, 3], start=[5, -1]), actions=False, image_size=(0, 0))
    assert encode(leaves, np.array([7, -1]), "", True)["vector"].tolist() == [2, 0]


LEAVES = st.sampled_from(
    [
        Discrete(3, start=-1),
        MultiDiscrete([2, 5, 3]),
        MultiDiscrete(np.full((2, 2), 3), start=np.eye(2, dtype=int)),
        MultiBinary(4),
        Box(-2, 2, (2, 3), np.float32),
        Box(0, 1, (), np.float64),
        Box(-5, 5, (3,), np.int64),
    ]
)
NESTED = st.recursive(
    LEAVES,
    lambda children: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), children, min_size=1, max_size=3).map(Dict),
        st.lists(children, min_size=1, max_size=3).map(Tuple),
    ),
    max_leaves=5,
)


@settings(max_examples=60)
@given(NESTED, st.integers(0, 1000))
def test_actions_survive_the_way_there_and_back(space: spaces.Space, seed: int) -> None:
    """A raw action, flattened as if it were an observation, decodes to itself."""
    space.seed(seed)
    action = space.sample()
    leaves = flatten(space, actions=True, image_size=(0, 0))
    flat = encode(leaves, action, "", check=True)
    again = decode(space, leaves, flat)
    assert space.contains(again)
    assert_equal(again, action)


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_spaces_without_a_fixed_size_are_refused() -> None:
    with pytest.raises(ValueError, match="observation space 'words' is a Sequence, whose values have no fixed size"):
        flatten(Dict({"words": Sequence(Discrete(3))}), actions=False, image_size=(0, 0))
