"""The server of the page: its files, and a websocket for each world that is played."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from deploy.monitor.access import Access
from deploy.monitor.questions import QuestionError, asked
from deploy.monitor.serve import PAGE as MONITOR_PAGE
from deploy.monitor.serve import add_files
from deploy.play.game import Game
from deploy.play.session import STEPS, Session, packed
from replay.counted import counted

PAGE = Path(__file__).parent / "page"
BUSY, BROKEN = 1013, 1011  # codes of closed websockets: try again later, the server failed
MOST_WAITING = 8  # requests of a page
CALM = 0.3  # seconds without a step after which previews go on
_log = logging.getLogger(__name__)


class Inbox:
    """Requests of a page that are not answered yet. A step that still waits gives way to the next: the world never
    lags behind the keys, however fast they come."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: Any) -> None:
        """QuestionError: too many are waiting."""
        if _is_step(request) and self._waiting and _is_step(self._waiting[-1]):
            self._waiting.pop()
        if len(self._waiting) >= MOST_WAITING:
            raise QuestionError("The page asks faster than it is answered.")
        self._waiting.append(request)
        self._news.set()

    async def get(self, seconds: float) -> Any:
        """The next, once there is one. TimeoutError: there is none for so long."""
        if not self._waiting:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), seconds)
        return self._waiting.popleft()


def application(game: Game, token: str = "", *, players: int, idle: float) -> Any:
    """The ASGI application for as many `players` at a time, each of whom may pause for `idle` seconds; `token`: empty
    for a server that only this machine reaches."""
    thread = ThreadPoolExecutor(1, "worlds")  # whoever asks first is served first
    sessions: set[Session] = set()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        thread.shutdown(cancel_futures=True)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    add_files(app, MONITOR_PAGE, PAGE)

    @app.websocket("/world")
    async def world(socket: WebSocket) -> None:
        await socket.accept()
        if len(sessions) >= players:
            await _end(socket, "full", f"All places are taken: {counted(players, 'player')} at once. Try again later.")
            return
        session = Session(game)
        sessions.add(session)
        try:
            await _play(socket, session, thread, idle)
        finally:
            sessions.discard(session)

    return Access(app, token)


async def _play(socket: WebSocket, session: Session, thread: ThreadPoolExecutor, idle: float) -> None:
    inbox = Inbox()
    tasks = [
        asyncio.create_task(_listen(socket, inbox)),
        asyncio.create_task(_serve(socket, session, inbox, thread, idle)),
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await task


async def _listen(socket: WebSocket, inbox: Inbox) -> None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        try:
            with asked():
                inbox.put(json.loads(message.get("text") or ""))
        except (QuestionError, RecursionError) as error:  # the latter: nested too deeply
            await _end(socket, "error", str(error))
            return


async def _serve(socket: WebSocket, session: Session, inbox: Inbox, thread: ThreadPoolExecutor, idle: float) -> None:
    async def made(function: Callable[..., bytes], *arguments: Any) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)

    await socket.send_bytes(await made(session.hello))
    playing = False
    while True:
        try:
            request = await inbox.get((CALM if playing else 0) if session.previewing else idle)
        except TimeoutError:
            if session.previewing:
                await socket.send_bytes(await made(session.preview))
                continue
            await _end(socket, "idle", f"This world has ended: nobody has played it for {idle / 60:g} minutes.")
            return
        try:
            answer = await made(session.answer, request)
            playing = _is_step(request)
        except QuestionError as error:
            answer = packed("error", text=str(error))
        except Exception:
            _log.exception("A world failed.")
            await _end(socket, "broken", "The world failed; the server's log says more.", BROKEN)
            return
        await socket.send_bytes(answer)


async def _end(socket: WebSocket, kind: str, text: str, code: int = BUSY) -> None:
    await socket.send_bytes(packed(kind, text=text))
    await socket.close(code)


def _is_step(request: Any) -> bool:
    return isinstance(request, dict) and request.get("do") in STEPS
