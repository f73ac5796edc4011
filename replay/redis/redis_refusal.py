"""Error replies of a Redis server, and what can be done about them."""

import re
from collections.abc import Sequence

from replay.redis_url import PASSWORD_VARIABLE, Address

# Redis 6.2 wraps the error of a script: "ERR Error running script (call to f_...): @user_script:9: @user_script: 9:
# -READONLY ...", or "@user_script: 9: -READONLY ..." if the script returns it; 7 appends " script: ..., on ...".
_WRAPPING = re.compile(r"(ERR )?Error running script \(call to \w+\): (@\w+: ?\d+: )*-?|(@\w+: ?\d+: )+-?")
_PLACE = re.compile(r" script: \w+, on @\w+:\d+\.$")
_WHERE = re.compile(r" \[(\w+) (.*)\]$", re.DOTALL)
_PREFIXED = re.compile(r"ERR (?=[A-Z]{3,} )")
_KINDS = {
    "NOPERM": re.compile(r"^(ERR |EXECABORT .*: )?(NOPERM|ACL failure|The user executing the script can't) ?"),
    "UNKNOWN": re.compile(r"^(ERR )?unknown (redis )?command", re.IGNORECASE),
    "TOOLARGE": re.compile(r"proto-max-bulk-len|invalid bulk length"),
}
STATES = {
    "READONLY": ("is a replica", "give its master's URL, or make it a master: redis-cli REPLICAOF NO ONE"),
    "MASTERDOWN": (
        "is a replica that has lost its master", "give the master's URL, or make it one: redis-cli REPLICAOF NO ONE"
    ),
    "MISCONF": (
        "refuses writes because it cannot save its own files to disk",
        "see its log, and free disk space (for failing snapshots also: redis-cli CONFIG SET "
        "stop-writes-on-bgsave-error no)",
    ),
    "NOREPLICAS": (
        "refuses writes because it has fewer replicas than its min-replicas-to-write",
        "restart them, or redis-cli CONFIG SET min-replicas-to-write 0",
    ),
}  # fmt: skip
"""What is wrong with a server that can be reached, and how to fix it."""
_PASSING = {
    "LOADING": ("is still loading its data", "this may take a while"),
    "BUSY": ("is busy with a script", "redis-cli SCRIPT KILL ends one that hangs"),
}
UNFIT = frozenset({*STATES, "NOPERM", "NOAUTH", "UNKNOWN", "WRONGTYPE"})
"""Kinds after which a connection checks again whether the server is usable."""


class ReplyError(RuntimeError):
    """The server refused a command. `code` is the first word of its reply; `kind` the same or, if that is too general,
    NOPERM, UNKNOWN (command) or TOOLARGE; `key` the key that a script names, if any."""

    def __init__(self, text: str) -> None:
        text = _PREFIXED.sub("", _WRAPPING.sub("", _PLACE.sub("", text), count=1))
        where = _WHERE.search(text)
        self.key = where[2] if where else ""
        text = _WHERE.sub("", text).strip()
        super().__init__(text)
        self.code = text.partition(" ")[0]
        self.kind = next((kind for kind, said in _KINDS.items() if said.search(text)), self.code)

    @property
    def about_keys(self) -> bool:
        """The user lacks permission for the key, not for the command."""
        return self.kind == "NOPERM" and re.search(r"access .*\bkeys?\b", str(self)) is not None


class OutOfMemoryReply(ReplyError):  # noqa: N818  a reply like others
    """The server is at its maxmemory."""


class NotReadyError(RuntimeError):
    """The server can be reached, but is not ready yet."""


class FullError(NotReadyError):
    """The server accepts no more clients until some disconnect."""


def refusal(text: str) -> ReplyError:
    """The error for an error reply, given without its minus sign."""
    return OutOfMemoryReply(text) if re.search(r"(^|-)OOM ", text) else ReplyError(text)


def not_redis(label: str, seen: bytes | str) -> ValueError:
    """The error for a server that is not Redis: `seen` is what it sent, or describes it."""
    shown = repr(seen[:40]) if isinstance(seen, bytes) else f"an invalid reply ({seen})"
    return ValueError(
        f"{label} is not a Redis server, or requires TLS (rediss://): it sent {shown}. Check host and port."
    )


def require_welcome(first: object, address: Address) -> None:
    """FullError or ValueError if the first reply is the error that Redis sends before it closes the connection."""
    if not isinstance(first, ReplyError):
        return
    if "max number of clients" in str(first):
        raise FullError(
            f"Redis {address.label} already has maxclients connected ({first}); disconnect some, or raise "
            "maxclients in its redis.conf and restart it."
        )
    if first.code == "DENIED":
        raise ValueError(f"Redis {address.label} refuses connections from other machines: {first}")


def not_let_in(error: ReplyError, address: Address) -> ValueError:
    """The error for a failed authentication."""
    if "without any password" in str(error):
        return ValueError(f"Redis {address.label} has no password, but one was given; omit it or set requirepass.")
    user = address.username or "default"
    return ValueError(
        f"Redis {address.label} refuses user {user} ({error}): the user does not exist or is disabled, "
        f"or the password is wrong; see redis-cli ACL GETUSER {user}, and correct the URL or {PASSWORD_VARIABLE}."
    )


def require_fit(error: ReplyError, label: str) -> None:
    """NotReadyError or ValueError if the refusal is due to the state of the server `label`."""
    what, remedy = _PASSING.get(error.kind) or STATES.get(error.kind) or ("", "")
    if what:
        kind = NotReadyError if error.kind in _PASSING else ValueError
        raise kind(f"Redis {label} {what} ({str(error).split('. ')[0].rstrip('.')}); {remedy}.")


def allow(user: str, *commands: str, keys: str = "") -> str:
    """How an administrator allows `user` to run commands, and to use keys that match a pattern."""
    rights = [f"+{command.lower()}" for command in commands] + ([f"'~{keys}'"] if keys else [])
    return f"allow it: redis-cli ACL SETUSER {user or 'default'} {' '.join(rights)}"


def lacking(
    user: str, forbidden: Sequence[str], unknown: Sequence[str], keys: str = "", closed: bool | None = False
) -> list[str]:
    """Descriptions, with remedies, of the `forbidden` commands that `user` may not run, of keys of the pattern `keys`
    that are `closed` to the user (None: no permitted command tells), and of commands `unknown` to the server."""
    user, said = user or "default", list[str]()
    if forbidden or closed:
        what = [f"run {', '.join(forbidden)}"] if forbidden else []
        what += [f"use keys like {keys}"] if closed else []
        more = f" (nor, perhaps, use keys like {keys}: then add '~{keys}' too)" if closed is None else ""
        said.append(
            f"user {user} may not {' nor '.join(what)}{more}; {allow(user, *forbidden, keys=keys if closed else '')}"
        )
    if unknown:
        said.append(f"it does not know {', '.join(unknown)}; {bring_back(*unknown)}")
    return said


def unusable(label: str, problems: Sequence[str]) -> ValueError:
    """The error with everything that is wrong with the server `label`."""
    return ValueError(f"Redis {label} cannot be used: {'. Also, '.join(problems)}.")


def bring_back(*commands: str) -> str:
    """What to do if commands were renamed or disabled."""
    return f"remove rename-command for {', '.join(commands)} from its redis.conf, or use another server"
