"""The import rules of pyproject.toml hold, and each of them catches what it is there for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("actors", "learner", "replay", "world_models", "deploy", "tests")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=500)


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


PLANTED = [
    ("replay", "import torch", "The replay needs no torch"),
    ("replay", "import world_models", "deploy -> actors | learner -> world_models | replay"),
    ("learner", "import actors", "deploy -> actors | learner -> world_models | replay"),
    ("actors", "import deploy", "deploy -> actors | learner -> world_models | replay"),
    ("learner", "def start():\n    import ray", "Only deploy knows Ray"),
    ("deploy/wiring", "import ray", "Only deploy.distributed knows Ray"),
    ("deploy", "import redis", "Only replay knows Redis"),
    ("deploy/stored", "import deploy.reports", "Rooms of deploy"),
    ("deploy/reports", "import deploy.commands", "Rooms of deploy"),
    ("replay/disk", "import replay.redis", "Rooms of replay"),
    ("replay/indexing", "import replay.memory", "Rooms of replay"),
    ("replay/store.py", "import replay.disk", "What every replay shares knows no room"),
    ("world_models", "import tests", "Nothing imports the tests"),
    ("world_models/dreamer", "import world_models.genie", "Model families and planners stand alone"),
    ("deploy/reports/metrics.py", "import torch", "What the supervisor is made of needs no torch"),
]


def test_planted_violations_are_caught(tree: Path) -> None:
    """Each is reported with the module where it was planted, under its rule."""
    (tree / "world_models" / "genie").mkdir(exist_ok=True)
    (tree / "world_models" / "genie" / "__init__.py").touch()
    (tree / "deploy" / "planted_torch.py").write_text("import torch\n")  # it may
    modules = []
    for number, (module, line, _) in enumerate(PLANTED):
        file = tree / module if module.endswith(".py") else tree / module / f"planted_{number}.py"
        with file.open("a") as source:
            source.write(f"\n{line}\n")
        modules.append(".".join(file.relative_to(tree).with_suffix("").parts))
    done = lint(tree)
    broken = done.stdout.split("Broken contracts")[-1]
    assert done.returncode == 1, done.stdout + done.stderr
    for (_, line, rule), module in zip(PLANTED, modules, strict=True):
        assert f"{rule} BROKEN" in done.stdout, done.stdout
        assert f"{module} -> {line.split()[-1]}" in broken, broken
    assert "planted_torch" not in broken
