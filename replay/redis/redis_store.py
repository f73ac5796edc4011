"""A replay store on a Redis server, for any number of writers and samplers."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from replay.config import SelectionConfig
from replay.counted import counted
from replay.files.checkpoint import verified, write_index
from replay.files.new_directory import new_directory
from replay.indexing.index import UNIFORM
from replay.indexing.room import most_items
from replay.layout import Batch, pack, views
from replay.redis.redis_batch import ChunkReader
from replay.redis.redis_damage import Damage
from replay.redis.redis_layout import MARKER, stored_latents
from replay.redis.redis_replay import PIECE, RedisReplay
from replay.redis.redis_rights import FORMAT
from replay.redis.redis_sampler import Sampler
from replay.redis.redis_script import StreamState, stream_bytes
from replay.step import Rows, Schema, row_count
from replay.store import Block, GapError, Store, StreamExistsError, check_latents, check_priorities

_ATTEMPTS = 10


class RedisStore(Store):
    """See `replay.store.Store`; the keys are described in redis_script.lua.

    Any number of processes may use the replay with this `prefix`, and replays with other prefixes may be on the same
    server. The first process creates it; its schema, length and chunk_length are fixed, capacities may change later.
    `capacity` counts items, `capacity_gb` (1e9 bytes) bounds the memory of the chunks; `chunk_length` 0 is computed. A
    server with less memory than that is refused; on one that fills up later the oldest chunks are evicted, and what it
    refuses is sent again for `patience` seconds. A server that was never reached is given up within seconds, with
    ValueError if it answers but cannot be used; `known`: the run has used it before, so it is waited for, and
    ShardDownError names the reason.

    Only a process that samples keeps an index. Its online queue has the sequences that appear after it opened the
    store, or all if it created the replay. The queue, the priorities, and the counts `sampled`, `sampled_online`,
    `written_back` and `stale` in stats() are of this process only; `queue` is 0 if nothing samples.
    """

    durable = True

    def __init__(
        self,
        url: str,
        schema: Schema,
        *,
        prefix: str,
        length: int,
        capacity: int | None = None,
        capacity_gb: float | None = None,
        chunk_length: int = 0,
        streams: int = 64,
        online: bool = True,
        selection: SelectionConfig = UNIFORM,
        note: Callable[[str], None] = lambda line: None,
        patience: float = 60.0,
        known: bool = False,
    ) -> None:
        bounds = {"capacity": capacity, "capacity_gb": capacity_gb, "chunk_length": chunk_length, "streams": streams}
        self._replay = RedisReplay(url, schema, prefix, bounds | {"length": length}, note, patience, known)
        self.schema, self.length, self.prefix, self.label = schema, length, prefix, self._replay.label
        self._stored = stored_latents(schema)
        self._selection, self._note = selection, note
        self._written_back = 0
        self._chunks = ChunkReader(self._replay)
        self._damage = Damage(self._replay, self._chunks, note)
        self._sampler = Sampler(self._replay, self._chunks, self._damage, online=online, selection=selection, note=note)

    @property
    def chunk_length(self) -> int:
        return self._replay.layout.chunk_length

    @property
    def max_gb(self) -> float:
        """Gigabytes (1e9 bytes) that the chunks on the server take at most."""
        return self._replay.layout.nbytes / 1e9

    def begin(self, streams: Sequence[int], writer: int) -> None:
        replies = self._replay.insist([(b"begin", stream_bytes(stream), writer) for stream in streams])
        for stream, reply in zip(streams, replies, strict=True):
            if reply < 0:
                raise StreamExistsError.at(stream, -1 - reply)

    def append_checked(self, blocks: Sequence[Block]) -> list[int]:
        calls: list[tuple] = []
        owners: list[int] = []
        for k, (stream, first, given) in enumerate(blocks):
            n = row_count(given)
            rows, latents = pack(self.schema.row_dtype, given, n), self._with_marker(given, (n,))
            most = max(1, PIECE // max(self.schema.row_dtype.itemsize, self._stored.itemsize))
            for start in range(0, n, most) if n else [0]:
                some = slice(start, min(start + most, n))
                args = (stream_bytes(stream), first + start, some.stop - some.start, rows[some], latents[some])
                calls.append((b"append", *args))
                owners.append(k)
        new = [0] * len(blocks)
        for k, (_, raw, first, *_), reply in zip(owners, calls, self._replay.insist(calls), strict=True):
            if reply < 0:
                stream = int.from_bytes(raw, "big")
                raise GapError(
                    f"Stream {stream} continues at step {-1 - reply}, got step {first}: a gap. "
                    "Send the missing steps first, or start a new stream.",
                    stream,
                )
            new[k] += reply
        return new

    def sample_into(self, out: Batch, rng: np.random.Generator, timeout: float = 60.0, online: bool = True) -> None:
        self._sampler.sample_into(out, rng, timeout, online)

    def available(self) -> tuple[int, int]:
        with self._sampler.index() as index:
            return len(index), len(index.queue)

    def room(self, streams: Sequence[int]) -> int:
        layout = self._replay.layout
        return most_items(
            len(streams), length=self.length, chunk_length=layout.chunk_length, slots=layout.slots,
            capacity=layout.capacity,
        )  # fmt: skip

    def write_back(self, keys: np.ndarray, latents: Mapping[str, np.ndarray]) -> int:
        where, checked = check_latents(self.schema, keys, latents)
        n, length = keys.shape[:2]
        parts: list[int] = []
        if checked.keys() == self.schema.latents.keys():
            packed = self._with_marker(checked, (n, length))
        else:  # field by field: the fields that are not given stay
            places = {key: self._stored.fields[key][:2] for key in checked} if self._stored.fields else {}
            parts = [number for dtype, offset in places.values() for number in (offset, dtype.itemsize)]
            packed = np.concatenate(
                [np.ascontiguousarray(value).reshape(n, length, -1).view(np.uint8) for value in checked.values()], 2
            )
        calls = [
            (b"write", stream_bytes(stream), first, length, packed[i], *parts)
            for i, (stream, first) in enumerate(where)
        ]
        written = sum(self._replay.insist(calls))
        self._written_back += written
        return written

    def set_priority(self, keys: np.ndarray, values: np.ndarray) -> int:
        where = check_priorities(keys, values)
        if not self._selection.priority:
            return 0
        values = np.asarray(values)
        with self._sampler.index() as index:
            return sum(index.prioritize(stream, first, values[i]) for i, (stream, first) in enumerate(where))

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        name = b"%016x" % stream
        for _ in range(_ATTEMPTS):
            saved = self._replay.reads.connection.call(b"HGET", f"{self.prefix}:streams", name)
            stored = StreamState.parse(saved).stored(self.chunk_length) if saved else range(0)
            stop = first_step_id + n
            have = max(0, min(stop, stored.stop) - max(first_step_id, stored.start))
            if have < n:
                state = f"is at step {stored.stop}" if saved else "is unknown"
                raise ValueError(
                    f"Steps {first_step_id} to {stop - 1} of stream {stream} are not all in replay: the stream "
                    f"{state}, {have} of {n} are stored; read newer steps."
                )
            got = self._chunks.steps(stream, first_step_id, n)
            self._damage.look_for_foreign_values()
            if got is not None:  # else they were evicted meanwhile
                rows, latents, stale, _ = got
                self._sampler.counters["stale"] += stale
                return views(rows) | views(latents)
        raise ValueError(
            f"Redis {self.label} lacks bytes of steps {first_step_id} to {stop - 1} of stream {stream}, which its "
            f"index lists: {self._damage.reason(stream, first_step_id, n)}."
        )

    def streams(self) -> dict[int, range]:
        counts, (fields,) = self._replay.counted(b"load")
        assert isinstance(fields, list)
        return {
            int(name, 16): StreamState.parse(saved).stored(counts.chunk_length)
            for name, saved in zip(fields[::2], fields[1::2], strict=True)
        }

    def items(self) -> np.ndarray:
        """Keys `[items, 2]` of the start steps of all items, oldest first."""
        with self._sampler.index() as index:
            return index.items()

    def __len__(self) -> int:
        return self._replay.counted(b"sync", 0, 0)[0].items

    def ready(self) -> int:
        self._replay.require_writable()
        return len(self)

    def stats(self) -> dict[str, float]:
        """Counts of the replay and of this process; `gb` is the memory of the chunks in 1e9 bytes."""
        queue = self._sampler.queued()
        counts, _ = self._replay.counted(b"sync", 0, 0)
        return {
            "items": counts.items,
            "steps": counts.steps,
            "streams": counts.streams,
            "chunks": counts.chunks,
            "queue": queue,
            "gb": counts.chunks * self._replay.layout.slot_bytes / 1e9,
            "max_gb": counts.slots * self._replay.layout.slot_bytes / 1e9,
            "evicted": counts.evicted,
            "age": counts.items / 2,
            "inserted": counts.inserted,
            "written_back": self._written_back,
            **self._sampler.counters,
        }

    def checkpoint(self, directory: Path) -> None:
        """Write only a reference to the replay: the data stay on the server."""
        counts, _ = self._replay.counted(b"sync", 0, 0)
        mark = {"format": FORMAT, "id": counts.id, "prefix": self.prefix, "server": self.label}
        counters = {"created": counts.created, "inserted": counts.inserted}
        with new_directory(Path(directory)) as part:
            write_index(part, {**mark, **self._identity(), "counters": counters})

    def verify(self, directory: Path) -> None:
        self._lost_since(Path(directory))

    def restore(self, directory: Path) -> None:
        """Check that the server still has the replay of the checkpoint, and continue with its current content."""
        if (lost := self._lost_since(Path(directory))) > 0:
            self._note(f"Redis {self.label} has lost {counted(lost, 'step')} since the checkpoint {directory}.")

    def _lost_since(self, directory: Path) -> int:
        """How many steps were lost since the checkpoint in `directory`; ValueError: it is of another replay."""
        mark = verified(directory, FORMAT)
        for key, here in self._identity().items():
            if mark[key] != here:
                raise ValueError(f"Replay checkpoint {directory} has other {key}: {mark[key]}, this store has {here}.")
        counts, _ = self._replay.counted(b"sync", 0, 0)
        if counts.id != mark["id"]:
            raise ValueError(
                f"Redis {self.label} has another replay under {self.prefix} ({counts.id}) than the one that "
                f"{directory} belongs to ({mark['id']}): it was cleared, or the server restarted without its data."
            )
        return int(mark["counters"]["inserted"] - counts.inserted)

    def clear(self) -> None:
        with self._sampler.lock:
            self._replay.counted(b"sync", 0, 0)
            self._replay.writes.many([(b"clear", secrets.token_hex(8))])
            self._sampler.forget_counts()
            self._written_back = 0
            self._replay.made = True

    def close(self) -> None:
        self._replay.close()

    def _identity(self) -> dict[str, object]:
        settings = {"length": self.length, "chunk_length": self.chunk_length}
        return {"schema": self.schema.to_json(), "settings": settings}

    def _with_marker(self, latents: Mapping[str, np.ndarray], lead: tuple[int, ...]) -> np.ndarray:
        """Latents `[*lead, ...]` packed as stored, with the marker set."""
        packed = np.zeros(lead, self._stored)
        for key in self.schema.latents:
            packed[key] = latents[key]
        if self.schema.latents:
            packed[MARKER] = 1
        return packed
