"""The page's scores over all tasks of a suite."""

from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.test_monitor import settled
from tests.deploy.monitor.written_runs import served, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_suite_has_statistics_a_profile_and_each_task(browser: "Browser", tmp_path: Path) -> None:
    for task, level in (("walker_walk", 800), ("cheetah_run", 400)):
        for seed in range(3):
            scores = [level * min(1.0, n / 30) + seed for n in range(60)]
            write_run(tmp_path / "runs", f"ours-{task}-{seed}", scores, task=f"dmc_{task}", seed=seed)
    with served(tmp_path / "runs", home=tmp_path) as address, browser.new_context() as context:
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        page.locator(".small[data-task='suite:dmc']").click()
        page.wait_for_selector(".standings [data-statistic=iqm] b:text-is('0.601')")
        assert page.inner_text(".hero h1") == "DMC, all tasks"
        assert "6 of 6 runs" not in page.inner_text(".standings") and "3 of 6 runs" in page.inner_text(".standings")
        page.get_by_label("Normalised score to reach").fill("0.3")
        page.keyboard.press("Enter")
        settled(page, "document.querySelector('.standings').textContent.includes('6 of 6 runs')")
        page.get_by_label("Frames at which scores are compared").fill("1500")
        page.keyboard.press("Enter")
        settled(page, "document.querySelector('.standings').textContent.includes('at 1.5k frames')")
        assert "at=1500" in page.url and page.locator(".suite .plot canvas").is_visible()
        page.locator(".suite summary").click()
        page.get_by_role("button", name="DMC walker walk").click()
        settled(page, "document.querySelector('.hero h1').textContent === 'DMC walker walk'")
        assert page.locator(".suite").count() == 0 and not wrong
