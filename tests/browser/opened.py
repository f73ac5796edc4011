"""A page of the monitor on which nothing may fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def opened(browser: "Browser", address: str, view: str, there: str, refused: str = "") -> Iterator["Page"]:
    """The page at `view`, once the selector `there` is found.

    At the end no error may have occurred, apart from lines of the console with `refused` in them, and nothing may have
    been asked of another server.
    """
    wrong: list[str] = []
    own = urlsplit(address).netloc

    def console(kind: str, text: str) -> None:
        if kind == "error" and not (refused and refused in text):
            wrong.append(text)

    def asked(url: str) -> None:
        if urlsplit(url).netloc != own and not url.startswith(("blob:", "data:")):
            wrong.append(url)

    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(60_000)  # ms
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: console(said.type, said.text))
        page.on("request", lambda request: asked(request.url))
        page.goto(f"{address}{view}")
        page.wait_for_selector(there)
        yield page
    assert not wrong
