"""`config.yaml` of a run's directory, whatever command the run belongs to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from replay.files.whole_file import write_durably
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import from_json, to_json

T = TypeVar("T")

COMMAND = "command"
"""Key of the command that a configuration belongs to, `train` if there is none."""


def as_values(config: Any) -> dict[str, Any]:
    """The content of `config.yaml`. The class of a configuration of another command than `train` names its command."""
    command = getattr(config, COMMAND, "")
    return ({COMMAND: command} if command else {}) | to_json(config)


def save_config(config: Any, logdir: Path) -> None:
    """Write `config.yaml`."""
    text = yaml.safe_dump(as_values(config), sort_keys=False)
    write_durably(logdir / RUN_CONFIG, text.encode())


def read_values(logdir: Path) -> Any:
    """The values in `config.yaml`. Raises ValueError if it is missing or unreadable."""
    path = logdir / RUN_CONFIG
    if not path.exists():
        raise ValueError(f"{logdir} holds no {RUN_CONFIG}; give the logdir of a run.")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} cannot be read: it is not a regular file.")
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text, so it is not the {RUN_CONFIG} of a run; restore the run's configuration, or move "
            f"{logdir} away to start over."
        ) from error
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        LookupError,
        AttributeError,
    ) as error:  # PyYAML lets these through
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def read_config(kind: type[T], logdir: Path) -> T:
    """Read `config.yaml`. Raises ValueError naming what is missing, unreadable or wrong."""
    values = read_values(logdir)
    try:
        if values is None:
            raise ValueError(f"it is empty; restore the run's configuration, or move {logdir} away to start over.")
        if isinstance(values, Mapping):
            there, wanted = values.get(COMMAND, "train"), getattr(kind, COMMAND, "train")
            if there != wanted:
                raise ValueError(f"it is a run of nexus {there}, not of nexus {wanted}; name another directory.")
            values = {key: value for key, value in values.items() if key != COMMAND}
        return from_json(kind, values)
    except ValueError as error:
        raise ValueError(f"{logdir / RUN_CONFIG}: {error}") from error
