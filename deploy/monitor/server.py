"""The server of the page: its files, what it asks for as JSON, and a websocket that says what is new."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from deploy.monitor.access import Access
from deploy.monitor.answers import Answer, to_text
from deploy.monitor.curves import Question
from deploy.monitor.questions import MissingError, QuestionError, asked
from deploy.monitor.serve import PAGE, add_files
from deploy.monitor.videos import picture
from deploy.monitor.views import Shown, Views

TICK = 0.4  # seconds between two looks at the runs
MOST_LISTENERS = 64
_log = logging.getLogger(__name__)


class Listeners:
    """The pages that are open. One that does not keep up misses messages: it asks for everything anyway."""

    def __init__(self) -> None:
        self.queues: set[asyncio.Queue[str]] = set()

    def tell(self, message: dict[str, Any]) -> None:
        """Send to all."""
        text = to_text(message)
        for queue in self.queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(text)


async def follow(views: Views, listeners: Listeners) -> None:
    """Look at the runs until cancelled. A look that fails is logged, and does not end the others."""
    said = ""
    while True:
        try:
            changed, gone, alarmed = await asyncio.to_thread(views.look)
        except Exception as error:
            if repr(error) != said:
                _log.exception("Looking at the runs failed; the page may be out of date.")
            said = repr(error)
        else:
            said = ""
            if changed or gone or alarmed:
                listeners.tell({"changed": changed, "gone": gone, "alarmed": alarmed})
        await asyncio.sleep(TICK)


def application(views: Views, token: str = "") -> Any:
    """The ASGI application; `token`: empty for a server that only this machine reaches."""
    listeners = Listeners()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(follow(views, listeners))
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=3)
    app.add_exception_handler(QuestionError, _wrong)
    app.add_exception_handler(MissingError, _missing)
    app.add_exception_handler(Exception, _failed)  # uvicorn logs it too
    add_files(app, PAGE)
    _add_questions(app, views)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if len(listeners.queues) >= MOST_LISTENERS:
            await socket.close(1013)
            return
        queue: asyncio.Queue[str] = asyncio.Queue(32)
        listeners.queues.add(queue)
        try:
            await _serve_listener(socket, queue)
        finally:
            listeners.queues.discard(queue)

    return Access(app, token)


async def _serve_listener(socket: WebSocket, queue: "asyncio.Queue[str]") -> None:
    async def send() -> None:
        while True:
            await socket.send_text(await queue.get())

    async def until_gone() -> None:
        while True:
            await socket.receive_text()

    tasks = [asyncio.create_task(send()), asyncio.create_task(until_gone())]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await task


def _wrong(_: Request, error: Exception) -> Response:
    return Answer({"error": str(error)}, 400)


def _missing(_: Request, error: Exception) -> Response:
    return Answer({"error": str(error.args[0]) if error.args else "not found"}, 404)


def _failed(_: Request, error: Exception) -> Response:
    return Answer({"error": f"The monitor failed ({type(error).__name__}); its log says more."}, 500)


def _add_questions(app: FastAPI, views: Views) -> None:
    @app.get("/api/runs")
    def runs(filter: str = "") -> Response:
        return Answer(views.table(Shown(filter)))

    @app.get("/api/curves")
    def curves(
        task: str, axis: str = "frames", value: str = "score", kind: str = "train", statistic: str = "mean",
        bins: int = 50, filter: str = "", hidden: str = "",
    ) -> Response:  # fmt: skip
        question = Question(axis=axis, value=value, kind=kind, statistic=statistic, bins=bins)  # type: ignore[arg-type]
        return Answer(views.curves(task, question, _shown(filter, hidden)))

    @app.get("/api/suite")
    def suite(
        task: str, axis: str = "frames", kind: str = "train", statistic: str = "mean", bins: int = 50, at: float = 0.0,
        goal: float = 0.5, value: str = "score", filter: str = "", hidden: str = "",
    ) -> Response:  # fmt: skip
        question = Question(axis=axis, value=value, kind=kind, statistic=statistic, bins=bins)  # type: ignore[arg-type]
        return Answer(views.suite(task, question, at, goal, _shown(filter, hidden)))

    @app.get("/api/metrics")
    def metrics(filter: str = "", hidden: str = "") -> Response:
        return Answer(views.metric_names(_shown(filter, hidden)))

    @app.get("/api/metric")
    def metric(
        name: str, axis: str = "frames", decay: float = 0.0, log: bool = False, task: str = "", filter: str = "",
        hidden: str = "",
    ) -> Response:  # fmt: skip
        return Answer(views.metric(name, axis, decay, log, task, _shown(filter, hidden)))  # type: ignore[arg-type]

    @app.get("/api/configuration")
    def configuration(runs: str, all: bool = False) -> Response:
        return Answer(views.difference([name for name in runs.split(",") if name], all))

    @app.get("/api/fleet")
    def fleet(run: str) -> Response:
        return Answer(views.fleet(run))

    @app.get("/api/health")
    def health(run: str, after: str = "") -> Response:
        return Answer(views.health(run, after))

    @app.get("/api/runs/{run}/videos/{name}")
    def video(run: str, name: str, request: Request) -> Response:
        return picture(views.place_of(run), name, request.headers)

    @app.get("/api/alerts")
    def alerts() -> Response:
        return Answer(views.alarms())

    asking = asyncio.Semaphore(2)  # each takes a thread for a while

    @app.post("/api/runs/{name}/control")
    async def control(name: str, request: Request) -> Response:
        body = await _body(request)
        async with asking:
            return Answer(await asyncio.to_thread(views.steer, name, body))

    @app.post("/api/runs/{name}/notes")
    async def notes(name: str, request: Request) -> Response:
        return Answer(await asyncio.to_thread(views.annotate, name, await _body(request)))


def _shown(filter: str, hidden: str) -> Shown:
    return Shown(filter, frozenset(hidden.split(",")) - {""})


async def _body(request: Request) -> Any:
    """QuestionError: it is not JSON, or not said to be."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise QuestionError("Send application/json.")
    data = await request.body()
    try:
        with asked():
            return json.loads(data)
    except RecursionError as error:
        raise QuestionError("The request is nested too deeply.") from error
