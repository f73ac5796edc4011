"""The comparison on Redis: redis-py with hiredis, GETRANGE of the same ranges of chunks as long as ours."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import redis

from replay.layout import Batch, new_batch, pack, unpack
from replay.store import Block, Sample
from tests.benchmarks.replay_systems import BATCH, LENGTH, Job, System
from tests.benchmarks.replay_work import Content

_COMMANDS = 32  # of a pipeline: 16 blocks and their latents
Chunks = dict[int, deque[int]]  # the chunks of each stream, oldest first


class RedisPy:
    """Packed rows in chunks of fixed stride, latents in chunks of their own, oldest chunks deleted.

    Which steps there are it knows for nothing: chunks of all streams are of one age, and nobody else writes.
    """

    def __init__(self, url: str, content: Content, chunks: Chunks, steps: int, chunk_length: int) -> None:
        self.schema, self.chunk_length = content.schema, chunk_length
        self._client: Any = redis.Redis.from_url(url)
        self._row, self._latent = self.schema.row_dtype, self.schema.latent_dtype
        self._content, self._chunks = content, chunks
        self._most = -(-steps // len(content.streams) // chunk_length) + 1

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        """Pipelines of SETRANGE; a new chunk takes its full length at once, so that it never has to move."""
        pipeline = self._client.pipeline(transaction=False)
        for stream, first, rows in blocks:
            n = len(rows["is_first"])
            packed, latents = pack(self._row, rows, n), pack(self._latent, rows, n)
            for chunk, place, row, count in self._spans(first, n):
                self._open(pipeline, stream, chunk)
                pipeline.setrange(_rows(stream, chunk), place * self._row.itemsize, packed[row : row + count].tobytes())
                pipeline.setrange(
                    _latents(stream, chunk), place * self._latent.itemsize, latents[row : row + count].tobytes()
                )
            if len(pipeline) >= _COMMANDS:
                pipeline.execute()
        pipeline.execute()
        return [len(rows["is_first"]) for _, _, rows in blocks]

    def loop(self, n: int, length: int, rng: np.random.Generator) -> Sample:
        """A GETRANGE at a time."""
        batch, reads = self._plan(n, length, rng)
        for key, start, stop, out in reads:
            out[:] = np.frombuffer(self._client.getrange(key, start, stop), np.uint8)
        return unpack(batch)

    def pipeline(self, n: int, length: int, rng: np.random.Generator) -> Sample:
        """All GETRANGEs of a batch in one round trip."""
        batch, reads = self._plan(n, length, rng)
        pipeline = self._client.pipeline(transaction=False)
        for key, start, stop, _ in reads:
            pipeline.getrange(key, start, stop)
        for (_, _, _, out), reply in zip(reads, pipeline.execute(), strict=True):
            out[:] = np.frombuffer(reply, np.uint8)
        return unpack(batch)

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        """One pipeline of SETRANGE."""
        pipeline = self._client.pipeline(transaction=False)
        for i, (stream, first) in enumerate(keys[:, 0].tolist()):
            packed = pack(self._latent, {key: value[i] for key, value in latents.items()}, keys.shape[1])
            for chunk, place, row, count in self._spans(first, keys.shape[1]):
                start = place * self._latent.itemsize
                pipeline.setrange(_latents(stream, chunk), start, packed[row : row + count].tobytes())
        pipeline.execute()
        return keys.shape[0] * keys.shape[1]

    def close(self) -> None:
        self._client.close()

    def _open(self, pipeline: Any, stream: int, chunk: int) -> None:
        chunks = self._chunks.setdefault(stream, deque())
        if chunks and chunks[-1] == chunk:
            return
        chunks.append(chunk)
        pipeline.setrange(_rows(stream, chunk), self.chunk_length * self._row.itemsize - 1, b"\0")
        pipeline.setrange(_latents(stream, chunk), self.chunk_length * self._latent.itemsize - 1, b"\0")
        if len(chunks) > self._most:
            old = chunks.popleft()
            pipeline.delete(_rows(stream, old), _latents(stream, old))

    def _spans(self, first: int, n: int) -> list[tuple[int, int, int, int]]:
        """(chunk, place in it, row, count) of n steps from `first`."""
        spans, row = [], 0
        while row < n:
            chunk, place = divmod(first + row, self.chunk_length)
            count = min(self.chunk_length - place, n - row)
            spans.append((chunk, place, row, count))
            row += count
        return spans

    def _plan(
        self, n: int, length: int, rng: np.random.Generator
    ) -> tuple[Batch, list[tuple[str, int, int, np.ndarray]]]:
        """A batch with its keys, and what to read into it: (key, first byte, last byte, bytes of the batch)."""
        batch = new_batch(self.schema, n, length)
        rows = batch.rows.view(np.uint8).reshape(n, length * self._row.itemsize)
        latents = batch.latents.view(np.uint8).reshape(n, self._latent.itemsize)
        begin = next(iter(self._chunks.values()))[0] * self.chunk_length
        slots = rng.integers(len(self._content.streams), size=n).tolist()
        steps = rng.integers(begin, self._content.next - length + 1, n).tolist()
        reads = []
        for i, (slot, first) in enumerate(zip(slots, steps, strict=True)):
            stream = self._content.streams[slot]
            batch.keys[i, :, 0] = stream
            batch.keys[i, :, 1] = np.arange(first, first + length)
            for chunk, place, row, count in self._spans(first, length):
                stride = self._row.itemsize
                out = rows[i, row * stride : (row + count) * stride]
                reads.append((_rows(stream, chunk), place * stride, (place + count) * stride - 1, out))
            chunk, place = divmod(first, self.chunk_length)
            stride = self._latent.itemsize
            reads.append((_latents(stream, chunk), place * stride, (place + 1) * stride - 1, latents[i]))
        return batch, reads


class RedisPySystem(System):
    """Its loop counts, as in the facts that the project is measured by; its pipeline is told beside it."""

    def sample(self) -> Sample:
        sample: Sample = self.store.loop(BATCH, LENGTH, self.rng)
        return sample

    def samplers(self) -> dict[str, Callable[[], Job]]:
        def job(sample: Callable[..., Sample]) -> Callable[[], Job]:
            return lambda: Job(lambda: sample(BATCH, LENGTH, self.rng), 1, self.content.check)

        return {"loop": job(self.store.loop), "pipeline": job(self.store.pipeline)}


def _rows(stream: int, chunk: int) -> str:
    return f"redis-py:c:{stream}:{chunk}"


def _latents(stream: int, chunk: int) -> str:
    return f"redis-py:l:{stream}:{chunk}"
