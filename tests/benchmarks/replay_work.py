"""What the replay benchmark stores: rows whose bytes tell where they belong, and the check of every batch.

A row's content follows from its stream and step: a row of a pool of random ones, with stream and step stamped into the
first bytes of each field that has room. Latents carry the number of the write-back that made them as well.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from replay.keys import sequences, stream_id
from replay.step import Field, Rows, Schema
from replay.store import Block, Sample

_STAMP = 16  # bytes of a step's key
_GENERATION = 40  # bit of the step id from which on the number of the write-back stands
EPISODE = 500


def schema(step_bytes: int = 0) -> Schema:
    """A walker's pixels, vector, action and the model's latents, 16.5 kB; or a vector and flags of so many bytes."""
    flags = {key: Field(dtype=np.dtype(np.bool_)) for key in ("is_first", "is_last", "is_terminal")}
    if step_bytes:
        left = (step_bytes - len(flags)) // 4
        return Schema(fields={"vector": Field(dtype=np.dtype(np.float32), shape=(left,)), **flags}, latents={})
    fields = {
        "image": Field(dtype=np.dtype(np.uint8), shape=(64, 64, 3)),
        "vector": Field(dtype=np.dtype(np.float32), shape=(24,)),
        "action": Field(dtype=np.dtype(np.float32), shape=(6,)),
        "reward": Field(dtype=np.dtype(np.float32)),
    }
    latents = {
        "deter": Field(dtype=np.dtype(np.float16), shape=(2048,)),
        "stoch": Field(dtype=np.dtype(np.int8), shape=(32,)),
    }
    return Schema(fields=fields | flags, latents=latents)


def payload(schema: Schema) -> int:
    """Bytes of one step, nothing between the fields."""
    return sum(field.nbytes for field in schema.all.values())


class WrongBytesError(Exception):
    """A store returned other bytes than it was given."""


class Content:
    """The streams one store is given: makes their rows in order, and knows what every batch of them must hold."""

    def __init__(self, schema: Schema, streams: int = 16, actor: int = 1, pool: int = 1021) -> None:
        self.schema = schema
        self.streams = [stream_id(actor, 1, slot) for slot in range(streams)]
        self.next = 0  # step that all streams go on with
        rng = np.random.default_rng(0)
        self._pool = {key: _random(field, pool, rng) for key, field in schema.all.items()}
        self._size = pool
        self._generation = 0
        self._made = np.zeros((streams, 1 << 12), np.int32)  # the write-back each step's latents come from

    def rows(self, keys: np.ndarray) -> Rows:
        """What the store is given for the steps with keys `[... 2]`, latents included."""
        return self._fields(keys) | self._latents(keys, np.zeros(keys.shape[:-1], np.int64))

    def take(self, n: int) -> np.ndarray:
        """Keys `[n, streams, 2]` of the next n steps of all streams."""
        keys = np.empty((n, len(self.streams), 2), np.int64)
        keys[..., 0], keys[..., 1] = self.streams, np.arange(self.next, self.next + n)[:, None]
        self.next += n
        if self.next > self._made.shape[1]:
            self._made = np.pad(self._made, ((0, 0), (0, self.next)))
        return keys

    def vectors(self, n: int) -> list[Rows]:
        """n steps of all streams at once, `{key: [streams ...]}` each."""
        rows = self.rows(self.take(n))
        return [{key: value[i] for key, value in rows.items()} for i in range(n)]

    def blocks(self, n: int, size: int) -> Iterator[list[Block]]:
        """The next n steps of all streams, `size` of one stream at a time."""
        for first in range(0, n, size):
            keys = np.ascontiguousarray(self.take(min(size, n - first)).swapaxes(0, 1))
            rows = self.rows(keys)
            yield [
                (stream, int(keys[i, 0, 1]), {key: value[i] for key, value in rows.items()})
                for i, stream in enumerate(self.streams)
            ]

    def refreshed(self, keys: np.ndarray) -> Rows:
        """New latents for keys `[n T 2]`; from now on the store must return them."""
        self._generation += 1
        self._made[self._slots(keys), keys[..., 1]] = self._generation
        return self._latents(keys, np.full(keys.shape[:-1], self._generation))

    def check(self, sample: Sample) -> None:
        """WrongBytesError: a sequence is not whole, or a byte of it is not what was stored."""
        batch, keys = sample
        try:
            sequences(keys)
        except ValueError as error:
            raise WrongBytesError(str(error)) from error
        self._slots(keys)
        for i, of_one in enumerate(keys):
            expected = self._fields(of_one)
            expected["is_first"][0] = True
            expected["is_last"][:-1] |= expected["is_first"][1:]
            self._compare(expected, {key: value[i] for key, value in batch.items()}, of_one)
        first = np.ascontiguousarray(keys[:, 0])
        made = self._made[self._slots(first), first[:, 1]]
        self._compare(self._latents(first, made), batch, first)

    def _compare(self, expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], keys: np.ndarray) -> None:
        for key, value in expected.items():
            same = (_bytes(value) == _bytes(got[key])).all(1)
            if not same.all():
                stream, step = keys[int(np.argmin(same))].tolist()
                raise WrongBytesError(f"Key {key!r} of stream {stream}, step {step}: other bytes than were stored.")

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        slots = keys[..., 0] - self.streams[0]
        if not ((slots >= 0) & (slots < len(self.streams)) & (keys[..., 1] < self.next)).all():
            raise WrongBytesError(f"Keys of steps that were never written: {keys.reshape(-1, 2).max(0).tolist()}.")
        return slots

    def _fields(self, keys: np.ndarray) -> Rows:
        rows = self._stamped(self.schema.fields, keys, keys)
        step = keys[..., 1] % EPISODE
        return rows | {"is_first": step == 0, "is_last": step == EPISODE - 1, "is_terminal": step == EPISODE - 1}

    def _latents(self, keys: np.ndarray, made: np.ndarray) -> Rows:
        stamp = keys.copy()
        stamp[..., 1] += made.astype(np.int64) << _GENERATION
        return self._stamped(self.schema.latents, keys, stamp)

    def _stamped(self, fields: Mapping[str, Field], keys: np.ndarray, stamp: np.ndarray) -> Rows:
        place = (keys[..., 0] * 389 + keys[..., 1]) % self._size
        mark = np.ascontiguousarray(stamp)[..., None, :].view(np.uint8).reshape(*stamp.shape[:-1], _STAMP)
        rows = {key: self._pool[key][place] for key in fields}
        for key, value in rows.items():
            if fields[key].nbytes >= _STAMP:
                value.reshape(*keys.shape[:-1], -1).view(np.uint8)[..., :_STAMP] = mark
        return rows


def _random(field: Field, n: int, rng: np.random.Generator) -> np.ndarray:
    if field.dtype.kind == "f":
        return np.tanh(rng.standard_normal((n, *field.shape), np.float32)).astype(field.dtype)
    return rng.integers(0, 2 if field.dtype.kind == "b" else 127, (n, *field.shape)).astype(field.dtype)


def _bytes(rows: np.ndarray) -> np.ndarray:
    """Rows `[n ...]` as bytes `[n ...]`."""
    flat: np.ndarray = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return flat
