"""Keeps Redis passwords out of configurations, logs and messages: they are passed only in the environment."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from replay.redis_url import ESCAPES, URLS, split
from replay.redis_url import PASSWORD_VARIABLE as VARIABLE

PASSWORD_FILE = f"{VARIABLE}_FILE"
"""Names a file with the password, for processes that are started elsewhere."""


def read_password_file() -> None:
    """Take NEXUS_REDIS_PASSWORD from the file that NEXUS_REDIS_PASSWORD_FILE names, if only that is set.

    ValueError: the file cannot be read, is empty, or is readable by others.
    """
    path = Path(os.environ.get(PASSWORD_FILE, ""))
    if not path.name or os.environ.get(VARIABLE):
        return
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(f"Others may read the Redis password in {path}; chmod 600 {path}")
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{PASSWORD_FILE}={path} cannot be read: {error}.") from error
    if not password:
        raise ValueError(f"{PASSWORD_FILE}={path} is empty; write the password of the Redis servers into it.")
    os.environ[VARIABLE] = password


def hide_passwords(arguments: Sequence[str]) -> list[str]:
    """The arguments without the passwords of their Redis URLs, which move to NEXUS_REDIS_PASSWORD.

    ValueError: the URLs have different passwords, but all servers of a run share one; or a URL cannot be parsed, so its
    password cannot be told from the rest.
    """
    out, found = [], set()
    for argument in arguments:
        if "://" not in argument:
            out.append(argument)
            continue
        name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if not any(form in value for form in URLS):
            out.append(argument)
            continue
        cleaned = [_split(url) if url else ("", "") for url in value.split(",")]  # an empty one is refused later
        found |= {password for _, password in cleaned if password}
        out.append(name + equals + ",".join(url for url, _ in cleaned))
    if len(found | ({os.environ[VARIABLE]} if os.environ.get(VARIABLE) and found else set())) > 1:
        raise ValueError(
            f"The Redis URLs and {VARIABLE} give different passwords; all servers of a run must share one."
        )
    if found:
        os.environ[VARIABLE] = found.pop()
    return out


def _split(url: str) -> tuple[str, str]:
    """The URL without its password, and the password."""
    if not url.startswith(URLS):
        raise ValueError(f"One of the comma-separated Redis URLs does not begin with {', '.join(URLS)}; {ESCAPES}.")
    parts = split(url)
    password = unquote(parts.password or "")
    user, at, host = parts.netloc.rpartition("@")
    user = user.partition(":")[0]
    options = [option for option in parts.query.split("&") if option]
    for option in [option for option in options if option.startswith("password=")]:
        options.remove(option)
        password = unquote(option.removeprefix("password="))
    netloc = f"{user}{at if user else ''}{host}"
    left = f"?{'&'.join(options)}" if options else ""
    return f"{parts.scheme}://{netloc}{parts.path}{left}", password
