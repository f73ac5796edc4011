"""Names of streams and steps: a step key is (stream, step), both int64, valid forever and never reused."""

from collections.abc import Iterable

import numpy as np

_SLOT_BITS, _INCARNATION_BITS, _ACTOR_BITS = 15, 24, 24
SLOTS = 1 << _SLOT_BITS
"""Environments that one run can have."""


def stream_id(actor: int, incarnation: int, slot: int) -> int:
    """The stream of one environment slot in one life of one actor; each restart increments the incarnation."""
    for name, value, bits in (
        ("actor", actor, _ACTOR_BITS),
        ("incarnation", incarnation, _INCARNATION_BITS),
        ("slot", slot, _SLOT_BITS),
    ):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"Stream {name} is {value}, allowed 0 to {(1 << bits) - 1}; number from 0.")
    return (actor << _INCARNATION_BITS | incarnation) << _SLOT_BITS | slot


def slot_of(stream: int) -> int:
    """The environment slot that a stream belongs to."""
    return stream & (1 << _SLOT_BITS) - 1


def incarnation_of(stream: int) -> int:
    """The life of the actor that a stream belongs to."""
    return stream >> _SLOT_BITS & (1 << _INCARNATION_BITS) - 1


def newest_incarnation(streams: Iterable[int]) -> int:
    """The highest incarnation among streams; -1 if there are none."""
    return max(map(incarnation_of, streams), default=-1)


def step_keys(stream: int, first_step_id: int, n: int) -> np.ndarray:
    """Keys `[n, 2]` of n consecutive steps."""
    keys = np.empty((n, 2), np.int64)
    keys[:, 0] = stream
    keys[:, 1] = np.arange(first_step_id, first_step_id + n)
    return keys


def sequences(keys: np.ndarray) -> list[tuple[int, int]]:
    """(stream, first step) of each row of keys `[n, T, 2]`. Raises ValueError unless rows are consecutive steps."""
    keys = np.asarray(keys)
    if keys.ndim != 3 or keys.shape[1] == 0 or keys.shape[2] != 2 or keys.dtype != np.int64:
        raise ValueError(f"Step keys are int64 [n, T, 2], got {keys.dtype} {list(keys.shape)}; pass those of sample().")
    step = np.arange(keys.shape[1])
    whole = (keys[:, :, 0] == keys[:, :1, 0]) & (keys[:, :, 1] == keys[:, :1, 1] + step)
    if not whole.all():
        row = int(np.argmin(whole.all(1)))
        raise ValueError(f"Row {row} of the step keys is not consecutive steps of one stream: {keys[row].tolist()}.")
    return [(int(stream), int(first)) for stream, first in keys[:, 0]]
