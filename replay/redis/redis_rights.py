"""Checks whether a replay can use a Redis server: permissions, commands, size limits, and keys of its own."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from replay.redis.redis_connection import Check
from replay.redis.redis_refusal import ReplyError, lacking, require_fit, unusable
from replay.redis.redis_script import SEGMENT, SHA, SOURCE, Counts
from replay.redis.redis_session import Arg, Reply, Session
from replay.redis_url import Address

Ask = Callable[[Sequence[Sequence[Arg]]], Sequence[Reply | ReplyError]]
"""Sends commands and returns the replies."""
FORMAT = "nexus-replay-redis-1"
PROBE = ":probe"
"""After the prefix: the start of keys that exist only during one check of the server."""
COUNTED = Counts._fields[2:]  # those in the counts hash
_LIMITS = ("proto-max-bulk-len", "client-query-buffer-limit")
_NONE = ":none"  # after the prefix: a key that never exists
_NAMED = 10  # most keys that a message names


def pattern(prefix: str) -> str:
    """The Redis pattern for all keys under `prefix`."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in prefix) + ":*"


def types_of(ask: Ask, keys: Iterable[str]) -> dict[str, str]:
    """The Redis types of the values at these keys."""
    each = list(keys)
    replies = ask([("TYPE", key) for key in each]) if each else []
    return {key: reply.decode() if isinstance(reply, bytes) else "?" for key, reply in zip(each, replies, strict=True)}


def foreign_types(ask: Ask, keys: Iterable[str]) -> dict[str, str]:
    """Types of those values of chunks, latents and log that are not strings; some may have been deleted meanwhile."""
    return {key: kind for key, kind in types_of(ask, keys).items() if kind not in ("none", "string")}


def foreign_values(types: Mapping[str, str]) -> str:
    """A description of values that the replay cannot have written, from their types by key."""
    keys = [f"{key} ({kind})" for key, kind in sorted(types.items())]
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"another program's values are at {', '.join(keys[:_NAMED])}{more}, which are keys of the replay"


