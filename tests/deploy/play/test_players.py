"""Players of one server: separate worlds, as many as there are places, each as long as it is played."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from deploy.monitor.questions import QuestionError
from deploy.play.server import MOST_WAITING, Inbox, application
from deploy.play.world import PREVIEW
from tests.deploy.monitor.test_server import Client
from tests.deploy.play.test_sessions import read
from tests.deploy.play.written_worlds import fresh, played, small_game, write_world

TOKEN = "a-token-of-some-length"
BEGIN = {"do": "begin", "recording": 0, "frame": 3}


class Page:
    """A page of an application, without a network between them."""

    def __init__(self, app: Any, headers: dict[str, str] | None = None) -> None:
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        named = {"host": "127.0.0.1", **(headers or {})}
        scope = {"type": "websocket", "path": "/world", "query_string": b"", "subprotocols": [], "state": {},
                 "headers": [(name.encode(), value.encode()) for name, value in named.items()]}  # fmt: skip
        self._sent.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self._sent.get, self._heard.put))

    def ask(self, request: Any) -> None:
        text = request if isinstance(request, str) else json.dumps(request)
        self._sent.put_nowait({"type": "websocket.receive", "text": text})

    async def event(self) -> Any:
        return await asyncio.wait_for(self._heard.get(), 30)

    async def hear(self, kind: str) -> tuple[dict[str, Any], np.ndarray]:
        """The next message of a kind; others are skipped."""
        while True:
            event = await self.event()
            assert event["type"] in ("websocket.accept", "websocket.send"), event
            if "bytes" in event and (message := read(event["bytes"]))[0]["kind"] == kind:
                return message

    async def leave(self) -> None:
        self._sent.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(self.task, 30)


def run(play: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(play(), 100)

    asyncio.run(bounded())


def test_two_players_have_separate_worlds() -> None:
    async def play() -> None:
        app = application(small_game(), players=2, idle=60)
        one, two = Page(app), Page(app)
        for page in (one, two):
            page.ask(BEGIN)
            assert (await page.hear("frame"))[0]["step"] == 0
        for number in range(1, 4):
            one.ask({"do": "step", "action": 1})
            assert (await one.hear("frame"))[0]["step"] == number
        two.ask({"do": "step", "action": 1})
        assert (await two.hear("frame"))[0]["step"] == 1
        await one.leave()
        two.ask({"do": "step", "action": 1})
        assert (await two.hear("frame"))[0]["step"] == 2
        await two.leave()

    run(play)


def test_previews_come_while_nothing_is_asked() -> None:
    async def play() -> None:
        page = Page(application(small_game(), players=1, idle=60))
        page.ask(BEGIN)
        for _ in range(PREVIEW):
            assert len((await page.hear("preview"))[1]) == 3
        await page.leave()

    run(play)


def test_a_full_server_says_so_until_somebody_leaves() -> None:
    async def play() -> None:
        app = application(small_game(), players=1, idle=60)
        first = Page(app)
        await first.hear("hello")
        refused = Page(app)
        about, _ = await refused.hear("full")
        assert "All places are taken: 1 player at once" in about["text"]
        assert (await refused.event())["type"] == "websocket.close"
        await first.leave()
        second = Page(app)
        await second.hear("hello")
        await second.leave()

    run(play)


def test_a_world_that_nobody_plays_ends() -> None:
    async def play() -> None:
        app = application(small_game(), players=1, idle=0.5)
        page = Page(app)
        page.ask(BEGIN)
        about, _ = await page.hear("idle")
        assert "nobody has played it" in about["text"]
        assert (await page.event())["type"] == "websocket.close"
        await asyncio.wait_for(page.task, 30)
        other = Page(app)
        await other.hear("hello")
        await other.leave()

    run(play)


def test_nonsense_is_answered_and_the_world_goes_on() -> None:
    async def play() -> None:
        page = Page(application(small_game(), players=1, idle=60))
        page.ask({"do": "step", "action": 99})
        assert "is no request" in (await page.hear("error"))[0]["text"]
        page.ask(BEGIN)
        await page.hear("frame")
        page.ask("{")
        await page.hear("error")
        assert (await page.event())["type"] in ("websocket.close", "websocket.send")
        await asyncio.wait_for(page.task, 30)

    run(play)


def test_steps_that_wait_give_way_to_newer_ones() -> None:
    async def play() -> None:
        inbox = Inbox()
        for action in range(50):
            inbox.put({"do": "step", "action": action})
        assert len(inbox) == 1 and await inbox.get(1) == {"do": "step", "action": 49}
        inbox.put({"do": "step", "action": 0})
        inbox.put({"do": "cut"})
        inbox.put({"do": "step", "action": 1})
        inbox.put({"do": "follow"})
        assert [await inbox.get(1) for _ in range(3)] == [{"do": "step", "action": 0}, {"do": "cut"}, {"do": "follow"}]
        for _ in range(MOST_WAITING):
            inbox.put({"do": "cut"})
        with pytest.raises(QuestionError, match="faster than it is answered"):
            inbox.put({"do": "cut"})
        with pytest.raises(TimeoutError):
            await Inbox().get(0)

    run(play)


def test_the_command_serves_its_page_to_those_with_the_token(tmp_path: Path) -> None:
    write_world(tmp_path / "world", fresh())
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    arguments = ("--start", "generated:block_world", "--token-file", tmp_path / "token")
    with played(tmp_path / "world", *arguments, home=tmp_path) as address:
        client, line = Client(address), f"ws://{urlsplit(address).netloc}/world"
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.ask("/")[1]["location"] == "/login" and client.status("/static/play.js") == 401
        with pytest.raises(InvalidStatus), connect(line):
            pass
        assert b"Actions" in client.ask("/", headers=bearer)[2]
        for name in ("play.js", "play.css", "style.css", "dom.js", "login.js", "vendor/Inter.woff2"):
            assert client.status(f"/static/{name}", headers=bearer) == 200, name
        assert client.status("/static/../server.py", headers=bearer) == 404
        with connect(line, additional_headers=bearer) as socket:
            hello = read(socket.recv(timeout=100, decode=False))[0]
            assert hello["kind"] == "hello" and hello["actions"] == 3
            socket.send(json.dumps(BEGIN))
            assert read(socket.recv(timeout=100, decode=False))[0]["kind"] == "frame"
