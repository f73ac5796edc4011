"""Modules of environments that cannot be imported, and packages that are missing."""

import itertools
import sys
from pathlib import Path

import gymnasium
import pytest

from actors.envs import make

_numbers = itertools.count()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:\n", "line 1: SyntaxError: invalid syntax. Correct that line."),
        ("\nimport nosuchpackage_xyz\n", "line 2, in <module>: ModuleNotFoundError.*pip install nosuchpackage_xyz"),
        ("import sys\nsys.exit(0)\n", "line 2, in <module>: .*tried to end the program"),
        ("1 / 0\n", "line 1, in <module>: ZeroDivisionError: division by zero"),
        ("import os\nx = 1\0\n", "line 2: SyntaxError: a NUL byte; save the file as UTF-8. Correct that line."),
        ("# coding: nosuch\n", "line 1: SyntaxError: unknown encoding: nosuch. Correct that line."),
        ("import os\nx = '\udcff'\n", "line 2: SyntaxError: .*can't decode byte 0xff.*. Correct that line."),
        (f"x = {'-' * 200_000}1\n", "line 1: SyntaxError: MemoryError. Correct that line."),
        ("\nexec('x = (')\n", "line 2, in <module>: SyntaxError: '.' was never closed. Correct that line."),
    ],
    ids=range(9),
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    module = f"module_{next(_numbers)}_of_tests"
    (tmp_path / f"{module}.py").write_text(source, encoding="utf-8", errors="surrogateescape")
    (tmp_path / f"user_of_{module}.py").write_text(f"\nimport {module}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (module, f"user_of_{module}"):
        with pytest.raises(ValueError, match=message) as caught:
            make(f"gym:{name}:C-v0")
        assert f"gym:{name}:C-v0': {tmp_path / f'{module}.py'}, line" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "did not register 'C-v0' with Gymnasium"),
        ("import gymnasium\ngymnasium.register('C-v0', vector_entry_point='nothing:Env')\n", "'nothing:Env' alone"),
    ],
)
def test_a_module_that_registers_no_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    module = f"module_{next(_numbers)}_of_tests"
    name = f"NexusImports{next(_numbers)}-v0"
    (tmp_path / f"{module}.py").write_text(source.replace("C-v0", name))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message.replace("C-v0", name)) as caught:
        make(f"gym:{module}:{name}")
    assert str(tmp_path / f"{module}.py") in str(caught.value)


def test_a_missing_emulator_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ale_py")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    for name in [name for name in gymnasium.registry if name.startswith("ALE/")]:
        monkeypatch.delitem(gymnasium.registry, name)
    for task in ("gym:ALE/Pong-v5", "gym:ale_py:ALE/Pong-v5"):
        with pytest.raises(ValueError, match="pip install ale-py") as caught:
            make(task)
        assert "Ant" not in str(caught.value) and "ale_py.py" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "package", "extra"),
    [
        ("gym:LunarLander-v3", "Box2D", "box2d"),
        ("crafter_reward", "crafter", "crafter"),
        ("minigrid_empty_8x8", "minigrid", "minigrid"),
        ("gym:MiniGrid-Empty-8x8-v0", "minigrid", "minigrid"),
        ("gym:minigrid:MiniGrid-Empty-8x8-v0", "minigrid", "minigrid"),
        ("memory_maze_9x9", "memory_maze", "memory_maze"),
    ],
)
def test_missing_extras_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, task: str, package: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.startswith((package, "gymnasium.envs.box2d"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in gymnasium.registry if name.startswith("MiniGrid-")]:
        monkeypatch.delitem(gymnasium.registry, name)
    with pytest.raises(ValueError, match=rf'pip install "nexus-worlds\[{extra}\]"') as caught:
        make(task)
    assert package in str(caught.value)
