"""Rows in lz4 blocks of a few each, so that some can be read without the others.

    int64 rows of a block, int64 end of each block, blocks

A chunk that does not get smaller stays as it is. Compression is worth while if images are most of a row.
"""

import numpy as np

_BLOCK_BYTES = 64 << 10  # of rows: a sequence reads at most twice that in vain


def require() -> None:
    """ValueError: lz4 is not installed."""
    try:
        import lz4.block  # noqa: F401
    except ImportError:
        raise ValueError(
            'Compressed replay needs the package lz4: pip install "nexus-worlds[lz4]", or turn compression off.'
        ) from None


def compress(rows: np.ndarray) -> np.ndarray | None:
    """Bytes of rows `[C, stride]`; None if they are no fewer."""
    from lz4.block import compress as lz4

    each = max(1, _BLOCK_BYTES // rows.shape[1])
    blocks = [lz4(rows[i : i + each].reshape(-1).data, store_size=False) for i in range(0, len(rows), each)]
    head = np.array([each, *np.cumsum([len(block) for block in blocks])], np.int64)
    content = np.frombuffer(b"".join([head.tobytes(), *blocks]), np.uint8)
    return content if len(content) < rows.size else None


class CompressedRows:
    """Rows `[C, stride]` out of bytes that compress() made; `rows[i:j]` are fresh memory."""

    def __init__(self, content: np.ndarray, rows: int, stride: int) -> None:
        self._stride = stride
        self._each = int(content[:8].view(np.int64)[0])
        count = -(-rows // self._each)
        ends = content[8 : 8 * (1 + count)].view(np.int64).tolist()
        self._spans = list(zip([0, *ends], ends, strict=False))
        self._blocks = content[8 * (1 + count) :].data
        self._rows = rows

    def __getitem__(self, span: slice) -> np.ndarray:
        from lz4.block import decompress

        start, stop, _ = span.indices(self._rows)
        size = self._each * self._stride
        first, last = start // self._each, -(-stop // self._each)
        blocks = [decompress(self._blocks[a:b], uncompressed_size=size) for a, b in self._spans[first:last]]
        rows = np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, self._stride)
        return rows[start - first * self._each : stop - first * self._each]
