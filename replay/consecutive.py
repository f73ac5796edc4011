"""Cuts a long sequence into consecutive shorter ones that a recurrent model can carry its state through."""

from collections.abc import Iterable, Iterator

import numpy as np

from replay.step import Rows


def consecutive(source: Iterable[Rows], length: int, consec: int, prefix: int = 0) -> Iterator[Rows]:
    """Chunks `[B, prefix + length, ...]` of batches `[B, prefix + consec * length, ...]`, `consec` of them in turn.

    Chunk i starts at i * length, so neighbours overlap by `prefix` steps; key `consec` holds i. Raises ValueError for a
    batch of another length.
    """
    for batch in source:
        for key, value in batch.items():
            if value.shape[1] != prefix + consec * length:
                raise ValueError(
                    f"Key {key!r} has {value.shape[1]} steps, {consec} chunks of {length} and a prefix of {prefix} "
                    f"need {prefix + consec * length}; sample sequences of that length."
                )
        for i in range(consec):
            chunk = {key: value[:, i * length : (i + 1) * length + prefix] for key, value in batch.items()}
            first = next(iter(chunk.values()))
            yield {**chunk, "consec": np.full(first.shape[:2], i, np.int32)}
