"""The address, credentials and options of a Redis server, as given by a URL."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

PASSWORD_VARIABLE = "NEXUS_REDIS_PASSWORD"
FORMS = (
    "redis://[[user]:password@]host[:port][/database], "
    "rediss://... for TLS [?ssl_ca_certs=FILE][&ssl_certfile=FILE&ssl_keyfile=FILE][&ssl_cert_reqs=none], "
    "unix://[[user]:password@]/path/of/socket[?db=...]"
)
ESCAPES = (
    "in a user name or password write % as %25, / as %2F, @ as %40, : as %3A, # as %23, ? as %3F, & as %26, a comma as "
    "%2C, [ as %5B, ] as %5D, and a control character as % and its hex code, or set " + PASSWORD_VARIABLE
)
URLS = ("redis://", "rediss://", "unix://")
_LOGIN = ("username", "password", "db")
_SOCKET = ("socket_timeout", "socket_connect_timeout")
_TLS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_OPTIONS = {
    "redis": (*_LOGIN, *_SOCKET, "socket_keepalive"),
    "rediss": (*_LOGIN, *_SOCKET, "socket_keepalive", *_TLS),
    "unix": (*_LOGIN, *_SOCKET),
}
"""Options of a URL, under redis-py's names; encodings, pools and retries are not configurable."""
_SHORT = {
    "rediss": {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile", "insecure": "ssl_cert_reqs"},
    "unix": {"user": "username"},
}
_CHECKS = ("required", "optional", "none")  # of the server's certificate
_SHORTEST, _LONGEST = 0.001, 86400  # seconds of a timeout, as the system's calls take them
_LONGEST_SOCKET = 107  # bytes, sun_path of Linux


@dataclass(frozen=True, kw_only=True)
class Address:
    """A Redis server, on a unix socket if there is a `path`. `options` are those of its URL, as arguments of redis-py's
    connections: authorities to trust in place of the system's, the client's own certificate, timeouts in seconds.
    """

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    database: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"Redis port {self.port} is not allowed; use 1 to 65535.")
        if self.database < 0:
            raise ValueError(f"Redis database {self.database} is not allowed; use 0 or more.")
        if len(os.fsencode(self.path)) > _LONGEST_SOCKET:
            raise ValueError(
                f"The socket path {self.path} is longer than {_LONGEST_SOCKET} bytes; choose a shorter path."
            )
        if "ssl_keyfile" in self.options and "ssl_certfile" not in self.options:
            raise ValueError("A client key needs its certificate: set cert=FILE too.")
        for name in _SOCKET:
            if name in self.options and not _SHORTEST <= self.options[name] <= _LONGEST:
                raise ValueError(f"{name} is {self.options[name]}, allowed are {_SHORTEST} to {_LONGEST} seconds.")

    @property
    def label(self) -> str:
        """The URL without user name, password and options."""
        if self.path:
            return f"unix://{self.path}" + (f"?db={self.database}" if self.database else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}" + (
            f"/{self.database}" if self.database else ""
        )


def parse(url: str, environment: Mapping[str, str] | None = None) -> Address:
    """The server of a URL; a URL without a password takes NEXUS_REDIS_PASSWORD from `environment` (the process's).

    redis-py parses it, after a check for everything that redis-py would misread. ValueError describes what is wrong
    with the URL without quoting it, since any part of it may be the password.
    """
    parts = split(url)
    scheme, host, unix = parts.scheme, parts.hostname, parts.scheme == "unix"
    options = _options(scheme, parts.query)
    if unix:
        if host or len(parts.path) < 2:
            raise ValueError("A unix:// URL has three slashes and an absolute path; write unix:///path/of/socket.")
    elif not host:
        raise ValueError(f"The {scheme}:// URL has no host; write {FORMS}.")
    else:
        _require_port(parts.netloc, f"{scheme}://{host}")
    databases = [*filter(None, ["" if unix else parts.path.removeprefix("/"), options.get("db", "")])]
    if not all(text.isascii() and text.isdigit() for text in databases):
        raise ValueError(f"The database of the {scheme}:// URL is not a number; use 0 or more, usually 0 to 15.")
    if len(databases) > 1:
        raise ValueError(f"The {scheme}:// URL has two databases; write it after the host or as db.")
    return _read(scheme, url.partition("?")[0], options, environment)


