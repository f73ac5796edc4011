"""Reads ranges of packed rows from a Redis server, received directly into the caller's memory."""

from collections.abc import Iterator

import numpy as np

from replay.layout import Batch
from replay.redis.redis_replay import RedisReplay

_LIFE_BYTES = 32
Request = tuple[bytes, int, memoryview]


class ChunkReader:
    """Each method is one exchange with the server."""

    def __init__(self, replay: RedisReplay) -> None:
        self._replay = replay
        self._row, self._packed = replay.schema.row_dtype, replay.schema.latent_dtype
        self._chunk, self._latents, self._life = (f"{replay.prefix}:{kind}".encode() for kind in ("c:", "l:", "life"))
        self.foreign: set[bytes] = set()
        """Keys of chunks and latents that hold values of another type."""

    def lies_in(self, stream: int, first: int, n: int) -> set[bytes]:
        """Keys of the chunks that hold the rows of `n` steps of a stream from `first` on."""
        length = self._replay.layout.chunk_length
        return {_key(self._chunk, stream, chunk) for chunk in range(first // length, (first + n - 1) // length + 1)}

    def sequences(self, out: Batch, which: np.ndarray) -> tuple[np.ndarray, int, bytes]:
        """Fill sequences `which` of a batch whose keys are set.

        Returns which of them are complete, bool `[len(which)]`; how many of these have no latents (they are zeros); and
        the life of the replay after the last byte: if it is not that in which the keys were drawn, discard everything.
        """
        width = self._replay.layout.row_bytes * out.rows.shape[1]
        rows = memoryview(out.rows.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        scratch = np.zeros((len(which), self._replay.layout.latent_bytes), np.uint8)
        requests: list[Request] = []
        ends: list[int] = []
        for i, (stream, first) in zip(which.tolist(), out.keys[which, 0].tolist(), strict=True):
            # Latents before rows: latents that are missing while the rows exist were lost, not evicted.
            requests += self._requests(self._latents, stream, first, memoryview(scratch[len(ends)]))
            requests += self._requests(self._chunk, stream, first, rows[i * width : (i + 1) * width])
            ends.append(len(requests))
        got, life = self._exchange(requests)
        begins = [0, *ends[:-1]]
        if self._replay.layout.latent_bytes:
            begins = [begin + 1 for begin in begins]
        missing = np.array([len(out) for _, _, out in requests]) != got
        whole = np.array([not missing[begin:end].any() for begin, end in zip(begins, ends, strict=True)])
        return whole, self._unmark(scratch, out.latents, which, whole), life

    def steps(self, stream: int, first: int, n: int) -> tuple[np.ndarray, np.ndarray, int, bytes] | None:
        """Rows and latents `[n]` of a stream's steps, how many latents are zeros, the life; None: rows are missing."""
        rows, latents = np.empty(n, self._row), np.empty(n, self._packed)
        scratch = np.zeros((n, self._replay.layout.latent_bytes), np.uint8)
        requests = list(self._requests(self._latents, stream, first, memoryview(scratch.reshape(-1))))  # type: ignore[arg-type]
        count = len(requests)
        requests += self._requests(self._chunk, stream, first, memoryview(rows.view(np.uint8)))  # type: ignore[arg-type]
        got, life = self._exchange(requests)
        if any(len(out) != length for (_, _, out), length in zip(requests[count:], got[count:], strict=True)):
            return None
        every = np.arange(n)
        return rows, latents, self._unmark(scratch, latents, every, np.ones(n, bool)), life

    def _requests(self, kind: bytes, stream: int, first: int, out: memoryview) -> Iterator[Request]:
        """The chunk ranges with the rows, or latents, of a stream's steps from `first` on."""
        chunk, place = divmod(first, self._replay.layout.chunk_length)
        stride = self._replay.layout.row_bytes if kind is self._chunk else self._replay.layout.latent_bytes
        at, start, size = 0, place * stride, self._replay.layout.chunk_length * stride
        while at < len(out):
            stop = min(at + size - start, len(out))
            yield _key(kind, stream, chunk), start, out[at:stop]
            at, start, chunk = stop, 0, chunk + 1

    def _exchange(self, requests: list[Request]) -> tuple[np.ndarray, bytes]:
        life = bytearray(_LIFE_BYTES)
        got = self._replay.reads.connection.get_ranges([*requests, (self._life, 0, memoryview(life))])
        self.foreign.update(requests[i][0] for i in np.flatnonzero(got[:-1] < 0).tolist())
        return got[:-1], bytes(life)

    def _unmark(self, scratch: np.ndarray, latents: np.ndarray, which: np.ndarray, whole: np.ndarray) -> int:
        """Copy received latents, zeros if their marker is not set; returns how many of `whole` are zeros."""
        if not self._replay.layout.latent_bytes:
            return 0
        stale = scratch[:, -1] == 0
        scratch[stale] = 0
        latents.view(np.uint8).reshape(len(latents), -1)[which] = scratch[:, :-1]
        return int(np.count_nonzero(stale & whole))


def _key(kind: bytes, stream: int, chunk: int) -> bytes:
    return b"%b%016x:%d" % (kind, stream, chunk)
