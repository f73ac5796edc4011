"""Reads a replay on a Redis server with commands that change nothing: a read-only user is enough."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from replay.byte_size import byte_size
from replay.counted import counted
from replay.layout import views
from replay.reading.episodes import MissingStepsError
from replay.reading.reader import Finding
from replay.redis.redis_connection import Connection
from replay.redis.redis_layout import MARKER, Layout, stored_latents
from replay.redis.redis_refusal import ReplyError
from replay.redis.redis_rights import (
    COUNTED,
    foreign_types,
    foreign_values,
    lost_log,
    parse_meta,
    require_readable,
    types_of,
)
from replay.redis.redis_script import StreamState
from replay.redis.redis_server import parse_info
from replay.redis.redis_session import Arg, Reply
from replay.redis_url import parse
from replay.step import Rows, Schema

PATIENCE = 5.0  # seconds for a server that does not answer
LOST_LOG = "no run can continue with this replay; export its steps, and import them under another prefix"
_MEASURED = 16  # chunks whose memory is measured
_PIPELINED = 1000
_ATTEMPTS = 20


def open_replay(url: str, prefix: str = "") -> "RedisReader":
    """The replay with this prefix, or the only one if it is empty; ValueError: there is none, or more than one.

    ShardDownError: the server does not answer.
    """
    address = parse(url)
    connection = Connection(address, patience=PATIENCE)
    try:
        require_readable(connection.pipeline, address, prefix)
        known = [prefix]
        if not prefix:
            known = _replays(connection)
            if not known:
                whose = f" that user {address.username} may read" if address.username else ""
                raise ValueError(
                    f"Redis {connection.label} has no replay in this database{whose}; "
                    "select another with /1, /2, ... in the URL."
                )
            if len(known) > 1:
                lines = "".join(f"\n  {name}: {_size(connection, name)}" for name in known)
                raise ValueError(f"Redis {connection.label} has {len(known)} replays; choose one with --prefix:{lines}")
            require_readable(connection.pipeline, address, known[0])
        meta = parse_meta(connection.call("GET", f"{known[0]}:meta"))
        if meta is None:
            there = ", ".join(_replays(connection)) or "no others"
            raise ValueError(f"Redis {connection.label} has no replay under {prefix}; it has {there}.")
        return RedisReader(connection, known[0], meta)
    except BaseException:
        connection.close()
        raise


class RedisReader:
    """See `replay.reading.reader.Reader`. A run may use the replay meanwhile: streams() returns the current state."""

    kind = "replay on Redis"

    def __init__(self, connection: Connection, prefix: str, meta: dict[str, Any]) -> None:
        self.connection, self.prefix, self.where = connection, prefix, f"{connection.label} {prefix}"
        self.schema, self.length = Schema.from_json(meta["schema"]), int(meta["length"])
        self.stale = -1
        self._streams: dict[int, range] = {}
        self._lost: set[str] = set()  # keys of chunks that are missing or incomplete
        self._foreign: dict[str, str] = {}  # keys of chunks and latents with another program's value, and its type
        self._load()
        sizes = ("length", "chunk_length", "row_bytes", "latent_bytes", "capacity", "slots")
        self._layout = Layout(**{key: int(self._counts[key]) for key in sizes})

    def streams(self) -> dict[int, range]:
        self._load()
        return dict(self._streams)

    def read(self, stream: int, first_step_id: int, n: int) -> Rows:
        stop = first_step_id + n
        for _ in range(_ATTEMPTS):
            stored = self._streams.get(stream, range(0))
            if n < 1 or not stored.start <= first_step_id < stop <= stored.stop:
                raise ValueError(
                    f"Steps {first_step_id} to {stop - 1} of stream {stream} are not all in {self.where}: it has "
                    f"{stored.start} to {stored.stop - 1}."
                )
            life = self._life
            rows, latents = np.empty(n, self.schema.row_dtype), np.zeros(n, stored_latents(self.schema))
            ranges = self._ranges("l", stream, first_step_id, latents)
            count = len(ranges)
            ranges += self._ranges("c", stream, first_step_id, rows)
            got = self.connection.get_ranges(ranges)
            self._find_foreign(str(ranges[i][0]) for i in np.flatnonzero(got < 0).tolist())
            self._load()
            whole = all(
                len(out) == size for (_, _, out), size in zip(ranges[count:], got[count:].tolist(), strict=True)
            )
            if whole and self._life == life:
                if self.schema.latents:
                    latents[latents[MARKER] == 0] = 0
                stored_keys = {key: latents[key] for key in self.schema.latents}
                return views(rows) | stored_keys
            if not whole and first_step_id >= self._streams.get(stream, range(0)).start:
                raise self._missing(stream, first_step_id, stop)
        raise TimeoutError(f"{self.where} changed faster than it could be read, {_ATTEMPTS} times in a row.")

    def facts(self) -> dict[str, float]:
        self._load()
        counts = {key: int(self._counts[key]) for key in COUNTED}
        facts: dict[str, float] = {
            "items": counts["created"] - counts["evicted"], "chunks": counts["chunks"],
            "chunk_length": counts["chunk_length"], "gb": self._measure(counts["chunks"]),
            "max_gb": counts["slots"] * self._layout.slot_bytes / 1e9, "capacity": counts["capacity"],
            "inserted": counts["inserted"], "evicted": counts["evicted"],
        }  # fmt: skip
        return facts | ({"stale": self.stale} if self.stale >= 0 else {})

    def health(self, verify: bool) -> Iterator[Finding]:
        reply = self.connection.call("INFO")
        assert isinstance(reply, bytes)
        yield from _server(parse_info(reply))
        yield from (Finding(False, f"{key} is missing: {LOST_LOG}") for key in self._lost_log())
        if verify:
            yield from self._verify()
            yield from (Finding(False, text) for text in self._foreign_values())
        else:
            yield from (Finding(False, text) for text in self.losses())

    def losses(self) -> list[str]:
        lost = self._lost - self._foreign.keys()
        missing = [f"missing: {counted(len(lost), 'chunk')}, such as {min(lost)}"] if lost else []
        return missing + self._foreign_values()

    def refresh(self) -> None:
        self._load()

    def close(self) -> None:
        self.connection.close()

    def _verify(self) -> Iterator[Finding]:
        """Check that every chunk in the index is there in full size."""
        self._load()
        ids = [(stream, chunk) for stream, steps in self._streams.items() for chunk in self._numbers(steps)]
        rows, latents = (self._sizes(kind, ids) for kind in ("c", "l"))
        before = dict(self._streams)
        self._load()  # chunks evicted meanwhile are not missing
        there = {id for id in ids if id[1] in self._numbers(self._streams.get(id[0], range(0)))}
        size, latent_size = (self._layout.chunk_length * n for n in (self._layout.row_bytes, self._layout.latent_bytes))
        wrong = {id: got for id, got in zip(ids, rows, strict=True) if got != size and id in there}
        if lost := [id for id, got in wrong.items() if not isinstance(got, ReplyError)]:  # else it is foreign
            yield Finding(False, f"missing chunks: {len(lost)} of {len(ids)}, such as {self._key('c', *lost[0])}")
        else:
            yield Finding(True, f"chunks of full size: {len(ids) - len(wrong):,} of {len(ids):,}")
        stale = [id for id, got in zip(ids, latents, strict=True) if got != latent_size and id in there]
        length = self._layout.chunk_length
        self.stale = sum(
            len(range(max(steps.start, chunk * length), min(steps.stop, (chunk + 1) * length)))
            for stream, chunk in stale for steps in [before[stream]]
        )  # fmt: skip
        if self.stale:
            yield Finding(None, f"stale latents: {self.stale:,}, zeros until the learner refreshes them")

    def _lost_log(self) -> list[str]:
        def ask(commands: Sequence[Sequence[Arg]]) -> list[Reply | ReplyError]:
            replies = self.connection.pipeline(commands)
            pairs = zip(commands, replies, strict=True)
            self._find_foreign(str(command[1]) for command, reply in pairs if isinstance(reply, ReplyError))
            return replies

        return lost_log(ask, self.prefix, int(self._counts["head"]), int(self._counts["tail"]))

    def _foreign_values(self) -> list[str]:
        return [foreign_values(self._foreign)] if self._foreign else []

    def _find_foreign(self, keys: Iterable[str]) -> None:
        """Remember which of these keys hold something other than a string."""
        self._foreign |= foreign_types(self.connection.pipeline, set(keys) - self._foreign.keys())

    def _load(self) -> None:
        """Read counts and streams atomically; ValueError: they are gone, or hold another program's values."""
        keys = [f"{self.prefix}:{name}" for name in ("life", "counts", "streams")]
        replies = self.connection.pipeline(
            [("MULTI",), ("GET", keys[0]), ("HGETALL", keys[1]), ("HGETALL", keys[2]), ("EXEC",)]
        )
        exec_reply = replies[-1]
        if isinstance(exec_reply, ReplyError):
            raise exec_reply
        assert isinstance(exec_reply, list)
        if foreign := [key for key, reply in zip(keys, exec_reply, strict=True) if isinstance(reply, ReplyError)]:
            raise ValueError(f"{self.where}: {foreign_values(types_of(self.connection.pipeline, foreign))}.")
        life, counts, streams = exec_reply
        if not counts:
            raise ValueError(f"{self.where} is gone: it was deleted.")
        self._life = life
        self._counts = {key.decode(): value for key, value in _pairs(counts)}
        length = int(self._counts["chunk_length"])
        self._streams = {int(name, 16): StreamState.parse(saved).stored(length) for name, saved in _pairs(streams)}

    def _ranges(self, kind: str, stream: int, first: int, out: np.ndarray) -> list[tuple[str, int, memoryview]]:
        """Requests that fill `out [n]` with the rows, or latents, of a stream's steps from `first` on."""
        raw, width, length = out.view(np.uint8).data, out.dtype.itemsize, self._layout.chunk_length
        ranges, at = [], 0
        while width and at < len(out):
            chunk, place = divmod(first + at, length)
            count = min(length - place, len(out) - at)
            ranges.append((self._key(kind, stream, chunk), place * width, raw[at * width : (at + count) * width]))
            at += count
        return ranges

    def _missing(self, stream: int, start: int, stop: int) -> MissingStepsError:
        """The error that names the steps of the first missing chunk."""
        ids = [(stream, chunk) for chunk in self._numbers(range(start, stop))]
        size, length = self._layout.chunk_length * self._layout.row_bytes, self._layout.chunk_length
        lost = next(
            (chunk for (_, chunk), got in zip(ids, self._sizes("c", ids), strict=True) if got != size), ids[0][1]
        )
        first, last = max(start, lost * length), (lost + 1) * length
        self._lost.add(self._key("c", stream, lost))
        return MissingStepsError(
            f"Steps {first} to {last - 1} of stream {stream} in {self.where} are lost.", first, last
        )

    def _numbers(self, steps: range) -> range:
        length = self._layout.chunk_length
        return range(steps.start // length, -(-steps.stop // length)) if steps else range(0)

    def _key(self, kind: str, stream: int, chunk: int) -> str:
        return f"{self.prefix}:{kind}:{stream:016x}:{chunk}"

    def _sizes(self, kind: str, ids: Sequence[tuple[int, int]]) -> list[Reply | ReplyError]:
        out: list[Reply | ReplyError] = []
        for i in range(0, len(ids), _PIPELINED):
            out += self.connection.pipeline([("STRLEN", self._key(kind, *id)) for id in ids[i : i + _PIPELINED]])
        self._find_foreign(
            self._key(kind, *id) for id, reply in zip(ids, out, strict=True) if isinstance(reply, ReplyError)
        )
        return out

    def _measure(self, chunks: int) -> float:
        """Gigabytes (1e9 bytes) of all chunks, estimated from some of them."""
        ids = [(stream, chunk) for stream, steps in self._streams.items() for chunk in self._numbers(steps)]
        some = ids[:: max(1, len(ids) // _MEASURED)][:_MEASURED]
        asked = [("MEMORY", "USAGE", self._key(kind, *id)) for id in some for kind in ("c", "l")]
        got = [reply for reply in self.connection.pipeline(asked) if isinstance(reply, int)] if asked else []
        return chunks * (sum(got) / len(some) if got else self._layout.slot_bytes if chunks else 0) / 1e9


def _server(info: dict[str, str]) -> Iterator[Finding]:
    yield Finding(True, f"Redis {info.get('redis_version', '?')}, maxmemory-policy {info.get('maxmemory_policy', '?')}")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most:
        yield Finding(used < 0.95 * most, f"memory: {byte_size(used)} of {byte_size(most)} used")
    else:
        yield Finding(None, f"memory: {byte_size(used)} used, maxmemory is not set; set it below the machine's memory")
    if info.get("aof_enabled") != "1":
        yield Finding(
            None, "AOF is off: the replay is lost if the server stops; set appendonly yes, appendfsync everysec"
        )
    else:
        bad = [
            f"{key} {info[key]}"
            for key in ("aof_last_write_status", "aof_last_bgrewrite_status")
            if info.get(key) == "err"
        ]
        yield Finding(not bad, f"AOF is {', '.join(bad) or 'on and written'}")
    if int(info.get("evicted_keys", 0)):
        yield Finding(False, f"the server has evicted {info['evicted_keys']} keys: steps may be lost")


def _replays(connection: Connection) -> list[str]:
    """Prefixes of the replays in the database, damaged ones too."""
    found: set[str] = set()
    for last in (":meta", ":counts"):
        cursor = b"0"
        while True:
            reply = connection.call("SCAN", cursor, "MATCH", f"*{last}", "COUNT", 1000)
            assert isinstance(reply, list)
            cursor, keys = reply
            found.update(key.decode(errors="replace").removesuffix(last) for key in keys)
            if cursor == b"0":
                break
    return sorted(prefix for prefix in found if _is_replay(connection, prefix))


def _is_replay(connection: Connection, prefix: str) -> bool:
    """Whether the keys with this prefix are a replay, perhaps a damaged one, and not another program's."""
    meta, counts = connection.pipeline([("GET", f"{prefix}:meta"), ("HMGET", f"{prefix}:counts", "created", "slots")])
    for reply in (meta, counts):
        if isinstance(reply, ReplyError) and reply.code != "WRONGTYPE" and not reply.about_keys:
            raise reply
    return parse_meta(meta) is not None or isinstance(counts, list) and None not in counts


def _size(connection: Connection, prefix: str) -> str:
    meta, counts = connection.pipeline(
        [("GET", f"{prefix}:meta"), ("HMGET", f"{prefix}:counts", "steps", "created", "evicted")]
    )
    known = counts if isinstance(counts, list) and parse_meta(meta) else []
    if not known or not all(value and value.isdigit() for value in known):
        return "damaged"
    steps, created, evicted = map(int, known)
    return f"{counted(steps, 'step')}, {counted(created - evicted, 'sequence')}"


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
