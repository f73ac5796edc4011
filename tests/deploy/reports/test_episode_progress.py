"""The progress of scoring, drawn for real on a recorded terminal and on a plain stream."""

import io

import pytest
from rich.console import Console

from actors.envs import make
from actors.evaluation import run_episodes
from actors.trivial_policies import RandomPolicy
from deploy.reports.episode_progress import EpisodeProgress
from deploy.reports.summary import _play
from deploy.wiring.config import RunConfig


class Clock:
    """A second passes at every look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def played(console: Console, line_seconds: float = 5.0) -> str:
    makers = [lambda: make("gym:CartPole-v1")] * 2
    policy = RandomPolicy(makers[0]().action_space, 0)
    with EpisodeProgress("random", 4, console=console, line_seconds=line_seconds, clock=Clock()) as progress:
        result = run_episodes(makers, policy, 4, seed=0, watch=progress.update)
        last = progress.line()
    assert last.startswith(f"random: 4/4 episodes, mean {result.mean:.1f} so far, ")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_come_at_their_interval() -> None:
    lines = played(Console(file=io.StringIO(), force_terminal=False)).splitlines()
    assert lines[0].startswith("random: 0/4 episodes, ") and "mean" not in lines[0]
    assert any(line.startswith(("random: 1/4 episodes, mean ", "random: 2/4 episodes, mean ")) for line in lines)
    assert all(line.count("frames/s, 0:") + line.count("frames/s, 1:") == 1 for line in lines)


def test_what_is_over_soon_prints_no_line() -> None:
    assert played(Console(file=io.StringIO(), force_terminal=False), line_seconds=1e9) == ""


def test_a_terminal_has_a_bar_that_leaves_nothing_behind() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"})
    shown = played(console)
    assert "4/4 episodes" in shown and "\u2501" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "the bar's line is erased"


def test_scoring_shows_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    monkeypatch.setenv("TERM", "xterm")
    config = RunConfig(task="gym:CartPole-v1")
    _play(config, RandomPolicy(make(config.task).action_space, 0), 2, "random", False, "random")
    said = capsys.readouterr()
    assert "random: 2/2 episodes" in said.err and said.out == ""
