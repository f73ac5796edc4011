"""Calls of the script that maintains a replay on a Redis server, see redis_script.lua."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from replay.redis.redis_connection import Connection, ReplyError
from replay.redis.redis_session import Arg, Reply

SOURCE = files("replay.redis").joinpath("redis_script.lua").read_bytes()
SHA = hashlib.sha1(SOURCE).hexdigest()
RECORD = np.dtype([("stream", ">i8"), ("next", "<i8"), ("created", "<i8")])
SEGMENT = 2047  # records, as in the script

Call = Sequence[Arg]


class MissingReplayError(Exception):
    """The server has no replay under this prefix: it was cleared, or restarted without its data."""


class Counts(NamedTuple):
    """The counts of a replay; `life` is its id and how often a stream was dropped."""

    life: bytes
    streams: int
    created: int
    evicted: int
    tail: int
    head: int
    chunks: int
    steps: int
    inserted: int
    drops: int
    capacity: int
    slots: int
    length: int
    chunk_length: int
    row_bytes: int
    latent_bytes: int

    @property
    def id(self) -> str:
        return self.life[:16].decode()

    @property
    def items(self) -> int:
        return self.created - self.evicted


def stream_bytes(stream: int) -> bytes:
    """A stream's number as the script takes it."""
    return stream.to_bytes(8, "big")


class StreamState(NamedTuple):
    """A stream's field in the streams hash; for the four numbers see replay/indexing/address_map.py. Until its first
    step they are followed by its writer."""

    next: int
    begin: int
    oldest: int
    seen: int

    @classmethod
    def parse(cls, saved: Reply) -> "StreamState":
        """ValueError: the field is damaged."""
        assert isinstance(saved, bytes), saved
        parts = saved.split()[:4]
        if len(parts) < 4 or not all(part.isdigit() for part in parts):
            raise ValueError(
                f"A stream of the replay on Redis has {saved.decode(errors='replace')!r} instead of four numbers: "
                "the replay is damaged; delete its keys, or use another --replay.prefix."
            )
        return cls(*map(int, parts))

    def stored(self, chunk_length: int) -> range:
        """The steps that are stored."""
        return range(max(self.begin, self.oldest // chunk_length * chunk_length), self.next)


class Script:
    """Calls on the replay with this prefix, over one connection."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self.connection, self.prefix = connection, prefix
        self._key = f"{prefix}:counts".encode()

    def __call__(self, *args: Arg) -> list[Reply]:
        """The reply to one call that returns a list."""
        reply = self.many([args])[0]
        if isinstance(reply, ReplyError):
            raise reply
        assert isinstance(reply, list), (args[0], reply)
        return reply

    def counted(self, *args: Arg) -> tuple[Counts, list[Reply]]:
        """The counts in the reply to one call, and what follows them."""
        reply = self(*args)
        size = len(Counts._fields)
        return Counts(*reply[:size]), reply[size:]  # type: ignore[arg-type]

    def many(self, calls: Sequence[Call]) -> list[Reply | ReplyError]:
        """Pipelined; a script that the server has forgotten is loaded again. MissingReplayError: see there."""
        commands = [(b"EVALSHA", SHA, b"1", self._key, *call) for call in calls]
        replies = self.connection.pipeline(commands)
        if any(isinstance(reply, ReplyError) and reply.code == "NOSCRIPT" for reply in replies):
            self.connection.call(b"SCRIPT", b"LOAD", SOURCE)
            replies = self.connection.pipeline(commands)  # all of them: a later call may depend on an earlier one
        if any(isinstance(reply, ReplyError) and reply.code == "NOREPLAY" for reply in replies):
            raise MissingReplayError(self.prefix)
        return replies
