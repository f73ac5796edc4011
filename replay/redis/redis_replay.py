"""One replay on one Redis server: found or created, kept within its bounds, called with retries."""

import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from replay.redis.redis_connection import Connection
from replay.redis.redis_layout import Layout, plan
from replay.redis.redis_refusal import OutOfMemoryReply, ReplyError
from replay.redis.redis_rights import FORMAT, PROBE, parse_meta, pattern, writer_check
from replay.redis.redis_script import Call, Counts, MissingReplayError, Script
from replay.redis.redis_server import parse_info
from replay.redis.redis_session import Arg, Reply
from replay.redis_url import parse
from replay.step import Schema
from replay.store import ShardDownError

PIECE = 4 << 20  # bytes of rows, and of latents, in one append: the server is blocked meanwhile
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 1.0
_QUIET = 10.0  # seconds in which a second connection does not repeat the first one's message


class RedisReplay:
    """The replay that goes by `prefix`, for any number of processes; see replay/redis/redis_store.py for the `bounds`.

    `writes` and `reads` are separate connections, so that a writer does not wait for a batch in flight.
    """

    def __init__(
        self,
        url: str,
        schema: Schema,
        prefix: str,
        bounds: dict[str, Any],
        note: Callable[[str], None],
        patience: float,
        known: bool = False,
    ) -> None:
        address = parse(url)
        if not prefix:
            raise ValueError("A replay on Redis needs a prefix for its keys; set one, such as the run's name.")
        self.schema, self.prefix, self.label = schema, prefix, address.label
        self._bounds, self._note, self._patience = bounds, note, patience
        once, layout = Once(note), plan(schema, **bounds)
        largest = max(PIECE, layout.chunk_length * max(layout.row_bytes, layout.latent_bytes))
        check = writer_check(address, prefix, largest)
        self._connections = [
            Connection(address, patience=patience, known=known, check=check, note=once.voice(i)) for i in range(2)
        ]
        self.writes, self.reads = (Script(connection, prefix) for connection in self._connections)
        try:
            self.layout, self.found, self.made = self._open()
            self.reads.connection.known = True  # it connects on the first read
        except BaseException as error:
            self.close()
            if known and isinstance(error, ValueError):
                raise ShardDownError(str(error)) from error
            raise
        self._said_slots = self.layout.slots + 1.0

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def counted(self, *args: Arg) -> tuple[Counts, list[Reply]]:
        """The counts in the reply to one call, and what follows them; a lost replay is created again."""
        while True:
            try:
                return self.writes.counted(*args)
            except MissingReplayError:
                self.begin_anew()

    def insist(self, calls: Sequence[Call]) -> list[int]:
        """Replies to calls that change the replay, each of which may be sent twice.

        If the server is full, the oldest chunks are evicted, the bound is lowered for good, and refused calls are sent
        again for `patience` seconds (ShardDownError).
        """
        done: list[int | None] = [None] * len(calls)
        start, delay, deadline = 0, _FIRST_DELAY, time.monotonic() + self._patience
        while start < len(calls):
            try:
                replies = self.writes.many(calls[start:])
            except MissingReplayError:
                self.begin_anew()
                continue
            refused = None
            for k, reply in enumerate(replies, start):
                if isinstance(reply, ReplyError):
                    refused = refused or (k, reply)
                else:  # an append that was sent again finds its own steps
                    assert isinstance(reply, int), reply
                    done[k] = max(reply, done[k] or reply)
            if refused is None:
                break
            start, error = refused
            if not isinstance(error, OutOfMemoryReply):
                raise error
            if time.monotonic() >= deadline:
                raise ShardDownError(
                    f"Redis {self.label} refused to store steps for {self._patience:g} s ({error}); the replay is down "
                    f"to {self.counted(b'sync', 0, 0)[0].chunks} chunks. Give the server more memory."
                ) from error
            if not self._shrink():
                time.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
        return [reply for reply in done if reply is not None]

    def _shrink(self) -> bool:
        """Free memory of a full server; False: nothing is left to evict."""
        layout = self.layout
        least = 2 * layout.per_stream
        freed, slots = self.writes(b"evict", max(1, layout.slots // 100), least)
        assert isinstance(freed, int) and isinstance(slots, int)
        self.layout = replace(layout, slots=slots)
        if freed and slots < 0.75 * self._said_slots:
            self._said_slots = slots
            self._note(
                f"Redis {self.label} is full: replay {self.prefix} evicts its oldest steps and continues with "
                f"{self.layout.nbytes / 1e9:.3g} GB."
            )
        return freed > 0

    def _open(self) -> tuple[Layout, Counts, bool]:
        """Find the replay or make it: its sizes, its counts, whether it was made; ValueError: it is another run's."""
        layout = plan(self.schema, **self._bounds)
        meta = {"format": FORMAT, "schema": self.schema.to_json(), "length": layout.length}
        if not self._made():
            self._check_prefix()
            self._check_room(layout)
        sizes = layout.capacity, layout.slots, layout.length, layout.chunk_length, layout.row_bytes, layout.latent_bytes
        try:
            counts, (stored, made) = self.writes.counted(b"open", json.dumps(meta), secrets.token_hex(8), *sizes)
        except OutOfMemoryReply as error:
            raise ValueError(f"Redis {self.label} is full; raise its maxmemory, or use another server.") from error
        assert isinstance(stored, bytes), stored
        there = parse_meta(stored) or {}
        for key, here in meta.items():
            if there.get(key) != here:
                raise ValueError(
                    f"Redis {self.label} has a replay of another {key} under {self.prefix}: {there.get(key)}, this run "
                    f"has {here}; give this run a prefix of its own."
                )
        if not made:
            layout = self._resize(counts)
        return layout, counts, bool(made)

    def _made(self) -> bool:
        return self.writes.connection.call(b"HGET", f"{self.prefix}:counts", b"created") is not None

    def _check_prefix(self) -> None:
        """ValueError: there is no replay under the prefix, but other keys are."""
        cursor = b"0"
        while True:
            reply = self.writes.connection.call(b"SCAN", cursor, b"MATCH", pattern(self.prefix), b"COUNT", 10_000)
            assert isinstance(reply, list)
            cursor, keys = reply
            foreign = [key for key in keys if not key.startswith(f"{self.prefix}{PROBE}".encode())]
            if foreign and not self._made():  # unless another process has created it meanwhile
                raise ValueError(
                    f"Redis {self.label} has keys of another program, or remains of a replay, under {self.prefix}, "
                    f"such as {foreign[0].decode(errors='replace')}; delete them, or use another --replay.prefix."
                )
            if foreign or cursor == b"0":
                return

    def _resize(self, counts: Counts) -> Layout:
        """The sizes of an existing replay after applying the bounds of this store."""
        layout = plan(self.schema, **(self._bounds | {"chunk_length": counts.chunk_length}))
        free = self._free_bytes()
        if layout.slots > counts.slots and (layout.slots - counts.chunks) * layout.slot_bytes > free:
            layout = replace(layout, slots=counts.slots)
        if (layout.capacity, layout.slots) != (counts.capacity, counts.slots):
            self.writes.many([(b"bound", layout.capacity, layout.slots)])
            self._note(
                f"Replay {self.prefix} on Redis {self.label} now keeps {layout.capacity:,} sequences in "
                f"{layout.slots:,} chunks, before {counts.capacity:,} in {counts.slots:,}."
            )
        return layout

    def _check_room(self, layout: Layout) -> None:
        free = self._free_bytes()
        if layout.nbytes > free:
            raise ValueError(
                f"A replay of {layout.capacity:,} sequences takes {layout.nbytes / 1e9:.3g} GB, Redis {self.label} has "
                f"room for {free / 1e9:.3g} GB; lower replay.capacity, set replay.capacity_gb, raise the server's "
                "maxmemory, or use more servers."
            )

    def _free_bytes(self) -> float:
        reply = self.writes.connection.call(b"INFO", b"memory")
        assert isinstance(reply, bytes)
        info = parse_info(reply)
        most = int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0))
        return most - int(info.get("used_memory", 0)) if most else float("inf")

    def require_writable(self) -> None:
        """ShardDownError: the server refuses writes."""
        key = f"{self.prefix}{PROBE}"
        try:
            self.writes.connection.call(b"HSET", key, b"-", b"-")
            self.writes.connection.call(b"DEL", key)
        except ReplyError as error:
            raise ShardDownError(f"Redis {self.label} refuses writes: {error}") from error

    def begin_anew(self) -> None:
        """The server has lost everything: create an empty replay; writers notice by the gap in their streams."""
        try:
            self.layout, _, made = self._open()
        except ValueError as error:  # it may be fixed while the run waits
            raise ShardDownError(str(error)) from error
        if made:
            self._note(f"Redis {self.label} has lost the replay {self.prefix}, an empty one replaces it.")


class Once:
    """Forwards messages of several connections to one server, except those that another has just sent."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note, self._said = note, dict[str, tuple[int, float]]()

    def voice(self, who: int) -> Callable[[str], None]:
        """For connection `who`."""

        def say(line: str) -> None:
            meant, now = re.sub(r": .*;|[\d.]+", "", line), time.monotonic()  # without the error and the seconds
            other, when = self._said.pop(meant, (who, 0.0))
            if other == who or now - when > _QUIET:
                self._said[meant] = who, now
                self._note(line)

        return say
