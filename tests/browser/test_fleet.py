"""The page's fleet: steering through the control folder of a run, and alerts. The test plays the run, with the control
folder, lock and status of one."""

import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy.distributed.supervisor.scaling_log import AUTOSCALE, ScalingLog
from deploy.stored.control import ControlFolder
from deploy.stored.run_status import write_status
from deploy.wiring.claim import LOCK
from tests.browser.opened import opened
from tests.deploy.monitor.test_fleet import status
from tests.deploy.monitor.written_runs import served, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run directory that a process holds."""
    path = write_run(tmp_path / "runs", "fleet", [1.0, 2.0])
    write_status(path, status(1.0))
    with (path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def requests(folder: ControlFolder, page: "Page") -> tuple[str, Any]:
    """The next request that the page sends."""
    deadline = time.monotonic() + 20
    while not (taken := folder.take()):
        assert time.monotonic() < deadline, "no request came"
        page.wait_for_timeout(30)
    ((name, request),) = taken
    return name, request


def test_workers_are_shown_scaled_and_alerts_raised(browser: "Browser", run: Path, tmp_path: Path) -> None:
    folder = ControlFolder(run)
    with served(run.parent, home=tmp_path) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}#/fleet")
        page.wait_for_selector("td b:text-is('actor 1')")
        assert "of 16 asked for" in page.inner_text(".tiles")
        page.get_by_role("button", name="One more worker").click()
        page.get_by_role("button", name="Apply").click()
        page.get_by_role("button", name="Cancel").click()
        assert folder.take() == []
        page.get_by_role("button", name="Apply").click()
        page.get_by_role("button", name="Scale to 3").click()
        name, request = requests(folder, page)
        assert request == {"actors": 3}
        folder.answer(name, {"actors": [2, 3], "environments": [4, 6]})
        page.wait_for_selector(".toast:text-is('Workers 2 → 3, environments 4 → 6.')")
        page.get_by_role("button", name="Checkpoint").click()
        name, request = requests(folder, page)
        assert request == {"checkpoint": True}
        folder.answer(name, {"error": "The disk is full."})
        page.wait_for_selector(".toast.bad:text-is('The disk is full.')")
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_role("button", name="Stop it").click()
        name, request = requests(folder, page)
        assert request == {"stop": True}
        folder.answer(name, {"stop": True})
        page.wait_for_selector(".toast:text-is('It saves and ends.')")
        write_status(run, status(2.0, snapshot={"version": 12, "lag_seconds": 999}))
        page.wait_for_selector(".tabs .alarm:text-is('1')", timeout=60_000)
        page.keyboard.press("6")
        page.wait_for_selector(".raised em:text-is('the policies that act are 999 s old on average')")
        write_status(run, status(3.0))
        page.wait_for_selector("h1:text-is('All is well')", timeout=60_000)


def test_a_run_may_choose_the_number_of_its_workers(browser: "Browser", run: Path, tmp_path: Path) -> None:
    folder = ControlFolder(run)
    with (
        served(run.parent, home=tmp_path) as address,
        opened(browser, address, "#/fleet", "td b:text-is('actor 1')") as page,
    ):
        page.get_by_role("button", name="Auto").click()
        page.get_by_role("button", name="Let it choose").click()
        name, request = requests(folder, page)
        assert request == {"actors": "auto"}
        folder.answer(name, {"autoscale": [1, 9]})
        page.wait_for_selector(".toast:text-is('The run chooses the number of workers, 1 to 9.')")
        ScalingLog(run).add(2, 4, AUTOSCALE, "the learner waits for data 50% of its time")
        says = "the learner waits 3% of its time, actors 9%"
        write_status(run, status(2.0, autoscale={"on": True, "least": 1, "most": 9, "says": says}))
        page.wait_for_selector(f"h2:has-text('by the run itself, 1 to 9: {says}')", timeout=60_000)
        assert "2 → 4" in page.inner_text(".events li") and "waits for data 50%" in page.inner_text(".events li")
        assert page.inner_text(".steer").count("chosen by the run") == 1
        assert page.get_by_role("button", name="Auto").count() == 0


def test_requests_that_are_none_are_refused(run: Path, tmp_path: Path, browser: "Browser") -> None:
    folder = ControlFolder(run)
    with served(run.parent, home=tmp_path) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}#/fleet")
        page.wait_for_selector("td b:text-is('actor 1')")
        name = page.evaluate("fetch('/api/runs').then((one) => one.json()).then((all) => all.runs[0].id)")
        for body in ('{"actors": 3, "stop": true}', "{}", "[]", '{"path": "/"}'):
            sent = page.request.post(
                f"{address}api/runs/{name}/control", data=body, headers={"content-type": "application/json"}
            )
            assert sent.status == 400
        assert folder.take() == []
