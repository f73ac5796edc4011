"""The configuration of a run, flat, and what makes two runs seeds of the same experiment."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.reports.curves import task_name
from deploy.wiring.config import FREE, RunConfig
from deploy.wiring.config_file import COMMAND
from deploy.wiring.fields import dotted
from replay.files.regular_file import open_regular
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import from_json, to_json

_MATTERS = ("learner.train_ratio", "actor.max_lag", "learner.publish_every", "learner.publish_seconds")
"""What may change when a run continues, and still is a different experiment."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INCIDENTAL = ("seed", *(name for name in FREE if name not in _MATTERS))


class Configuration:
    """What `config.yaml` says; empty as long as it cannot be read."""

    def __init__(self, logdir: Path):
        self.values: dict[str, Any] = {}
        """By dotted names, fields that the file lacks with their defaults."""
        self.task, self.seed = logdir.name, 0
        if isinstance(plain := _read(logdir / RUN_CONFIG), Mapping):
            self.values = dotted(_with_defaults(plain))
        task, seed = self.values.get("task"), self.values.get("seed")
        command = self.values.get(COMMAND)
        if isinstance(task, str) and task:
            self.task = task_name(task)
        elif isinstance(command, str):
            self.task = command
        if isinstance(seed, int):
            self.seed = seed
        kept = {name: value for name, value in self.values.items() if not _is_incidental(name)}
        self.group = _digest([self.task, kept])
        """The same for all seeds of an experiment."""
        self.method = _digest({name: value for name, value in kept.items() if name != "task"})
        """The same for all seeds of an experiment on any task."""


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _read(file: Path) -> Any:
    """What is in the file, by the faster of PyYAML's safe loaders; None if it cannot be read."""
    try:
        with open_regular(file) as opened:
            loader = _LOADER(opened.read().decode())
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError):
        return None


def _with_defaults(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    if COMMAND in plain:
        return plain
    try:
        return to_json(from_json(RunConfig, plain))
    except (ValueError, TypeError):  # of another version
        return plain


def _is_incidental(name: str) -> bool:
    return any(name == one or one.endswith(".") and name.startswith(one) for one in _INCIDENTAL)


def differing(configurations: Sequence[Mapping[str, Any]], incidental: bool = False) -> dict[str, list[Any]]:
    """The fields in which they differ, with the value of each; `incidental` includes seed, logdir and the like."""
    names = dict.fromkeys(name for one in configurations for name in one)
    found = {name: [one.get(name) for one in configurations] for name in names}
    return {
        name: values for name, values in found.items()
        if any(value != values[0] for value in values) and (incidental or not _is_incidental(name))
    }  # fmt: skip
