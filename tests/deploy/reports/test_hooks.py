"""Functions of the user: called with each line, their numbers added, their mistakes named without ending the run."""

import time
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.reports.hooks import SLOW, Hooks
from deploy.wiring.config import HooksConfig

LINE = {"frames": 10, "updates": 2, "score": 1.5, "kind": "train"}

MODULE = """
import sys, time
seen = []

def report(line):
    seen.append(dict(line))
    line.clear()
    return {"double": 2 * seen[-1]["score"], "flag": True}

def silent(line): ...
def bad_names(line): return {"score": 1, "": 2, 3: 4, "seed": 5, "text": "x", "nan": float("nan"), "good": 1.0}
def many(line): return {f"m{n:03}": n for n in range(103)}
def a_list(line): return [1]
def leaves(line): sys.exit(3)

def fails(line):
    return line["goal"]

def slow(line):
    time.sleep(1.5)
    return {"late": 1}

class Counter:
    def __init__(self): self.calls = 0
    def __call__(self, line):
        self.calls += 1
        return {"calls": self.calls}
count = Counter()
text = "not a function"
async def waits(line): ...
def yields(line): yield 1
def nothing(): ...
def two(line, more): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user that was never imported before."""
    name = f"hooks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return name


def call(path: str, times: int = 1) -> tuple[dict[str, float], list[str]]:
    notes: list[str] = []
    hooks = Hooks(HooksConfig(on_episode_end=path), notes.append)
    return [hooks.episode_end(LINE) for _ in range(times)][-1], notes


def test_numbers_are_returned_and_the_line_is_a_copy(module: str) -> None:
    assert call(f"{module}:report", 2) == ({"double": 3.0, "flag": 1}, [])
    assert LINE["score"] == 1.5
    assert call(f"{module}:silent") == ({}, [])
    assert call(f"{module}:count", 3) == ({"calls": 3}, [])
    assert call("builtins:print") == ({}, [])
    assert Hooks(HooksConfig(on_train_result=f"{module}:report")).train_result(LINE) == {"double": 3.0, "flag": 1}
    assert Hooks(HooksConfig()).episode_end(LINE) == Hooks(HooksConfig()).train_result(LINE) == {}


def test_what_cannot_be_added_is_named_once(module: str) -> None:
    numbers, notes = call(f"{module}:bad_names", 2)
    assert numbers == {"good": 1.0}
    title = f"hooks.on_episode_end={module}:bad_names: returned "
    assert notes == [
        f"{title}'score', which the line has already: left out.",
        f"{title}'', which cannot be the name of a metric: left out.",
        f"{title}'seed', which the line has already: left out.",
        f"{title}'text', which is a str, not a number: left out.",
        f"{title}'nan', which is nan: left out.",
    ]
    assert call(f"{module}:a_list", 2)[1] == [
        f"hooks.on_episode_end={module}:a_list: returned a list; return None or a dictionary of numbers."
    ]
    numbers, notes = call(f"{module}:many", 2)
    assert list(numbers) == [f"m{n:03}" for n in range(100)] and len(notes) == 1 and "m100, m101, m102" in notes[0]


@pytest.mark.parametrize(
    ("function", "what"), [("fails", "KeyError: 'goal'"), ("leaves", "tried to end the program with code 3")]
)
def test_an_error_is_noted_once_with_its_place(module: str, function: str, what: str) -> None:
    numbers, notes = call(f"{module}:{function}", 3)
    assert numbers == {} and len(notes) == 1
    assert f"{module}.py, line " in notes[0] and f"in {function}: " in notes[0] and what in notes[0]
    assert notes[0].endswith("The run goes on.")


def test_a_slow_hook_is_noted_while_it_runs(module: str) -> None:
    at: list[float] = []
    began = time.monotonic()
    hooks = Hooks(HooksConfig(on_train_result=f"{module}:slow"), lambda line: at.append(time.monotonic()))
    assert hooks.train_result(LINE) == hooks.train_result(LINE) == {"late": 1}
    assert len(at) == 1 and SLOW <= at[0] - began < time.monotonic() - began


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("reprot", r"has no 'reprot'\. The nearest are report\."),
        ("text", r"text is a str, not a function; write def text\(line\)"),
        ("waits", "waits is a coroutine or generator"),
        ("yields", "yields is a coroutine or generator"),
        ("nothing", r"called with one argument, a dictionary: too many positional arguments; write def nothing"),
        ("two", "called with one argument, a dictionary: missing a required argument: 'more'"),
    ],
)
def test_a_function_that_does_not_fit_is_refused(module: str, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        call(f"{module}:{function}")
    assert str(raised.value).startswith(f"hooks.on_episode_end={module}:{function}: ")


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, module: str) -> None:
    with pytest.raises(ValueError, match=r"there is no module 'no_such' in .*; run the command in the folder"):
        call("no_such.module:report")
    (tmp_path / f"{module}_bad.py").write_text("\n1 / 0\n")
    with pytest.raises(ValueError, match=r"_bad\.py, line 2, in <module>: ZeroDivisionError"):
        call(f"{module}_bad:report")
    (tmp_path / f"{module}_needs.py").write_text("import no_such_thing\n")
    with pytest.raises(ValueError, match=r"_needs\.py, line 1, .*No module named 'no_such_thing'"):
        call(f"{module}_needs:report")


@pytest.mark.parametrize("path", ["report", ":report", "mine:", "mine.py:report", "my module:report", "a:b:c"])
def test_a_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"hooks\.on_train_result=.* is not of the form module:function"):
        HooksConfig(on_train_result=path)


@pytest.mark.parametrize("mode", ["inline", "local"])
def test_a_run_with_a_wrong_hook_does_not_begin(
    module: str, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: list[Any] = ["train", "gym:CartPole-v1", "--mode", mode, "--logdir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--hooks.on-train-result", f"{module}:nothing"])
    assert ended.value.code == 2 and not (tmp_path / "run").exists()
    assert capsys.readouterr().err.count("called with one argument, a dictionary") == 1
