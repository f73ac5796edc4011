"""The import rules of pyproject.toml hold, and each of them catches what it is there for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("actors", "learner", "replay", "world_models", "deploy", "tests")

pytestmark = pytest.mark.timeout(120)


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=100)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, to plant a violation in."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda folder, names: [
                name
                for name in names
                if not (name.endswith(".py") or (Path(folder) / name).is_dir()) or name == "__pycache__"
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_keeps_the_rules() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        ("replay", "import torch", "The replay needs no torch"),
        ("replay", "import world_models", "deploy -> actors | learner -> world_models | replay"),
        ("learner", "import actors", "deploy -> actors | learner -> world_models | replay"),
        ("actors", "import deploy", "deploy -> actors | learner -> world_models | replay"),
        ("learner", "def start():\n    import ray", "Only deploy knows Ray"),
        ("deploy", "import redis", "Only replay knows Redis"),
        ("world_models", "import tests", "Nothing imports the tests"),
        ("world_models/dreamer", "import world_models.genie", "Model families and planners stand alone"),
        ("deploy", "import torch", None),  # deploy may, but for the modules that the supervisor is made of
        ("deploy/metrics.py", "import torch", "What the supervisor is made of needs no torch"),
    ],
)
def test_a_planted_violation_is_caught(tree: Path, module: str, line: str, rule: str | None) -> None:
    (tree / "world_models" / "genie").mkdir(exist_ok=True)
    for package in ("genie", "dreamer"):
        (tree / "world_models" / package).mkdir(exist_ok=True)
        (tree / "world_models" / package / "__init__.py").touch()
    file = tree / module if module.endswith(".py") else tree / module / "planted.py"
    with file.open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tree)
    if rule is None:
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"{rule} BROKEN" in done.stdout
