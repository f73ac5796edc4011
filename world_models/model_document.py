"""`config.json` of a checkpoint: what is needed to rebuild its model without the environment. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from world_models.checkpoint_files import MODEL_CONFIG, read_document
from world_models.dataclass_json import to_json
from world_models.families import Family, UnknownModelError, family_in, family_of
from world_models.space import Space, Spaces

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelDocument:
    """The content of `config.json`."""

    task: str = ""
    """The task that the model was trained on; empty if it is no task of an environment."""
    observation: Spaces = field(default_factory=dict)
    action: Spaces = field(default_factory=dict)
    config: Any
    """An instance of the family's `config_class`."""

    @property
    def family(self) -> Family:
        return family_of(self.config)

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.family.name,
            "format": self.family.format,
            "task": self.task,
            "observation": {key: space.to_json() for key, space in self.observation.items()},
            "action": {key: space.to_json() for key, space in self.action.items()},
            "model": to_json(self.config),
        }

    @classmethod
    def from_json(cls, fields: Any) -> "ModelDocument":
        """The inverse of `to_json`; malformed `fields` raise whatever error they cause."""
        family = family_in(fields)
        observation, action = (
            {key: Space.from_json(space) for key, space in fields[part].items()} for part in ("observation", "action")
        )
        return cls(task=fields["task"], observation=observation, action=action, config=family.config(fields["model"]))


def read_model_document(folder: Path) -> ModelDocument:
    """Read `config.json` in a checkpoint directory. ValueError names the file and what is wrong with it."""
    return _read(folder, ModelDocument.from_json)


def read_family(folder: Path) -> Family:
    """The family of the model in a checkpoint directory. Raises ValueError like `read_model_document`."""
    return _read(folder, family_in)


def _read(folder: Path, parse: Callable[[Any], T]) -> T:
    path = folder / MODEL_CONFIG
    fields = read_document(path)
    try:
        return parse(fields)
    except UnknownModelError as error:
        raise UnknownModelError(f"{path}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not describe a Nexus model ({error!r}).") from error
