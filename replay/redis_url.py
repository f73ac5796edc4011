"""Where a Redis server is and how to get in, as written in a URL."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PASSWORD_VARIABLE = "NEXUS_REDIS_PASSWORD"
FORMS = (
    "redis://[[user]:password@]host[:port][/database], "
    "rediss://... for TLS [?ca=FILE][&cert=FILE&key=FILE][&insecure=1], "
    "unix:///path/of/socket[?password=...][&user=...][&db=...]"
)
ESCAPES = (
    "in a user name or password write % as %25, / as %2F, @ as %40, : as %3A, # as %23, ? as %3F, & as %26, a comma as "
    "%2C, [ as %5B, ] as %5D, and a control character by its number, or set " + PASSWORD_VARIABLE
)
URLS = ("redis://", "rediss://", "unix://")
_OPTIONS = {"redis": (), "rediss": ("ca", "cert", "key", "insecure"), "unix": ("password", "user", "db")}
_LONGEST_SOCKET = 107  # bytes, sun_path of Linux


@dataclass(frozen=True, kw_only=True)
class Address:
    """A Redis server, on a unix socket where there is a `path`. `ca` is a file of certificates to trust instead of the
    system's, `certificate` and `key` are the client's own; `insecure` trusts any, and is for trusted networks only.
    """

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    database: int = 0
    ca: str = ""
    certificate: str = ""
    key: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"Redis port {self.port} is not allowed; take 1 to 65535.")
        if self.database < 0:
            raise ValueError(f"Redis database {self.database} is not allowed; take 0 or more.")
        if len(os.fsencode(self.path)) > _LONGEST_SOCKET:
            raise ValueError(
                f"The socket path {self.path} is longer than {_LONGEST_SOCKET} bytes; put it in a shorter folder."
            )
        if self.key and not self.certificate:
            raise ValueError("A client key needs its certificate: give cert=FILE too.")

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
    """The server a URL names; a password it lacks is taken from NEXUS_REDIS_PASSWORD in `environment` (the process's).

    ValueError says what is wrong with the URL without quoting it, since it may hold the password anywhere.
    """
    scheme, colon, _ = url.partition("://")
    if not colon or scheme not in _OPTIONS:
        raise ValueError(f"A Redis URL starts with {', '.join(URLS)}, this one does not; write {FORMS}.")
    if any(character < " " or character == "\x7f" for character in url):  # urlsplit() leaves some of them out
        raise ValueError(f"The {scheme}:// URL has a control character in it; {ESCAPES}.")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise ValueError(f"The host or port of the {scheme}:// URL cannot be read; {ESCAPES}.") from None
    unix, port = scheme == "unix", 6379
    if parts.fragment or "#" in url or (not unix and "@" in parts.path + parts.query):
        raise ValueError(f"The {scheme}:// URL has a # or @ where none may stand; {ESCAPES}.")
    options = _options(scheme, parts.query)
    if unix:
        if parts.netloc or len(parts.path) < 2:
            raise ValueError("A unix:// URL has three slashes and an absolute path; write unix:///path/of/socket.")
        username, password, database = options.get("user", ""), options.get("password", ""), options.get("db", "")
    else:
        if not host:
            raise ValueError(f"The {scheme}:// URL names no host; write {FORMS}.")
        port = _port(parts.netloc, f"{scheme}://{host}")
        database = parts.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError(f"The database of the {scheme}:// URL is not a number; allowed is 0 or more, mostly 0 to 15.")
    password = password or (os.environ if environment is None else environment).get(PASSWORD_VARIABLE, "")
    if username and not password:
        raise ValueError(f"The {scheme}:// URL names a user and no password; add it, or set {PASSWORD_VARIABLE}.")
    insecure = options.get("insecure", "0")
    if insecure not in ("0", "1"):
        raise ValueError(f"insecure is {insecure}, allowed 0 (check the server's certificate) or 1 (take any).")
    return Address(
        host=host or "localhost",
        port=port,
        path=unquote(parts.path) if unix else "",
        username=username,
        password=password,
        tls=scheme == "rediss",
        database=int(database or 0),
        ca=options.get("ca", ""),
        certificate=options.get("cert", ""),
        key=options.get("key", ""),
        insecure=insecure == "1",
    )


def parse_servers(urls: str, environment: Mapping[str, str] | None = None) -> list[Address]:
    """The servers that several URLs with commas between them name; ValueError as from `parse`."""
    each = urls.split(",")
    if not all(url.startswith(URLS) for url in each if url):  # what stands there may be half a password
        raise ValueError(f"Not each of the Redis URLs begins with {', '.join(URLS)}; {ESCAPES}.")
    if not all(each):
        raise ValueError("A place between the commas of the Redis URLs is empty; give one URL a server.")
    addresses = [parse(url, environment) for url in each]
    labels = [address.label for address in addresses]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"The Redis URLs name {twice[0]} twice; give each server once.")
    return addresses


def _port(netloc: str, server: str) -> int:
    """The port behind the host; ValueError quotes one that is a number, and could not be half a password."""
    _, bracket, behind = netloc.rpartition("@")[2].rpartition("]")
    text = behind.removeprefix(":") if bracket else behind.partition(":")[2]
    if not text:
        return 6379
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{server}: the port is not a number; take 1 to 65535, or leave it out for 6379.")
    if not 1 <= int(text) <= 65535:
        raise ValueError(f"{server}: port {text} is not allowed; take 1 to 65535, or leave it out for 6379.")
    return int(text)


def _options(scheme: str, query: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in query.split("&") if part]
    options = {name: unquote(value) for name, _, value in pairs}
    if len(options) < len(pairs) or not set(options) <= set(_OPTIONS[scheme]):
        allowed = ", ".join(_OPTIONS[scheme]) or "none"
        raise ValueError(
            f"The {scheme}:// URL has options it cannot have, or one twice; allowed are {allowed}; {ESCAPES}."
        )
    return options
