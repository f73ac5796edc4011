"""Human-normalised scores of Atari games."""

import subprocess
import sys

import pytest

from actors.envs.atari.human_scores import SCORES, describe_human_normalised, human_normalised


def test_random_play_is_zero_and_the_human_one() -> None:
    assert len(SCORES) == 26
    for game, reference in SCORES.items():
        assert human_normalised(f"atari_{game}", reference.random) == 0
        assert human_normalised(f"atari_{game}", reference.human) == 1
    assert human_normalised("atari_pong", -20.7 + 0.5 * (14.6 + 20.7)) == pytest.approx(0.5)
    assert human_normalised("atari_breakout", 1.7 + 2 * (30.5 - 1.7)) == pytest.approx(2.0)


def test_other_tasks_have_none() -> None:
    assert describe_human_normalised("atari_boxing", 12.1) == ["human-normalised score: 1.000"]
    assert describe_human_normalised("atari_pitfall", 5.0) == ["human-normalised score: no data"]
    for task in ("dmc_walker_walk", "gym:ALE/Pong-v5", "pong"):
        assert describe_human_normalised(task, 5.0) == []


def test_every_game_is_a_task() -> None:
    pytest.importorskip("ale_py", reason="Atari is an extra: pip install 'nexus-worlds[atari]'")
    from actors.envs.atari.environment import task_names

    assert {f"atari_{game}" for game in SCORES} <= set(task_names())


def test_they_need_no_emulator() -> None:
    program = "import sys, actors.envs.atari.human_scores; print('ale_py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
