"""Batches of transitions from arrays, or from whatever yields batches."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

KEYS = ("obs", "actions", "next_obs", "rewards")


def batches(dataset: Mapping[str, Any] | Iterable[Any], batch_size: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """Observations, actions, next observations and rewards, `batch_size` each; arrays in an order drawn by `seed`.

    ValueError: the data set is none of the forms that `SimpleWorldModel.pretrain` takes.
    """
    whole = dataset if isinstance(dataset, Mapping) else _as_mapping(dataset)
    if whole is None:
        for batch in dataset:
            yield _four(batch)
        return
    arrays = [
        torch.as_tensor(np.asarray(one, np.float32) if isinstance(one, (list, tuple)) else one) for one in _four(whole)
    ]
    if len({len(array) for array in arrays}) != 1:
        raise ValueError(
            f"dataset has arrays of {', '.join(f'{len(a)} {key}' for key, a in zip(KEYS, arrays, strict=True))}; give "
            "as many of each."
        )
    order = torch.randperm(len(arrays[0]), generator=torch.Generator().manual_seed(seed))
    for rows in order.split(batch_size):
        yield tuple(array[rows.to(array.device)] for array in arrays)


def _as_mapping(dataset: Any) -> Mapping[str, Any] | None:
    """Four arrays as a mapping; None for anything else."""
    four = isinstance(dataset, tuple) and len(dataset) == 4
    return dict(zip(KEYS, dataset, strict=True)) if four else None


def _four(batch: Any) -> tuple[Any, ...]:
    if isinstance(batch, Mapping):
        if missing := [key for key in KEYS if key not in batch]:
            raise ValueError(f"dataset lacks {', '.join(missing)}; it needs {', '.join(KEYS)}.")
        return tuple(batch[key] for key in KEYS)
    if not isinstance(batch, (tuple, list)) or len(batch) != 4:
        raise ValueError(f"dataset yields {type(batch).__name__}; each batch must be {', '.join(KEYS)}.")
    return tuple(batch)
