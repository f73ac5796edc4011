"""The display, drawn for real on a recorded terminal and on a plain stream."""

import io
import math
import os
import subprocess
import sys
import termios

import pytest
from rich.console import Console

from deploy.reports.display import duration, sparkline
from deploy.reports.progress import Progress, Status
from tests.integration.runs import environment


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_come_at_their_interval_and_once_at_the_end() -> None:
    console, clock = plain(), Clock()
    with Progress(
        task="gym:CartPole-v1", total_frames=1000, train_ratio=32, console=console, line_seconds=10, clock=clock
    ) as progress:
        for step in range(25):
            clock.now = 100.0 + step
            progress.update(Status(frames=step * 10, updates=step, train_ratio=31.8, policy_lag=2))
        assert len(shown(console).splitlines()) == 3  # at 0, 10 and 20 seconds
    last = shown(console).splitlines()[-1]
    assert last.startswith("240/1,000 frames (24%)")
    assert "train ratio 31.8 of 32" in last
    assert "policy lag 2  " in last
    assert "elapsed 0:24" in last
    assert "ETA 1:16" in last  # 760 frames at 10 a second
    assert "eval" not in last  # not known yet, so not shown


def test_eta_follows_the_recent_pace_not_the_frames_of_an_earlier_session() -> None:
    clock = Clock()
    progress = Progress(task="t", total_frames=10_000, train_ratio=1, console=plain(), clock=clock)
    assert progress.eta() is None
    progress.update(Status(frames=3000, updates=9))  # continued from a checkpoint
    assert progress.eta() is None
    for second in range(1, 401):
        clock.now = 100.0 + second
        rate_so_far = 10 * min(second, 200) + 20 * max(0, second - 200)
        progress.update(Status(frames=3000 + rate_so_far, updates=9))
    assert progress.eta() == pytest.approx((10_000 - 9000) / 20)


def test_filling_replay_says_nothing_about_the_pace_of_training() -> None:
    clock = Clock()
    progress = Progress(task="t", total_frames=1000, train_ratio=1, console=plain(), clock=clock)
    for second in range(10):
        clock.now += 1
        progress.update(Status(frames=50 * second))
        assert progress.eta() is None
    for second in range(10):
        clock.now += 1
        progress.update(Status(frames=500 + second, updates=1 + second))
    assert progress.eta() == pytest.approx(491)


def test_what_the_run_stops_at_is_shown_and_the_rest_is_a_bound() -> None:
    clock = Clock()
    progress = Progress(task="t", total_frames=1000, train_ratio=1, stop_score=490, console=plain(), clock=clock)
    for second in range(11):
        clock.now += 1
        progress.update(Status(frames=second, updates=1))
    assert "stops at eval 490" in progress.line() and "ETA at most 16:30" in progress.line()
    progress.update(Status(frames=11, updates=1, solved=True, doing="solved"))
    assert "ETA" not in progress.line() and progress.line().endswith("solved")


def test_the_panel_shows_every_number_and_keeps_notes() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=90, color_system=None, legacy_windows=False)
    with Progress(task="dmc_walker_walk", total_frames=500_000, train_ratio=512, console=console) as progress:
        for score in (10.0, 200.0, 412.3):
            progress.update(
                Status(
                    frames=123_456,
                    updates=7890,
                    score=score,
                    eval_score=455.5,
                    fps_env=88,
                    train_ratio=511,
                    policy_lag=3,
                    replay_items=120_000,
                    replay_gb=0.5,
                    doing="evaluating",
                )
            )
        progress.note("checkpoint [7890] saved")
    text = shown(console)
    wanted = ["dmc_walker_walk", "123,456 / 500,000 frames", "412.3", "455.5", "7,890", "511 of 512", "120k (0.5 GB)"]
    for part in [*wanted, "evaluating", "checkpoint [7890] saved", "best 412.3"]:
        assert part in text


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Progress(task="t", total_frames=10, train_ratio=1, console=console) as progress:
        progress.update(Status(frames=5))
    assert "5/10 frames (50%)" in shown(console)
    assert "╭" not in shown(console)


def test_sparkline_and_duration() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([0, math.inf, 7, math.nan], 4) == "▁█"  # the thread that draws would end
    assert sparkline([-math.inf], 4) == ""
    assert sparkline([3.0, 3.0], 10) == "▁▁"
    assert [duration(n) for n in (5, 65, 3661, 90061)] == ["0:05", "1:05", "1:01:01", "1d 1:01:01"]


IN_A_TERMINAL = """
import fcntl, sys, termios
from deploy.reports.progress import Progress, Status
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with Progress(task="t", total_frames=10, train_ratio=1) as progress:
    progress.update(Status(frames=1))
    progress.note("typing")
    assert sys.stdin.readline() == "first\\n" and sys.stdin.readline() == "second\\n"
print("over")
"""


def test_keys_leave_the_panel_of_a_terminal_alone() -> None:
    terminal, its = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL], env=environment() | {"TERM": "xterm"}, stdin=its, stdout=its, stderr=its,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(its)
        try:
            seen = _until(b"typing", terminal)
            for keys in (b"first\n", b"second\n"):
                os.write(terminal, keys)
            seen += _until(b"over", terminal)
            assert termios.tcgetattr(terminal)[3] & termios.ECHO
        finally:
            process.kill()
            os.close(terminal)
    assert b"first" not in seen and b"second" not in seen, seen.decode()
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h") == 1  # the cursor is back


def _until(mark: bytes, terminal: int) -> bytes:
    seen = b""
    while mark not in seen:
        seen += os.read(terminal, 4096)
    return seen