def split(url: str) -> SplitResult:
    """The parts of a URL; ValueError, which quotes none of it, where its password cannot be told from the rest."""
    scheme, colon, _ = url.partition("://")
    if not colon or scheme not in _OPTIONS:
        raise ValueError(f"A Redis URL starts with {', '.join(URLS)}, this one does not; write {FORMS}.")
    if any(character < " " or character == "\x7f" for character in url):  # urlsplit() drops some of them
        raise ValueError(f"The {scheme}:// URL contains a control character; {ESCAPES}.")
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        raise ValueError(f"The host or port of the {scheme}:// URL cannot be read; {ESCAPES}.") from None
    if "#" in url or (scheme != "unix" and "@" in parts.path + parts.query):
        raise ValueError(f"The {scheme}:// URL has a # or @ where none is allowed; {ESCAPES}.")
    if bool(password) + sum(option.startswith("password=") for option in parts.query.split("&")) > 1:
        raise ValueError(f"The {scheme}:// URL gives a password twice; write it before the host or as password.")
    return parts


def _read(scheme: str, url: str, options: Mapping[str, str], environment: Mapping[str, str] | None) -> Address:
    """The address that redis-py parses from a URL and its options."""
    from redis.connection import parse_url  # takes a quarter of a second, which a run without Redis saves

    query = "&".join(f"{name}={text.replace('+', '%2B')}" for name, text in options.items())  # else + would be a space
    try:
        given = parse_url(f"{url}?{query}")
    except ValueError as error:
        raise ValueError(f"{error} It is a number of seconds.") from None
    known = {name: given.pop(name) for name in ("host", "port", "path", "username") if name in given}
    password = given.pop("password", "") or (os.environ if environment is None else environment).get(
        PASSWORD_VARIABLE, ""
    )
    if known.get("username") and not password:
        raise ValueError(f"The {scheme}:// URL has a user but no password; add it, or set {PASSWORD_VARIABLE}.")
    database = given.pop("db", 0)
    given.pop("connection_class", None)  # set for unix:// and rediss://
    return Address(**known, password=password, tls=scheme == "rediss", database=database, options=given)


def parse_servers(urls: str, environment: Mapping[str, str] | None = None) -> list[Address]:
    """The servers of comma-separated URLs; ValueError as from `parse`, or if one is empty or repeated."""
    each = urls.split(",")
    if not all(url.startswith(URLS) for url in each if url):  # any part may be half a password
        raise ValueError(f"Not all of the Redis URLs begin with {', '.join(URLS)}; {ESCAPES}.")
    if not all(each):
        raise ValueError("One of the comma-separated Redis URLs is empty; give one URL per server.")
    addresses = [parse(url, environment) for url in each]
    labels = [address.label for address in addresses]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"The Redis URLs name {twice[0]} twice; give each server once.")
    return addresses


def _require_port(netloc: str, server: str) -> None:
    """ValueError: the port is not allowed; it is quoted only if it is a number, which cannot be half a password."""
    _, bracket, behind = netloc.rpartition("@")[2].rpartition("]")
    text = behind.removeprefix(":") if bracket else behind.partition(":")[2]
    if not text:
        return
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{server}: the port is not a number; use 1 to 65535, or omit it for 6379.")
    if not 1 <= int(text) <= 65535:
        raise ValueError(f"{server}: port {text} is not allowed; use 1 to 65535, or omit it for 6379.")


def _options(scheme: str, query: str) -> dict[str, str]:
    """The options after the question mark, still percent-encoded, under redis-py's names."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    short, allowed = _SHORT.get(scheme, {}), _OPTIONS[scheme]
    options = {short.get(name, name): text for name, _, text in pairs}
    if len(options) < len(pairs) or not set(options) <= set(allowed):
        raise ValueError(
            f"The {scheme}:// URL has an unknown option, or one twice; allowed are "
            f"{', '.join((*short, *allowed))}; {ESCAPES}."
        )
    if empty := [name for name, _, text in pairs if not text and name != "password"]:
        raise ValueError(f"{empty[0]} of the {scheme}:// URL is empty; give it a value, or omit it.")
    if any(name == "insecure" for name, _, _ in pairs):
        insecure = options.pop("ssl_cert_reqs")
        if insecure not in ("0", "1"):
            raise ValueError(
                f"insecure is {insecure}, allowed are 0 (verify the server's certificate) and 1 (accept any)."
            )
        options |= {"ssl_cert_reqs": "none"} if insecure == "1" else {}
    if (checked := options.get("ssl_cert_reqs", "required")) not in _CHECKS:
        raise ValueError(f"ssl_cert_reqs is {checked}, allowed are {', '.join(_CHECKS)}.")
    return options
