"""Serving a page: its files, and running its server until it is stopped."""

import mimetypes
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp

from deploy.monitor.access import is_loopback
from deploy.monitor.answers import Answer

PAGE = Path(__file__).parent / "page"
"""The monitor's; its style, typeface and login are those of every page."""
_HEAD = 1 << 15  # bytes of a request's head
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("font/woff2", ".woff2")


def page_files(*folders: Path) -> dict[str, Path]:
    """Every file in the folders by its path in the URL: of two with the same path, the last folder's."""
    every = ((folder, path) for folder in folders for path in folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path for folder, path in every if path.is_file()}


def add_files(app: FastAPI, *folders: Path) -> None:
    """Serve `index.html` of these folders at /, and all their files, but nothing else, below /static/."""
    files = page_files(*folders)

    def serve(name: str) -> Response:
        if name not in files:
            return Answer({"error": "There is no such file."}, 404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name].read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/")
    def page() -> Response:
        return serve("index.html")

    @app.get("/login")
    def login() -> Response:
        return serve("login.html")

    @app.get("/static/{name:path}")
    def static(name: str) -> Response:
        return serve(name)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens (port 0: any free port). ValueError: it cannot be opened."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # whoever asks from now on waits until the server is ready
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{host}:{port} cannot be opened: {reason}; choose another --port or --host.") from error
    return listening


def serve(application: ASGIApp, listening: socket.socket, token: str, ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C; `ready` is told the address of the page. ValueError: others would reach it without a
    token."""
    host, port = listening.getsockname()[:2]
    if not token and not is_loopback(host):
        raise ValueError(f"{host} can be reached from other machines, so a token is needed.")
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, server_header=False, date_header=False,
        h11_max_incomplete_event_size=_HEAD, ws_max_size=1 << 12, ws_per_message_deflate=False, http="h11",
        limit_concurrency=256, timeout_graceful_shutdown=2, lifespan="on", proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    ready(f"http://{shown}:{port}/")
    server.run([listening])
