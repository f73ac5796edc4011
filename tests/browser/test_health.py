"""The page's view of world models: verdicts, one slider for all videos, and what is new alone is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.opened import opened
from tests.browser.test_monitor import settled
from tests.deploy.monitor.written_health import CONTEXT, STEPS, write_film, write_report
from tests.deploy.monitor.written_runs import served, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHADES = """[...document.querySelectorAll("video")].map((video) => {
    const canvas = new OffscreenCanvas(8, 8);
    const pen = canvas.getContext("2d");
    pen.drawImage(video, 0, 0, 8, 8);
    return video.seeking ? -1 : pen.getImageData(4, 4, 1, 1).data[0];
})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("health")
    for name, wrong, steps in (("good", 0.0, STEPS), ("<b>bad", 1.0, STEPS - 2)):
        run = write_run(path / "runs", name, [1.0, 2.0], fields={"learner.batch_length": 2 * CONTEXT})
        for updates in (100, 200, 300):
            write_report(run, updates, wrong=wrong if updates > 100 else 0.0)
        write_film(run, 300, steps)
    write_run(path / "runs", "none", [1.0])
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder / "runs", home=folder) as found:
        yield found


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    with opened(browser, address, "#/health", ".verdict") as found:
        yield found


def both(page: "Page") -> None:
    page.get_by_label("Compare with").select_option(index=1)
    settled(
        page, "document.querySelectorAll('.patient').length === 2 && document.querySelectorAll('video').length === 2"
    )


def test_verdicts_are_shown_with_what_to_try(page: "Page") -> None:
    both(page)
    bad = page.locator(".patient", has_text="<b>bad")
    assert "unhealthy" in bad.locator("header .state-chip").inner_text()
    card = bad.locator("[data-part=horizon]")
    assert "unhealthy" in card.inner_text() and "Raise learner.batch_length" in card.locator(".remedy").inner_text()
    good = page.locator(".patient", has_text="good")
    assert good.locator("header .state-chip").inner_text() == "healthy" and good.locator(".remedy").count() == 0
    assert good.locator("[data-part=memory]").inner_text().endswith("No sequence is long enough.")
    assert page.locator(".squares svg.square").count() == 4
    assert page.locator(".squares svg.square").first.locator("circle").count() == 60


def test_one_slider_shows_the_same_step_of_every_video(page: "Page") -> None:
    both(page)
    settled(page, f"document.querySelector('.where').textContent.startsWith('step 1 of {STEPS}')")
    page.locator(".health").click(position={"x": 5, "y": 5})
    for key, step in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", STEPS - 1), ("Home", 0)):
        page.keyboard.press(key)
        shades = [20 * step, 20 * min(step, STEPS - 3)]  # in the order of the runs, either way
        settled(page, f"({SHADES}).sort((a, b) => b - a).every((one, n) => Math.abs(one - {shades}[n]) < 7)")
    slider = page.get_by_label("Step of all videos")
    slider.fill("7")
    settled(page, f"({SHADES}).every((one) => Math.abs(one - 140) < 7)")
    assert slider.get_attribute("aria-valuetext") == f"step 8 of {STEPS} · open loop +4"
    slider.fill("3")
    settled(page, "document.querySelector('.where').textContent.endsWith('context')")
    page.locator(".health").click(position={"x": 5, "y": 5})
    page.keyboard.press("Space")
    settled(page, "!document.querySelector('.where').textContent.startsWith('step 4 ')")
    page.keyboard.press("Space")
    assert page.get_by_label("Play (space)").is_visible()


def test_only_what_is_new_is_asked_for(page: "Page", folder: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/api/health" in one.url else None)
    page.goto(page.url.split("#")[0] + "#/curves")
    page.goto(page.url.split("#")[0] + "#/health")
    page.wait_for_selector(".verdict")
    first = len(asked)
    name = page.locator(".patient").get_attribute("data-run")
    run = folder / "runs" / page.locator(".patient h1").inner_text()
    write_report(run, 400, wrong=float("bad" in run.name))
    page.wait_for_selector(".patient .sub:has-text('report of update 400')", timeout=60_000)
    assert all(f"run={name}" in url and "after=" in url for url in asked[first:])
    page.get_by_role("radio", name="reward").click()
    settled(page, "location.hash.includes('hkey=reward')")


def test_a_run_without_reports_says_how_to_get_them(browser: "Browser", tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "none", [1.0])
    with served(tmp_path / "runs", home=tmp_path) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}#/health")
        page.wait_for_selector("h2:text-is('No run has a health report yet')")


def test_a_phone_shows_health_without_scrolling_sideways(browser: "Browser", address: str) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark") as context:
        page = context.new_page()
        page.goto(f"{address}#/health")
        page.wait_for_selector(".verdict")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