def lost_log(ask: Ask, prefix: str, head: int, tail: int) -> list[str]:
    """Keys of the log that are missing, of those with the records from `head` to `tail`."""
    places = range(head // SEGMENT, -(-tail // SEGMENT))
    replies = ask([("GETRANGE", f"{prefix}:log:{i}", 0, 0) for i in places]) if places else ()
    gone = [i for i, reply in zip(places, replies, strict=True) if reply == b""]
    if not gone:
        return []
    (now,) = ask([("HMGET", f"{prefix}:counts", "head")])
    assert isinstance(now, list), now
    return [f"{prefix}:log:{i}" for i in gone if i >= int(now[0]) // SEGMENT]  # else it was trimmed meanwhile


def writer_check(address: Address, prefix: str, largest: int) -> Check:
    """For a connection that writes to a replay and samples from it. ValueError names everything that is wrong and the
    remedies: missing permissions or commands, a limit below `largest` bytes, a replica or another state that refuses
    writes, another program's values at the replay's keys, a replay that lacks parts."""

    def check(session: Session, info: dict[str, str], suspect: str) -> None:
        if info.get("role") == "slave":
            at = f"{info.get('master_host')}:{info.get('master_port')}"
            require_fit(ReplyError(f"READONLY its master is {at}"), address.label)
        none, probe = prefix + _NONE, prefix + PROBE
        part = suspect if suspect.startswith((f"{prefix}:c:", f"{prefix}:l:", f"{prefix}:log:")) else none
        ours: list[tuple[Arg, ...]] = [
            ("INFO", "server"), ("HMGET", f"{prefix}:counts", *COUNTED), ("GET", f"{prefix}:life"),
            ("GET", f"{prefix}:meta"), ("HLEN", f"{prefix}:streams"), ("ZRANGE", f"{prefix}:idle", 0, 0),
            ("GETRANGE", part, 0, 0),
        ]  # fmt: skip
        others: list[tuple[Arg, ...]] = [
            ("EXISTS", none), ("TYPE", none), ("HGET", none, "-"), ("HGETALL", none), ("HKEYS", none), ("DEL", none),
            ("SET", none, "-", "XX"), ("SETRANGE", none, 0, ""), ("ZADD", none, "XX", 0, "-"), ("ZREM", none, "-"),
            ("HSET", probe, "-", "-"), ("DEL", probe), ("SCAN", 0, "COUNT", 1),
            ("SCRIPT", "LOAD", SOURCE), ("EVALSHA", SHA, 1, f"{prefix}:counts", "sync", 0, 0),
        ]  # fmt: skip

        look = _Look(session.ask, address, prefix)
        _, counts, life, meta, streams, *_ = look(ours, belongs=True)
        look(others)
        look.limits(largest)
        look.content(counts, life, meta, streams)
        look.log(counts)
        look.conclude()
        look([("EVALSHA", SHA, 1, f"{prefix}:counts", "settle", info.get("run_id", ""))])  # NOREPLAY: nothing to settle
        look.conclude()

    return check


def require_readable(ask: Ask, address: Address, prefix: str) -> None:
    """The same for a connection that only reads the replay with this prefix, or any if it is empty: a read-only user is
    enough."""
    look, keys = _Look(ask, address, prefix), prefix or "nexus"
    ours: list[tuple[Arg, ...]] = [
        ("INFO", "server"), ("HMGET", f"{keys}:counts", *COUNTED), ("GET", f"{keys}:life"), ("GET", f"{keys}:meta"),
        ("HLEN", f"{keys}:streams"),
    ]  # fmt: skip
    _, *parts = look(ours, belongs=bool(prefix))
    others: list[tuple[Arg, ...]] = [
        ("HGETALL", keys + _NONE), ("GETRANGE", keys + _NONE, 0, 0), ("STRLEN", keys + _NONE), ("TYPE", keys + _NONE),
        ("MULTI",), ("EXEC",),
    ]  # fmt: skip
    look(others if prefix else [*others, ("SCAN", 0, "COUNT", 1)])
    if prefix:
        look.content(*parts)
    look.conclude()


class _Look:
    """Sends commands to a server, and collects what it refuses."""

    def __init__(self, ask: Ask, address: Address, prefix: str) -> None:
        self._ask, self._address, self._prefix = ask, address, prefix
        self.problems: list[str] = []
        self._forbidden: list[str] = []
        self._unknown: list[str] = []
        self._closed: bool | None = None  # whether keys under the prefix are forbidden; None: unknown
        self._foreign: list[str] = []

    def __call__(self, commands: Sequence[Sequence[Arg]], belongs: bool = False) -> Sequence[Reply | ReplyError]:
        """The replies; with `belongs` a key of the wrong type is reported as another program's."""
        replies = self._ask(commands)
        for command, reply in zip(commands, replies, strict=True):
            if not isinstance(reply, ReplyError):
                if self._closed is None and len(command) > 1 and str(command[1]).startswith(f"{self._prefix}:"):
                    self._closed = False
                continue
            require_fit(reply, self._address.label)
            name = str(command[0]) + ("|LOAD" if command[0] == "SCRIPT" else "")
            if reply.about_keys:
                self._closed = bool(self._prefix)
            elif reply.kind == "NOPERM" and (name != "EVALSHA" or "executing" not in str(reply)):
                self._forbidden += [name] if name not in self._forbidden else []
            elif reply.kind == "UNKNOWN" and (name != "EVALSHA" or "called from" not in str(reply)):
                self._unknown += [name] if name not in self._unknown else []
            elif reply.kind == "WRONGTYPE" and belongs:
                self._foreign.append(str(command[1]))
        return replies

    def limits(self, largest: int) -> None:
        """Check that the server's settings allow values of `largest` bytes."""
        for name, least in zip(_LIMITS, (largest, 2 * largest), strict=True):
            (reply,) = self._ask([("CONFIG", "GET", name)])
            if isinstance(reply, list):
                small = len(reply) == 2 and int(reply[1]) < least
            else:  # only administrators may ask
                key = f"{self._prefix}{PROBE}:size"
                tried, _ = self._ask([("SETRANGE", key, largest - 1, "-"), ("DEL", key)])
                small = isinstance(tried, ReplyError) and tried.kind == "TOOLARGE" and name in str(tried)
            if small:
                size = f"{-(-least // (1 << 20))}mb"
                self.problems.append(
                    f"its {name} is too small for chunks of this replay, which need {least:,} bytes; raise it: "
                    f"redis-cli CONFIG SET {name} {size}, and the same in redis.conf"
                )

    def content(self, counts: Any, life: Any, meta: Any, streams: Any) -> None:
        """Check that an existing replay has all its parts, if they could be read."""
        if any(isinstance(part, ReplyError) for part in (counts, life, meta, streams)):
            return
        if counts[COUNTED.index("created")] is None and parse_meta(meta) is None:
            return  # there is no replay
        lacking = [name for name, value in zip(COUNTED, counts, strict=True) if not (value or b"").isdigit()]
        bad = [f"{self._prefix}:counts ({', '.join(lacking)})"] if lacking else []
        bad += [f"{self._prefix}:life"] if len(life or b"") != 32 else []
        bad += [f"{self._prefix}:meta"] if parse_meta(meta) is None else []
        bad += [f"{self._prefix}:streams"] if not streams and counts[COUNTED.index("tail")] not in (None, b"0") else []
        self._damaged(bad)

    def log(self, counts: Any) -> None:
        """Check that the log is there from the oldest item on, unless problems were found before."""
        if self.problems or not isinstance(counts, list) or None in counts:
            return
        head, tail = (int(counts[COUNTED.index(name)]) for name in ("head", "tail"))
        self._damaged(lost_log(lambda commands: self(commands, belongs=True), self._prefix, head, tail))

    def _damaged(self, parts: Sequence[str]) -> None:
        if parts:
            self.problems.append(
                f"its replay {self._prefix} is damaged or another program's: see {', '.join(parts)}; delete its keys, "
                "or use another --replay.prefix"
            )

    def conclude(self) -> None:
        """ValueError: problems were found."""
        closed = self._closed if self._prefix else False
        self.problems += lacking(self._address.username, self._forbidden, self._unknown, pattern(self._prefix), closed)
        if self._foreign:
            database = f" -n {self._address.database}" if self._address.database else ""
            self.problems.append(
                f"{foreign_values(types_of(self._ask, self._foreign))}; use another --replay.prefix, or delete them: "
                f"redis-cli{database} DEL {' '.join(self._foreign)}"
            )
        if self.problems:
            raise unusable(self._address.label, self.problems)


def parse_meta(stored: Reply | ReplyError) -> dict[str, Any] | None:
    """The content of a replay's key `meta`; None: it is not a replay's."""
    try:
        meta = json.loads(stored) if isinstance(stored, bytes) else None
    except (ValueError, RecursionError):
        return None
    return meta if isinstance(meta, dict) and meta.get("format") == FORMAT else None
