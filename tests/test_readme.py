"""The README's first world model, run as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    """The Python of the section."""
    section = README.read_text().split("### A first world model\n")[1].split("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def executed(changes: dict[str, str]) -> dict[str, Any]:
    """The names that the blocks define, with these changes of their text."""
    program = "\n".join(blocks())
    for old, new in changes.items():
        assert old in program
        program = program.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(program, str(README), "exec"), names)
    return names


def intervals(printed: str) -> list[tuple[float, float]]:
    """Of random actions, then of planned ones."""
    return [(float(low), float(high)) for low, high in re.findall(r"\(([-\d.na]+), ([-\d.na]+)\)", printed)]


def test_it_is_short_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """With few episodes, and one round of learning."""
    assert len([line for line in blocks()[0].splitlines() if line.strip()]) == 20
    names = executed({
        "episodes=30": "episodes=1", "episodes=20": "episodes=1", "episodes=5": "episodes=1", "range(4)": "range(1)",
        "horizon=10": "horizon=1", "epochs=10": "epochs=1",
    })  # fmt: skip
    assert len(intervals(capsys.readouterr().out)) == 2
    assert names["found"].actions.shape == (1, 20, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_plan_is_better_than_random(capsys: pytest.CaptureFixture[str]) -> None:
    executed({})
    random, planned = intervals(capsys.readouterr().out)
    assert planned[0] > random[1]
