"""What a Redis server says instead of doing what it was asked, and what can be done about it."""

import re
from collections.abc import Sequence

from replay.redis_url import PASSWORD_VARIABLE, Address

# Redis 6.2 wraps what a script ran into: "ERR Error running script (call to f_...): @user_script:9: @user_script: 9:
# -READONLY ...", or "@user_script: 9: -READONLY ..." where the script returns it; 7 appends " script: ..., on ...".
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
        "takes no steps since it cannot write its own files to disk",
        "see its log, and free its disk (for failing snapshots also: redis-cli CONFIG SET stop-writes-on-bgsave-error "
        "no)",
    ),
    "NOREPLICAS": (
        "takes no steps since it has fewer replicas than its min-replicas-to-write",
        "bring them back, or redis-cli CONFIG SET min-replicas-to-write 0",
    ),
}  # fmt: skip
"""What is the matter with a server that can be reached and has to be mended, and how."""
_PASSING = {
    "LOADING": ("is still loading its data", "it takes a while"),
    "BUSY": ("is busy with a script", "redis-cli SCRIPT KILL ends one that hangs"),
}
UNFIT = frozenset({*STATES, "NOPERM", "NOAUTH", "UNKNOWN", "WRONGTYPE"})
"""Kinds after which a connection looks anew whether the server will do."""


class ReplyError(RuntimeError):
    """The server refused a command. `code` is the first word of what it said; `kind` the same or, where that says too
    little, NOPERM, UNKNOWN (command) or TOOLARGE; `key` what a script names as the place, if it does."""

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
        """It is the key that a user may not use, not the command."""
        return self.kind == "NOPERM" and re.search(r"access .*\bkeys?\b", str(self)) is not None


class OutOfMemoryReply(ReplyError):  # noqa: N818  a reply like others
    """The server is at its maxmemory."""


class NotReadyError(RuntimeError):
    """The server is there, and will do what it is asked in a while."""


class FullError(NotReadyError):
    """The server takes no more clients, until some have gone."""


def refusal(text: str) -> ReplyError:
    """What the server says, without the minus sign of its line."""
    return OutOfMemoryReply(text) if re.search(r"(^|-)OOM ", text) else ReplyError(text)


def not_redis(label: str, seen: bytes | str) -> ValueError:
    """`seen` came from the server `label`, or describes it, and is no reply of Redis."""
    shown = repr(seen[:40]) if isinstance(seen, bytes) else f"no reply ({seen})"
    return ValueError(f"{label} is not a Redis server, or wants TLS (rediss://): it sent {shown}. Check host and port.")


def require_welcome(first: object, address: Address) -> None:
    """FullError or ValueError where the first answer is what Redis says unasked before it hangs up."""
    if not isinstance(first, ReplyError):
        return
    if "max number of clients" in str(first):
        raise FullError(
            f"Redis {address.label} has its maxclients connected already ({first}); end some of them, or raise "
            "maxclients in its redis.conf and restart it."
        )
    if first.code == "DENIED":
        raise ValueError(f"Redis {address.label} lets nobody in from outside: {first}")


def not_let_in(error: ReplyError, address: Address) -> ValueError:
    """What is wrong with the password, from what the server says to it."""
    if "without any password" in str(error):
        return ValueError(f"Redis {address.label} has no password, one is given; leave it out or set requirepass.")
    user = address.username or "default"
    return ValueError(
        f"Redis {address.label} does not let user {user} in ({error}): it knows no such user, has disabled it, "
        f"or the password is wrong; see redis-cli ACL GETUSER {user}, and correct the URL or {PASSWORD_VARIABLE}."
    )


def require_fit(error: ReplyError, label: str) -> None:
    """NotReadyError or ValueError where the refusal comes from the state that the server `label` is in."""
    what, remedy = _PASSING.get(error.kind) or STATES.get(error.kind) or ("", "")
    if what:
        kind = NotReadyError if error.kind in _PASSING else ValueError
        raise kind(f"Redis {label} {what} ({str(error).split('. ')[0].rstrip('.')}); {remedy}.")


def allow(user: str, *commands: str, keys: str = "") -> str:
    """How an administrator lets `user` run commands, and use keys that match a pattern."""
    rights = [f"+{command.lower()}" for command in commands] + ([f"'~{keys}'"] if keys else [])
    return f"allow it: redis-cli ACL SETUSER {user or 'default'} {' '.join(rights)}"


def lacking(
    user: str, forbidden: Sequence[str], unknown: Sequence[str], keys: str = "", closed: bool | None = False
) -> list[str]:
    """Commands that `user` may not run, whether the keys of the pattern `keys` are `closed` to him (None: he may run
    nothing that would tell), commands that the server does not know; and what to do."""
    user, said = user or "default", list[str]()
    if forbidden or closed:
        what = [f"run {', '.join(forbidden)}"] if forbidden else []
        what += [f"use keys like {keys}"] if closed else []
        more = f" (nor, perhaps, use keys like {keys}: then '~{keys}' is needed too)" if closed is None else ""
        said.append(
            f"user {user} may not {' nor '.join(what)}{more}; {allow(user, *forbidden, keys=keys if closed else '')}"
        )
    if unknown:
        said.append(f"it does not know {', '.join(unknown)}; {bring_back(*unknown)}")
    return said


def unusable(label: str, problems: Sequence[str]) -> ValueError:
    """Everything that is wrong with the server `label`."""
    return ValueError(f"Redis {label} cannot be used: {'. Also, '.join(problems)}.")


def bring_back(*commands: str) -> str:
    """What to do where commands were renamed or disabled."""
    return f"take rename-command for {', '.join(commands)} out of its redis.conf, or use another server"
