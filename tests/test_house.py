"""The shape of the tree: what lies where, how long files are, and what no file may do."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("actors", "learner", "replay", "world_models", "deploy")
TOP = {
    *PACKAGES,
    "tests",
    "pyproject.toml",
    "docker-compose.yml",
    "constraints.txt",
    "README.md",
    "Makefile",
    "LICENSE",
}
EMPTY_NAMES = {"utils", "util", "common", "tools", "helpers", "helper", "misc"}
LONGEST = 400  # lines of a file
LONGEST_CLASS = 250  # lines of a class, its docstring included
MOST = 22  # Python files of a folder


def tracked() -> list[Path]:
    """Files that git tracks or would track; without git, every file outside dot folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=True).stdout
        paths = [Path(line) for line in listing.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        paths = [path for path in paths if path.parts[0] in TOP and "__pycache__" not in path.parts]
    return [path for path in paths if (ROOT / path).is_file()]


def sources() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def test_the_top_level_is_as_designed() -> None:
    names = {path.parts[0] for path in tracked()}
    assert not {name for name in names - TOP if not name.startswith(".")}
    assert not TOP - names


def test_files_are_short_and_named_for_what_they_hold() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources()}
    assert len(lengths) > 20
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST}
    assert not [path for path in sources() if path.stem in EMPTY_NAMES]


def test_no_class_does_everything() -> None:
    lengths: dict[str, int] = {}
    for path in sources():
        if path.parts[0] in PACKAGES:
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.ClassDef):
                    lengths[f"{path}: {node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    assert len(lengths) > 20
    assert not {name: n for name, n in lengths.items() if n > LONGEST_CLASS}


def test_rooms_are_small_and_say_what_they_hold() -> None:
    rooms: dict[str, int] = {}
    for path in sources():
        if path.parts[0] in PACKAGES:
            rooms[str(path.parent)] = rooms.get(str(path.parent), 0) + 1
    assert not {room: files for room, files in rooms.items() if files > MOST}
    unsaid = [room for room in rooms if not ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))]
    assert not unsaid


def breaches(source: str) -> Iterator[str]:
    """What must not stand in a module that may load files: anything that can run code found in data."""
    loaders = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {name.name}" for name in names if name.name.split(".")[0] in loaders)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in loaders:
                yield f"from {module}"
            case ast.ImportFrom(module="__future__", names=names) if any(n.name == "annotations" for n in names):
                yield "from __future__ import annotations"  # hides the shapes from jaxtyping
            case ast.keyword(arg="allow_pickle", value=value) if not _is(value, False):
                yield "allow_pickle"
            case ast.keyword(arg="weights_only", value=value) if not _is(value, True):
                yield "weights_only"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=keywords):
                if not any(keyword.arg == "weights_only" for keyword in keywords):
                    yield "torch.load"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr="load" | "unsafe_load" | "full_load")):
                yield "yaml.load"


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_loads_pickles() -> None:
    found = {str(path): list(breaches((ROOT / path).read_text())) for path in sources()}
    assert not {path: what for path, what in found.items() if what}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", ["import pickle"]),
        ("from cloudpickle import loads", ["from cloudpickle"]),
        ("np.load(f, allow_pickle=True)", ["allow_pickle"]),
        ("np.load(f, allow_pickle=flag)", ["allow_pickle"]),
        ("np.load(f, allow_pickle=False)", []),
        ("torch.load(f)", ["torch.load"]),
        ("torch.load(f, weights_only=False)", ["weights_only"]),
        ("torch.load(f, weights_only=True)", []),
        ("yaml.load(f, yaml.Loader)", ["yaml.load"]),
        ("yaml.safe_load(f)", []),
        ("from __future__ import annotations", ["from __future__ import annotations"]),
    ],
)
def test_the_check_for_pickles_sees_them(source: str, found: list[str]) -> None:
    assert list(breaches(source)) == found


def test_versions_are_exact_and_come_from_nowhere_in_particular() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.!]*", line)]
    assert {"torch==2.13.0", "mujoco==3.17.0"} <= set(lines)
