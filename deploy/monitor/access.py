"""Who may use the page: by address, by token, and never through another site's page."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "nexus_monitor"
"""Begins the name of the cookie, which ends with the port: cookies do not know ports."""
SHORTEST_TOKEN = 16  # characters
LARGEST_BODY = 1 << 15  # bytes
_PAUSE = 0.5  # seconds until a wrong token is refused
_OPEN = ("/login", "/static/login.js", "/static/style.css", "/static/theme.js", "/static/icon.svg",
         "/static/vendor/Inter.woff2")  # fmt: skip
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def token_file() -> Path:
    """Where a token that nobody gave is kept."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state, "nexus", "monitor-token").expanduser()


def read_token(path: Path) -> str:
    """ValueError: the file cannot be read, or others may read it, or its token is too short."""
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(f"Others may read the token in {path}; chmod 600 {path}")
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The token file {path} cannot be read: {error}.") from error
    if len(token) < SHORTEST_TOKEN or not token.isascii():
        raise ValueError(f"The token in {path} must be ASCII and have at least {SHORTEST_TOKEN} characters.")
    return token


def make_token(path: Path) -> str:
    """The token in a file, which is made first if it does not exist, for its owner alone. ValueError: see
    `read_token`; or it cannot be made."""
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ValueError(f"The token file {path} cannot be made: {error.strerror}.") from error
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    return read_token(path)


class Access:
    """Lets a request through to `app`, or answers it.

    Without a token the Host must name this machine, so that no other site's name can be made to point here. With one,
    a request needs it as a bearer, or the cookie that the login page gives for it. Whatever changes something, answers
    with data, or listens must be asked by a page of this server.
    """

    def __init__(self, app: ASGIApp, token: str = ""):
        self.app, self._token = app, token
        self._session = hmac.new(secrets.token_bytes(32), token.encode(), hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refusal or not self._is_known(scope, headers):
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
        elif refusal:
            await _respond(send, *refusal)
        elif self._token and scope["path"] == "/login" and scope["method"] == "POST":
            await self._login(scope, receive, send)
        elif not self._is_known(scope, headers) and scope["path"] not in _OPEN:
            page = scope["path"] == "/"
            await _respond(send, 303 if page else 401, "A token is needed.", {"location": "/login"} if page else {})
        else:
            await self.app(scope, _limited(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._token and not is_loopback(_name(host)):
            return 421, "This page is for this machine; open it as 127.0.0.1 or localhost."
        page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and not scope["path"].startswith("/api/")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin.partition("://")[2] != host or site not in ("same-origin", "none")
        if foreign and not page:
            return 403, "Requests of other sites are refused."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return 413, "The request is too large."
        return None

    def _is_known(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        if not self._token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.encode(), self._token.encode()):
            return True
        cookies = cookie_parser(headers.get("cookie", ""))  # others may be of any form: ports share them
        given = cookies.get(_cookie(scope), "")
        return hmac.compare_digest(given.encode(), self._session.encode())

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > LARGEST_BODY or message["type"] == "http.disconnect":
                return await _respond(send, 413, "The request is too large.")
            if not message.get("more_body"):
                break
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            await asyncio.sleep(_PAUSE)
            return await _respond(send, 303, "", {"location": "/login?wrong"})
        cookie = f"{_cookie(scope)}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        await _respond(send, 303, "", {"location": "/", "set-cookie": cookie})


def _cookie(scope: Scope) -> str:
    server = scope.get("server")
    return f"{COOKIE}_{server[1] if server else ''}"


def _name(host: str) -> str:
    """A Host header without its port; empty if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _limited(receive: Receive) -> Receive:
    """Ends a body that grows too large although its length was not announced."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > LARGEST_BODY else message

    return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(
                (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in own
            )]  # fmt: skip
        await send(message)

    return sending


async def _respond(send: Send, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    body: dict[str, Any] = {"error": text}
    data = json.dumps(body).encode()
    every = {**HEADERS, "content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": data})
