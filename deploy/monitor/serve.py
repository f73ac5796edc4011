"""Running the server until it is stopped."""

import socket
from collections.abc import Callable

import uvicorn

from deploy.monitor.access import is_loopback
from deploy.monitor.server import application
from deploy.monitor.views import Views

_HEAD = 1 << 15  # bytes of a request's head


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


def serve(views: Views, listening: socket.socket, token: str, ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C; `ready` is told the address of the page. ValueError: others would reach it without a
    token."""
    host, port = listening.getsockname()[:2]
    if not token and not is_loopback(host):
        raise ValueError(f"{host} can be reached from other machines, so a token is needed.")
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        application(views, token), log_level="warning", access_log=False, server_header=False, date_header=False,
        h11_max_incomplete_event_size=_HEAD, ws_max_size=1 << 12, ws_per_message_deflate=False, http="h11",
        limit_concurrency=256, timeout_graceful_shutdown=2, lifespan="on", proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    ready(f"http://{shown}:{port}/")
    server.run([listening])
