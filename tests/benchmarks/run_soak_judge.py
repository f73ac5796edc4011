"""Which rows of the soak's world belong together. Legend: T steps."""

from typing import Any, NamedTuple

import numpy as np

ACTIONS = 3
Numbers = Any  # an int or an array of them
_PRIME = 65521  # the trace of an episode's actions stays exact in float32


def trace(before: Numbers, action: Numbers) -> Numbers:
    """What an episode's actions so far come to, after one more."""
    return (before * 31 + action + 1) % _PRIME


def length(token: Numbers) -> Numbers:
    """Steps of the episode."""
    return 10 + token % 41


def reward(traced: Numbers) -> Numbers:
    """Of the step that led to this trace."""
    return traced % 17 / 16


class Judged(NamedTuple):
    """What a look at consecutive rows has found."""

    rows: int
    torn: list[str]
    """Each pair of neighbours that do not belong together, or row that contradicts itself."""
    abandoned: int
    """Episodes that another one followed without their end."""


def judge(rows: dict[str, np.ndarray]) -> Judged:
    """Rows `[T, ...]` of consecutive steps of a stream, flags as they were written."""
    seen = rows["vector"].astype(np.int64)
    token, step, traced = (seen[:, 0] << 16) | seen[:, 1], seen[:, 2], seen[:, 3]
    first, last, action = rows["is_first"], rows["is_last"], rows["action"].astype(np.int64).reshape(len(step))
    paid = np.where(first, 0.0, reward(traced)).astype(np.float32)
    ended = step == length(token)
    alone = (
        (first == (step == 0)) & (last == ended) & (rows["is_terminal"] == (ended & (token % 2 == 1)))
        & (rows["reward"] == paid) & (~first | (traced == 0))
    )  # fmt: skip
    follows = (
        ~first[1:] & ~last[:-1] & (token[1:] == token[:-1]) & (step[1:] == step[:-1] + 1)
        & (traced[1:] == trace(traced[:-1], action[:-1]))
    )  # fmt: skip
    torn = [f"row {i} contradicts itself: {_line(rows, i)}" for i in np.flatnonzero(~alone).tolist()]
    torn += [
        f"row {i + 1} does not follow row {i}: {_line(rows, i)} and {_line(rows, i + 1)}"
        for i in np.flatnonzero(~(follows | first[1:])).tolist()
    ]
    return Judged(len(step), torn, int((first[1:] & ~last[:-1]).sum()))


def _line(rows: dict[str, np.ndarray], i: int) -> str:
    flags = [name for name in ("is_first", "is_last", "is_terminal") if rows[name][i]]
    return f"{rows['vector'][i].tolist()} action {rows['action'][i]} reward {rows['reward'][i]:g} {flags}"
