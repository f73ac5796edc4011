"""The page of `nexus monitor` in a real browser: live, by mouse and by keyboard, and all from this machine."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.opened import opened
from tests.deploy.monitor.written_runs import add_episodes, served, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    for seed in range(3):
        write_run(path / "runs", f"slow-{seed}", [float(n + seed) for n in range(20)], seed=seed)
    write_run(path / "runs", "<i>fast", [float(3 * n) for n in range(20)], fields={"learner.train_ratio": 64.0})
    write_run(path / "runs", "swing", [-500.0, -100.0], task="gym:Acrobot-v1")
    entries = [{"task": "gym:CartPole-v1", "method": "dreamerv3", "seed": 0, "xs": [500, 1500], "ys": [10, 20]}]
    (path / "published.json").write_text(json.dumps(entries))
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder / "runs", "--baselines", folder / "published.json", home=folder) as found:
        yield found


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """On the curves of CartPole. Nothing may fail, and nothing may be asked of another server."""
    view = "#/curves?task=gym:CartPole-v1"
    with opened(browser, address, view, ".legend-list .entry", refused="400") as found:
        yield found


def texts(page: "Page", selector: str) -> list[str]:
    return [str(one) for one in page.locator(selector).all_inner_texts()]


def settled(page: "Page", script: str) -> None:
    """Wait until it is true; asked from outside, since the page allows no code in strings."""
    deadline = time.monotonic() + 15
    while not page.evaluate(script):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(30)


def test_groups_intervals_and_published_curves(page: "Page") -> None:
    names = texts(page, ".legend-list .name")
    assert [name.split("\n")[0] for name in names] == ["<i>fast", "slow", "DreamerV3, published"]
    values = texts(page, ".legend-list .value")
    assert values[0] == "57\n1 seed" and values[1].startswith("20\n19 to 2")
    assert "too few for an interval" in page.inner_text(".how")
    assert texts(page, ".goals li") == ["<i>fast\n1.8k", "slow\nnot yet", "DreamerV3, published\nnot yet"]
    page.get_by_label("Score to reach").fill("15")
    page.keyboard.press("Enter")
    settled(page, "document.querySelector('.goals').innerText.includes('slow\\n1.5k')")
    assert page.locator(".small h2").all_inner_texts() == ["Acrobot-v1"]
    page.get_by_role("button", name="Published").click()
    settled(page, "document.querySelectorAll('.legend-list li').length === 2")
    assert "baselines=off" in page.url
    page.locator("button.entry").nth(1).click()
    settled(page, "document.querySelectorAll('.hero .mark').length === 1")
    page.get_by_role("radio", name="IQM").click()
    settled(page, "document.querySelector('.how').textContent.includes('interquartile mean')")
    page.get_by_role("radio", name="Updates").click()
    settled(page, "document.querySelector('.hero .sub').textContent.includes('gradient updates')")
    again = page.context.new_page()
    again.goto(page.url)
    again.wait_for_selector(".legend-list .entry")
    assert again.get_by_role("radio", name="IQM").get_attribute("aria-checked") == "true"
    assert again.locator("button.entry").nth(1).get_attribute("aria-pressed") == "false"


def test_a_new_point_is_on_the_screen_by_itself(page: "Page", folder: Path) -> None:
    path = write_run(folder / "runs", "late", [1.0], task="gym:Pendulum-v1")
    try:
        page.wait_for_selector(".small[data-task='gym:Pendulum-v1'] .last:text-is('1')", timeout=60_000)
        time.sleep(0.05)
        add_episodes(path, [123.0], start=1)
        page.wait_for_selector(".small[data-task='gym:Pendulum-v1'] .last:text-is('123')", timeout=60_000)
    finally:
        shutil.rmtree(path)
    page.wait_for_selector(".small[data-task='gym:Pendulum-v1']", state="detached", timeout=60_000)


def test_keys(page: "Page") -> None:
    theme = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != theme
    page.keyboard.press("/")
    page.keyboard.type("slow")
    settled(page, "document.querySelectorAll('.legend-list button').length === 1")
    page.keyboard.press("Escape")
    page.locator(".hero .plot").focus()
    page.keyboard.press("ArrowLeft")
    assert "slow" in page.inner_text(".hero .tip")
    page.keyboard.press("+")
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Mean").focus()
    page.keyboard.press("ArrowRight")
    settled(page, "document.activeElement.textContent === 'Median' && location.hash.includes('stat=median')")
    page.keyboard.press("3")
    page.wait_for_selector("table.runs")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")


def test_filters_notes_archive_and_differences(page: "Page", folder: Path) -> None:
    page.goto(page.url.split("#")[0] + "#/runs")
    page.wait_for_selector("tbody tr")
    page.fill("#filter", "train_ratio=64")
    settled(page, "document.querySelectorAll('tbody tr').length === 1")
    page.fill("#filter", "score>oops")
    settled(page, "document.getElementById('filter-error').textContent.includes('not a number')")
    page.fill("#filter", "task:cartpole")
    settled(page, "document.querySelectorAll('tbody tr').length === 4")
    page.get_by_role("button", name="slow-1").click()
    page.get_by_label("Tags, separated by commas").fill("paper, <i>x</i>")
    page.get_by_label("Note").fill("the best one")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("td.name .chip:text-is('<i>x</i>')")
    notes = json.loads((folder / "runs" / "slow-1" / "notes.json").read_text())
    assert notes == {"tags": ["paper", "<i>x</i>"], "note": "the best one", "archived": False}
    page.fill("#filter", "")
    for name in ("<i>fast", "slow-0"):
        page.get_by_label(f"Choose {name}").check()
    page.get_by_role("button", name="Compare configurations").click()
    page.wait_for_selector("table.differences")
    assert "learner.train_ratio" in texts(page, "table.differences th[scope]")
    page.keyboard.press("Escape")
    page.get_by_label("Choose slow-0").uncheck()
    page.get_by_role("button", name="Archive").click()
    settled(page, "![...document.querySelectorAll('td.name')].some((one) => one.textContent.includes('fast'))")
    page.fill("#filter", "is:archived")
    page.get_by_label("Choose <i>fast").check()
    page.get_by_role("button", name="Unarchive").click()
    settled(page, "document.querySelector('td.empty') !== null")


def test_metrics_are_smoothed_pinned_and_downloaded(page: "Page") -> None:
    page.goto(page.url.split("#")[0] + "#/metrics?mtask=gym:CartPole-v1")
    page.wait_for_selector(".metric canvas")
    settled(page, "document.querySelector('.metric footer').textContent.includes('4 runs')")
    assert "decay 0.9, about the last 10 lines" in page.inner_text(".how")
    page.get_by_label("Find a metric").fill("loss/total")
    page.get_by_role("button", name="loss/total", exact=True).click()
    settled(page, "!document.querySelector('[data-name=\"train/loss/total\"]')")
    page.get_by_role("button", name="loss/total", exact=True).click()
    page.wait_for_selector("[data-name='train/loss/total'] canvas")
    page.get_by_role("button", name="Log y").click()
    for kind in ("PNG", "SVG", "CSV"):
        with page.expect_download() as waiting:
            page.locator("[data-name='fps/env']").get_by_role("button", name=kind).click()
        saved = Path(waiting.value.path()).read_bytes()
        assert waiting.value.suggested_filename == f"fps_env.{kind.lower()}" and len(saved) > 300
        assert saved.startswith({"PNG": b"\x89PNG", "SVG": b"<svg", "CSV": b"group,"}[kind])


def test_a_phone_shows_everything_without_scrolling_sideways(browser: "Browser", address: str) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark") as context:
        page = context.new_page()
        ready_when = {
            "curves": ".legend-list .entry",
            "metrics": ".metric canvas",
            "runs": "tbody tr",
            "fleet": ".tile",
        }
        for view, ready in (ready_when | {"alerts": ".rules"}).items():
            page.goto(f"{address}#/{view}")
            page.wait_for_selector(ready)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_token_is_asked_for(browser: "Browser", folder: Path) -> None:
    file = folder / "token"
    file.write_text("a-token-of-some-length")
    file.chmod(0o600)
    with served(folder / "runs", "--token-file", file, home=folder) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        for token, seen in (
            ("wrong", "#wrong:not([hidden])"),
            ("a-token-of-some-length", ".hero canvas"),
        ):
            page.fill("#token", token)
            page.get_by_role("button", name="Open").click()
            page.wait_for_selector(seen)
        page.wait_for_selector(".pulse.up")
        assert "token" not in page.url
