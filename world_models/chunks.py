"""Evaluation in chunks of rows, which keeps intermediate results in the CPU's caches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_whole = False


@contextmanager
def whole() -> Iterator[None]:
    """While the block runs, nothing is cut into chunks: tensors of a CPU stand for those of another device."""
    global _whole
    _whole = True
    try:
        yield
    finally:
        _whole = False


def on_cpu(x: Tensor) -> bool:
    """Whether this is a tensor of a CPU that stands for itself."""
    return x.device.type == "cpu" and not _whole


def in_chunks(function: Callable[..., Any], rows: int, *inputs: Tensor) -> Any:
    """`function(*inputs)`; on a CPU in chunks of `rows` rows along the first axis, on other devices in one call.

    `function` returns a tensor, or a tuple of tensors, with the same first axis; rows must be independent.
    """
    if not on_cpu(inputs[0]) or len(inputs[0]) <= rows:
        return function(*inputs)
    parts = [function(*chunk) for chunk in zip(*(x.split(rows) for x in inputs), strict=True)]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))
