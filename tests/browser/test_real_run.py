"""The page beside a real local run: it is scaled and stopped from there, loses a worker, and stalls."""

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy.stored.run_status import read_status
from tests.deploy.monitor.written_runs import served
from tests.integration.processes import end_all, start_marked
from tests.integration.runs import command, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
PATIENCE = 120_000  # milliseconds


def _process(logdir: Path, name: str) -> int:
    status: Any = read_status(logdir)
    return int(status["processes"][name]["process"])


def _scale(page: "Page", button: str, presses: int, target: int) -> None:
    """Ask for another number of workers, and wait until the page shows them."""
    for _ in range(presses):
        page.get_by_role("button", name=button).click()
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("button", name=f"Scale to {target}").click()
    page.wait_for_selector(f"h2:has-text('{target} of {target} running')", timeout=PATIENCE)


def test_a_run_is_scaled_loses_a_worker_stalls_and_is_stopped(browser: "Browser", tmp_path: Path) -> None:
    logdir = tmp_path / "runs" / "a"
    options = ["--mode", "local", "--frames", "10000000", "--log-every", "5", "--alerts.stall-seconds", "15"]
    supervisor = start_marked(tmp_path, command("gym:CartPole-v1", logdir, *options, "--actor.actors", "2"))
    try:
        wait_for(lambda: (logdir / "status.json").exists() or supervisor.poll(), "the run to begin")
        with served(tmp_path / "runs", home=tmp_path) as address, browser.new_context() as context:
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"{address}#/fleet")
            page.wait_for_selector("h2:has-text('2 of 2 running')")
            _scale(page, "One more worker", 2, 4)
            page.wait_for_selector("tr:has(b:text-is('actor 3')) .training:text-is('acting')")

            os.kill(_process(logdir, "actor 3"), signal.SIGKILL)
            page.wait_for_selector(".events li:has(b:text-is('actor 3'))")
            page.wait_for_selector("tr:has(b:text-is('actor 3')) td:nth-child(7):text-is('1')")
            page.wait_for_selector("tr:has(b:text-is('actor 3')) .training:text-is('acting')")

            learner = _process(logdir, "learner")
            os.kill(learner, signal.SIGSTOP)
            try:
                page.wait_for_selector(".tabs .alarm:text-is('1')")
            finally:
                os.kill(learner, signal.SIGCONT)
            page.keyboard.press("6")
            page.wait_for_selector("h1:text-is('All is well')")
            page.wait_for_selector("text=stall is over")

            page.keyboard.press("5")
            _scale(page, "One fewer worker", 3, 1)
            page.get_by_role("button", name="Stop", exact=True).click()
            page.get_by_role("button", name="Stop it").click()
            assert supervisor.wait(300) == 0
            page.wait_for_selector(".state-chip:text-is('ended')")
        restarts = [json.loads(line) for line in (logdir / "restarts.jsonl").read_text().splitlines()]
        assert [one["process"] for one in restarts] == ["actor 3"]
    finally:
        end_all(tmp_path)
