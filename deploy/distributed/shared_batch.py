"""A batch in memory that a learner shares with the replay shards of its machine, so that Ray need not carry it.

The learner makes an anonymous file and tells a shard its own process id, the descriptor and a secret token; the shard
opens it through /proc, finds the token and fills the batch in place. Where it cannot (another machine, another
container), the batch comes through Ray's object store.
"""

import mmap
import os
import secrets
import stat
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from replay.layout import Batch
from replay.step import Schema

_TOKEN = 64  # bytes in front of the batch, so that it begins on a cache line
_KEPT = 16  # mappings a shard keeps; a client has two for each size of batch


class Place(NamedTuple):
    """Where another process finds the memory."""

    process: int
    descriptor: int
    nbytes: int
    token: bytes


class SharedBatch:
    """Memory for n sequences of `length` steps; `batch` is this process's view, `place` what to tell a shard."""

    def __init__(self, schema: Schema, n: int, length: int) -> None:
        nbytes = _nbytes(schema, n, length)
        self._descriptor = os.memfd_create("nexus-batch")  # gone with the last process that has it
        os.ftruncate(self._descriptor, nbytes)
        memory = mmap.mmap(self._descriptor, nbytes)
        token = secrets.token_bytes(_TOKEN)
        memory[:_TOKEN] = token
        self.batch = _carve(memory, schema, n, length)
        self.place = Place(os.getpid(), self._descriptor, nbytes, token)

    def __del__(self) -> None:
        os.close(self._descriptor)


class SharedBatches:
    """The shard's side: the memory of its clients, mapped once each."""

    def __init__(self) -> None:
        self._mapped: OrderedDict[Place, mmap.mmap] = OrderedDict()

    def find(self, place: Place, schema: Schema, n: int, length: int) -> Batch | None:
        """The batch to fill; None: that memory cannot be reached from here."""
        memory = self._mapped.get(place) or self._map(place)
        return _carve(memory, schema, n, length) if memory and place.nbytes == _nbytes(schema, n, length) else None

    def _map(self, place: Place) -> mmap.mmap | None:
        path = f"/proc/{place.process}/fd/{place.descriptor}"
        try:
            there = os.stat(path)
            if not stat.S_ISREG(there.st_mode) or there.st_size != place.nbytes:  # opening others may have effects
                return None
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if os.fstat(descriptor).st_size != place.nbytes:
                return None
            memory = mmap.mmap(descriptor, place.nbytes)
        finally:
            os.close(descriptor)
        if not secrets.compare_digest(memory[:_TOKEN], place.token):  # another container's process of that number
            return None
        self._mapped[place] = memory
        while len(self._mapped) > _KEPT:
            self._mapped.popitem(last=False)
        return memory


def _sizes(schema: Schema, n: int, length: int) -> tuple[int, int, int]:
    """Bytes of keys, rows and latents, in this order: each part is aligned to 8."""
    return 16 * n * length, n * length * schema.row_dtype.itemsize, n * schema.latent_dtype.itemsize


def _nbytes(schema: Schema, n: int, length: int) -> int:
    return _TOKEN + sum(_sizes(schema, n, length))


def _carve(memory: mmap.mmap, schema: Schema, n: int, length: int) -> Batch:
    keys, rows, _ = _sizes(schema, n, length)
    return Batch(
        np.frombuffer(memory, schema.row_dtype, n * length, _TOKEN + keys).reshape(n, length),
        np.frombuffer(memory, schema.latent_dtype, n, _TOKEN + keys + rows)
        if schema.latents
        else np.empty(n, schema.latent_dtype),
        np.frombuffer(memory, np.int64, 2 * n * length, _TOKEN).reshape(n, length, 2),
    )
