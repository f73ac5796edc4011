"""The parameters that a new run's agent starts with, out of a checkpoint of another run. Torch-free.

They are copied into `initial/` of the run, so that it needs the other one no more, whenever it is continued.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.numpy import save

from deploy.wiring.claim import Claim
from deploy.wiring.config import RunConfig, load_config
from replay.files.new_directory import new_directory
from replay.files.whole_file import synced
from replay.step import Rows
from world_models.checkpoint_files import (
    MANIFEST,
    MODEL_CONFIG,
    RUN_CONFIG,
    WEIGHTS,
    newest_model,
    read_arrays,
    read_document,
    run_of,
    verify,
)
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.parts import PARTS, Part, Shapes, part_of, parts_of, require_fit
from world_models.model_document import ModelDocument, read_model_document

INITIAL = "initial"
SOURCE = "source.json"
"""Where they are from: checkpoint, its task and updates, the checksum of its weights, parts taken and left fresh."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint, and the parts to take from it."""

    folder: Path
    document: ModelDocument
    parts: tuple[Part, ...]
    arrays: Rows
    """All of the checkpoint."""

    @property
    def fresh(self) -> tuple[Part, ...]:
        """The parts that are not taken."""
        return tuple(part for part in PARTS if part not in self.parts)

    def require_fit(self, own: Shapes) -> None:
        """ValueError, naming all that differs: the parts do not fit an agent with these shapes."""
        require_fit(own, shapes_of(self.arrays), self.parts, str(self.folder))

    def copy(self, folder: Path) -> None:
        """Write the parts, and where they are from, as a directory that is complete or absent."""
        data = save({name: value for name, value in self.arrays.items() if part_of(name) in self.parts})
        where = {
            "checkpoint": str(self.folder), "task": self.document.task, "weights": self._checksum(),
            "updates": int(self.folder.name) if self.folder.name.isdecimal() else None,
            "parts": self.parts, "fresh": self.fresh,
        }  # fmt: skip
        files = {WEIGHTS: data, SOURCE: json.dumps(where, indent=2).encode()}
        sums = {name: hashlib.sha256(value).hexdigest() for name, value in files.items()}
        files[MANIFEST] = json.dumps(sums, indent=2).encode()
        with new_directory(folder, replace=True) as new:
            for name, value in files.items():
                with synced(new / name) as file:
                    file.write(value)

    def _checksum(self) -> str:
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()

    def __str__(self) -> str:
        task = f" ({self.document.task})" if self.document.task else ""
        fresh = f"; fresh: {', '.join(self.fresh)}" if self.fresh else ""
        return f"Starts with {', '.join(self.parts)} of {self.folder}{task}{fresh}, counters, optimizer and replay."


def shapes_of(arrays: Rows) -> Shapes:
    """The shape of each array."""
    return {name: tuple(value.shape) for name, value in arrays.items()}


def open_source(config: RunConfig) -> Source:
    """The checkpoint that `config.init_from` names, of a run its newest. ValueError: there is none, it is damaged, or
    it is no DreamerV3."""
    folder = newest_model(Path(config.init_from))
    if (folder / MANIFEST).exists():
        verify(folder, (MODEL_CONFIG, WEIGHTS))
    document = _document(folder)
    return Source(
        folder=folder, document=document, parts=parts_of(config.init_parts), arrays=read_arrays(folder / WEIGHTS)
    )


def prepare(config: RunConfig, claim: Claim, check: Callable[[Source], None]) -> str:
    """Copy what a new run starts with into the directory that `claim` holds, once `check` has found that it fits.

    Returns a line that says what that is; empty if the run continues, or starts with nothing. ValueError.
    """
    if claim.continues or not config.init_from:
        return ""
    source = open_source(config)
    if _run_of(source.folder) == claim.logdir.resolve():
        raise ValueError(f"--init-from {config.init_from} is the run itself; choose another --logdir.")
    check(source)
    source.copy(claim.logdir / INITIAL)
    return str(source)


def _run_of(folder: Path) -> Path | None:
    """The run that a checkpoint belongs to; None: an exported one, of no run."""
    try:
        return run_of(folder).resolve()
    except ValueError:
        return None


def read_initial(logdir: Path) -> Rows:
    """The parameters that a run starts with. ValueError: the copy in its directory is damaged."""
    folder = logdir / INITIAL
    verify(folder)
    return read_arrays(folder / WEIGHTS)


def read_source(logdir: Path) -> dict[str, object]:
    """`source.json` of a run."""
    found: dict[str, object] = read_document(logdir / INITIAL / SOURCE)
    return found


def with_networks(config: RunConfig, model: DreamerConfig) -> DreamerConfig:
    """`model` with the networks that `config.init_from` has of the parts to take: their sizes are then the defaults.
    A run that has begun has had them."""
    logdir = Path(config.logdir)
    if (logdir / RUN_CONFIG).exists():
        begun = load_config(logdir)
        if begun.init_from != config.init_from:
            return model  # another run, which will be said
        found = begun.model
    else:
        found = _document(newest_model(Path(config.init_from))).config
    parts = parts_of(config.init_parts)
    names = [*parts, *(["reward_heads"] if "reward" in parts else [])]
    return replace(model, **{name: getattr(found, name) for name in names})


def _document(folder: Path) -> ModelDocument:
    document = read_model_document(folder)
    if not isinstance(document.config, DreamerConfig):
        raise ValueError(
            f"--init-from {folder} holds a model of family {document.family.name!r}; give a run of nexus train or one "
            "of its checkpoints."
        )
    return document
