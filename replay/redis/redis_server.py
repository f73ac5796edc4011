"""Checks whether a Redis server can hold a replay: its version, mode and maxmemory-policy."""

from replay.redis.redis_refusal import NotReadyError, ReplyError, lacking, require_fit, unusable
from replay.redis.redis_session import Session
from replay.redis_url import PASSWORD_VARIABLE

OLDEST = (6, 2)


def require_supported(session: Session) -> dict[str, str]:
    """Select the URL's database and return the server's INFO; ValueError: the server cannot be used. NotReadyError.

    The INFO is empty if the user has no permission for it, which is then reported with all other missing permissions
    (replay/redis/redis_rights.py).
    """
    address = session.address
    select = [("SELECT", address.database)] if address.database else []  # 0 is the default, and SELECT may be forbidden
    _, *selected, text = session.ask([("CLIENT", "SETNAME", "nexus"), *select, ("INFO",)])
    replies = {"SELECT": selected[0], "INFO": text} if selected else {"INFO": text}
    refused = {command: reply for command, reply in replies.items() if isinstance(reply, ReplyError)}
    for command, reply in refused.items():
        if reply.code == "NOAUTH":
            raise ValueError(
                f"Redis {address.label} requires a password: put it in the URL or set {PASSWORD_VARIABLE}."
            )
        require_fit(reply, address.label)
        if reply.kind not in ("NOPERM", "UNKNOWN"):
            remedy = f"; there is no database {address.database}, use another" if command == "SELECT" else ""
            raise ValueError(f"Redis {address.label} refuses {command} ({reply}){remedy}.")
    if "SELECT" in refused:  # other permissions cannot be checked in another database
        forbidden, unknown = ([c for c in refused if refused[c].kind == kind] for kind in ("NOPERM", "UNKNOWN"))
        raise unusable(address.label, lacking(address.username, forbidden, unknown))
    if refused:
        return {}
    assert isinstance(text, bytes), f"INFO gave {text!r}"
    info = parse_info(text)
    if info.get("loading", "0") != "0":
        raise NotReadyError(f"Redis {address.label} is still loading its data.")
    version = info.get("redis_version", "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise ValueError(f"Redis {address.label} is version {version}; use {'.'.join(map(str, OLDEST))} or newer.")
    if info.get("redis_mode") == "cluster":
        raise ValueError(f"Redis {address.label} is part of a Redis Cluster; use standalone servers, one URL each.")
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        raise ValueError(
            f"Redis {address.label} has maxmemory-policy {policy} and may silently evict parts of the replay; only "
            "noeviction is allowed: redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf."
        )
    return info


def parse_info(text: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = text.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
