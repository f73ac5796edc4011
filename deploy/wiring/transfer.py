"""The parameters that a new run's agent starts with, out of a checkpoint of another run. Torch-free.

They are copied into `initial/` of the run, so that it needs the other one no more, whenever it is continued.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.numpy import save

from deploy.wiring.claim import Claim
from deploy.wiring.config import RunConfig, load_config
from replay.counted import counted
from replay.files.new_directory import new_directory
from replay.files.whole_file import synced
from replay.step import Rows
from world_models.checkpoint_files import (
    CHECKPOINTS,
    MANIFEST,
    MODEL_CONFIG,
    RUN_CONFIG,
    WEIGHTS,
    DamagedCheckpointError,
    intact_numbered,
    newest_model,
    read_arrays,
    read_document,
    verify,
)
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.parts import PARTS, Part, Shapes, networks_of, part_of, parts_of, require_fit
from world_models.model_document import ModelDocument, read_model_document

INITIAL = "initial"
SOURCE = "source.json"
"""Where they are from: checkpoint, its task and updates, the checksum of its weights, parts taken and left fresh,
and how many reward heads more than it has are fresh."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint, and the parts to take from it."""

    folder: Path
    document: ModelDocument
    parts: tuple[Part, ...]
    arrays: Rows
    """All of the checkpoint."""
    wanted: DreamerConfig
    """The networks of the agent to start."""

    @property
    def fresh(self) -> tuple[Part, ...]:
        """The parts that are not taken."""
        return tuple(part for part in PARTS if part not in self.parts)

    @property
    def fresh_heads(self) -> int:
        """Reward heads that are not taken, since the checkpoint has fewer, though others are."""
        return max(0, self.wanted.reward_heads - self._config.reward_heads) if "reward" in self.parts else 0

    @property
    def _config(self) -> DreamerConfig:
        found: DreamerConfig = self.document.config
        return found

    def require_fit(self, own: Shapes) -> None:
        """ValueError, naming all that differs: the parts do not fit an agent with these shapes."""
        sizes = [getattr(self.wanted, name) != getattr(self._config, name) for name in networks_of(self.parts)]
        require_fit(own, shapes_of(self.arrays), self.parts, str(self.folder), sized=any(sizes))

    def copy(self, folder: Path) -> None:
        """Write the parts, and where they are from, as a directory that is complete or absent."""
        data = save({name: value for name, value in self.arrays.items() if part_of(name) in self.parts})
        where = {
            "checkpoint": str(self.folder), "task": self.document.task, "weights": self._checksum(),
            "updates": int(self.folder.name) if self.folder.name.isdecimal() else None,
            "parts": self.parts, "fresh": self.fresh,
            "fresh_reward_heads": self.fresh_heads,
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
        heads = [counted(self.fresh_heads, "more reward head")] if self.fresh_heads else []
        fresh = ", ".join([*self.fresh, *heads, "counters"])
        return f"Starts with {', '.join(self.parts)} of {self.folder}{task}; fresh: {fresh}, optimizer and replay."


def shapes_of(arrays: Rows) -> Shapes:
    """The shape of each array."""
    return {name: tuple(value.shape) for name, value in arrays.items()}


def open_source(config: RunConfig) -> Source:
    """The checkpoint that `config.init_from` names, of a run its newest. ValueError: there is none, it is damaged (an
    older intact one of the run is named), or it is no DreamerV3."""
    folder = newest_model(Path(config.init_from))
    with _naming_another(folder):
        if (folder / MANIFEST).exists():
            verify(folder, (MODEL_CONFIG, WEIGHTS))
        document, arrays = _document(folder), read_arrays(folder / WEIGHTS)
    parts = parts_of(config.init_parts)
    return Source(folder=folder, document=document, parts=parts, arrays=arrays, wanted=config.model)


@contextmanager
def _naming_another(folder: Path) -> Iterator[None]:
    """Adds to what is said of a damaged checkpoint which one to take in its place. The best one has only what acts."""
    try:
        yield
    except DamagedCheckpointError as error:
        other = intact_numbered(folder)
        remedy = (
            f"Start with an intact one of that run: --init-from {other}"
            if other
            else "No other numbered checkpoint beside it is intact: name another run, or leave out --init-from."
        )
        raise DamagedCheckpointError(f"{error} {remedy}") from error


def prepare(config: RunConfig, claim: Claim, check: Callable[[Source], None]) -> str:
    """Copy what a new run starts with into the directory that `claim` holds, once `check` has found that it fits.

    Returns a line that says what that is; empty if the run continues, or starts with nothing. ValueError.
    """
    if claim.continues or not config.init_from:
        return ""
    source = open_source(config)
    check(source)
    source.copy(claim.logdir / INITIAL)
    return str(source)


def require_another(config: RunConfig) -> None:
    """ValueError: what the run is to start with is itself, or one of its checkpoints."""
    start, logdir = Path(config.init_from).resolve(), Path(config.logdir).resolve()
    if start in (logdir, logdir / CHECKPOINTS) or start.parent == logdir / CHECKPOINTS:
        raise ValueError(
            f"--init-from {config.init_from} is the run in --logdir {config.logdir} itself. Choose another --logdir "
            "for the new run; to continue that one, give the command that began it."
        )


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
        folder = newest_model(Path(config.init_from))
        with _naming_another(folder):
            found = _document(folder).config
    return replace(model, **{name: getattr(found, name) for name in networks_of(parts_of(config.init_parts))})


def _document(folder: Path) -> ModelDocument:
    document = read_model_document(folder)
    if not isinstance(document.config, DreamerConfig):
        raise ValueError(
            f"--init-from {folder} holds a model of family {document.family.name!r}; give a run of nexus train or one "
            "of its checkpoints."
        )
    return document
