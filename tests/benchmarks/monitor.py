"""`python -m tests.benchmarks.monitor`: the page of `nexus monitor` on many runs, in Chromium.

Writes runs of one episode a point, ten runs a configuration, at most ten tasks. Measures the time until the server has
read them all and its memory; then, in a browser, the time from opening the page to its first curves, from a click on
another statistic to the curves drawn with it, from a click on one more option that needs no server, and from the
writing of a new point to the point on the screen.
"""

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch

from deploy.wiring.config import RunConfig
from deploy.wiring.config_file import save_config
from tests.benchmarks.machine import describe, versions
from tests.deploy.monitor.written_runs import add_episodes, served, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

SEEDS = 10
TASKS = 10
LATE = "gym:Pendulum-v1"


def write_runs(folder: Path, runs: int, points: int) -> None:
    """Noisy curves that rise, each run's own."""
    rng = np.random.default_rng(0)
    for number in range(runs):
        group, seed = divmod(number, SEEDS)
        path = folder / f"experiment{group}-{seed}"
        path.mkdir()
        config = replace(RunConfig(), task=f"gym:Task{group % TASKS}-v0", seed=seed, logdir=str(path))
        save_config(replace(config, learner=replace(config.learner, train_ratio=float(group + 1))), path)
        scores = 500 / (1 + np.exp(-np.linspace(-4, 4, points))) + rng.normal(0, 40, points)
        lines = [
            f'{{"frames": {100 * n}, "updates": {10 * n}, "score": {score:.3f}, "length": 100, "seed": {n}, '
            f'"kind": "train", "backend": "gymnasium"}}\n'
            for n, score in enumerate(scores, 1)
        ]
        (path / "scores.jsonl").write_text("".join(lines))


def until_read(address: str, runs: int) -> float:
    """Seconds until every run is in the table."""
    began = time.perf_counter()
    while True:
        with urllib.request.urlopen(f"{address}api/runs", timeout=600) as answer:
            if len(json.load(answer)["runs"]) >= runs:
                return time.perf_counter() - began
        time.sleep(0.2)


def clicked(page: "Page", button: str) -> float:
    """Milliseconds from a click to the next drawing of the large chart."""
    script = """(name) => new Promise((done) => {
        const button = [...document.querySelectorAll("[role=radio]")].find((one) => one.textContent === name);
        const began = performance.now();
        const end = () => requestAnimationFrame(() => done(performance.now() - began));
        addEventListener("nexus-drawn", end, {once: true});
        button.click();
    })"""
    return float(page.evaluate(script, button))


def opened(page: "Page", address: str) -> float:
    """Seconds from opening the page to its first curves."""
    began = time.perf_counter()
    page.goto(f"{address}#/curves")
    page.wait_for_selector(".hero .mark", timeout=120_000)
    return time.perf_counter() - began


def new_point(page: "Page", folder: Path) -> float:
    """Seconds from the writing of a point to the screen; the median of five."""
    path = write_run(folder, "late", [1.0], task=LATE)
    page.wait_for_selector(f".small[data-task='{LATE}'] .last:text-is('1')", timeout=60_000)
    taken = []
    for number in range(1, 6):
        page.wait_for_timeout(700)
        add_episodes(path, [float(100 + number)], start=number)
        began = time.perf_counter()
        page.wait_for_selector(f".small[data-task='{LATE}'] .last:text-is('{100 + number}')", timeout=60_000)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(runs: int, points: int, browser: str) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "runs")
        folder.mkdir()
        write_runs(folder, runs, points)
        with served(folder, home=Path(temporary)) as address, sync_playwright() as started:
            read = until_read(address, runs)
            (server,) = [one for one in psutil.Process().children() if "monitor" in one.cmdline()]
            memory = server.memory_info().rss / 1e9
            chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
            page = chromium.new_page(viewport={"width": 1440, "height": 3000})
            first = opened(page, address)
            page.wait_for_timeout(3000)
            new_statistic = clicked(page, "Median")
            page.wait_for_timeout(2000)
            redrawn = statistics.median(clicked(page, name) for name in ("None", "Each seed", "95 %"))
            point = new_point(page, folder)
            chromium.close()
    return {
        "read_seconds": read, "server_gb": memory, "first_paint_seconds": first,
        "new_statistic_ms": new_statistic, "redraw_ms": redrawn, "new_point_seconds": point,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.monitor", description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=20_000, help="episodes of each run")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    found = measure(options.runs, options.points, options.browser)
    if not options.json:
        for name, value in found.items():
            print(f"{name:22} {value:10.3f}")
    report: dict[str, Any] = {
        "name": f"monitor/{options.runs}x{options.points}", "value": found["first_paint_seconds"], "unit": "s",
        "device": describe(torch.device("cpu")), "versions": versions(), **found,
    }  # fmt: skip
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
