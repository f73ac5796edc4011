"""`nexus import-weights`."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tyro.conf import Positional

from deploy.commands.numbers import NotNegative
from deploy.commands.parsing import parse
from deploy.wiring.output_path import require_new_folder
from replay.counted import counted
from world_models.checkpoint_files import RUN_CONFIG, run_of
from world_models.space import Space

if TYPE_CHECKING:
    from world_models.jepa.weights import Imported

REPORT, PROBE = "import.txt", "probe.safetensors"


@dataclass(frozen=True, kw_only=True)
class ImportWeights:
    """Convert published weights to a model of Nexus. Every key must fit, or nothing is written."""

    kind: Positional[Literal["dreamerv3", "ijepa", "vjepa2", "vjepa2.1", "vjepa2-ac", "hf"]]
    """Whose weights: an agent's of danijar/dreamerv3, Meta's I-JEPA, V-JEPA 2, V-JEPA 2.1 or V-JEPA 2-AC, or Hugging
    Face's I-JEPA or V-JEPA 2. Of V-JEPA 2.1, files with the tensors of V-JEPA 2 at any depth; what it adds (norms of
    several levels, patches and embeddings of images) is named and refused."""
    file: Positional[Path]
    """A .pt or .safetensors file, or a folder that holds one; of Hugging Face's, with its config.json; of dreamerv3, a
    .npz file of arrays by their official names, such as dyn/dynin0/kernel."""
    like: Path | None = None
    """For dreamerv3, whose arrays do not tell it: a run or checkpoint of `nexus train` with the same task and sizes.
    What is written is then scored by `nexus eval`, and trained on by `nexus train --init-from`."""
    out: Path
    """Folder of the model, a new one. Its import.txt accounts for every key."""
    heads: NotNegative = 0
    """Attention heads of Meta's encoder, which weights do not tell; 0: as in the published model of its width."""
    predictor_heads: NotNegative = 0
    """Attention heads of Meta's predictor; 0: as published."""
    size: NotNegative = 0
    """Height and width of the images, where Meta's weights do not tell; 0: as published."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        ImportWeights, arguments, prog="nexus import-weights",
        example="nexus import-weights vjepa2 vitl.pt --out models/vjepa2-vitl",
    )  # fmt: skip
    require_new_folder(given.out, "--out")
    if (given.kind == "dreamerv3") != (given.like is not None):
        raise ValueError(
            "import-weights dreamerv3 needs --like RUN, a run of nexus train with the same task and sizes (--frames 1 "
            "makes one); other weights tell their own sizes, so leave --like out."
        )
    if given.like is not None:
        if given.heads or given.predictor_heads or given.size:
            raise ValueError("--heads, --predictor-heads and --size are for Meta's weights; --like tells the sizes.")
        return _import_dreamer(given.file, given.like, given.out)
    from world_models.jepa.official_layout import Unreadable
    from world_models.jepa.weights import import_weights

    told = Unreadable(heads=given.heads, predictor_heads=given.predictor_heads, size=given.size)
    imported = import_weights(given.kind, given.file, told)
    write(given.out, imported)
    converted = imported.converted
    for note in converted.notes:
        print(note)
    for name, why in converted.fresh.items():
        print(f"{name.rstrip('.')}: {why}.")
    left = f"; {counted(len(converted.left_out), 'key')} left out" if converted.left_out else ""
    print(f"{counted(len(converted.tensors), 'tensor')} in {given.out}{left}: {given.out / REPORT} lists every key.")
    return 0


def _import_dreamer(file: Path, like: Path, out: Path) -> int:
    from learner.checkpoint import Checkpoints
    from world_models.dreamer.agent import Dreamer
    from world_models.dreamer.official_names import import_official, read_official
    from world_models.loading import load_world_model
    from world_models.parameters import as_arrays

    loaded = load_world_model(like)
    if not isinstance(loaded.model, Dreamer):
        raise ValueError(f"--like {like} is no run of nexus train, which trains DreamerV3.")
    arrays = read_official(file)
    import_official(loaded.model, arrays)

    def extra(folder: Path) -> None:
        (folder / REPORT).write_text("".join(f"{name} {list(value.shape)}\n" for name, value in arrays.items()))
        with suppress(ValueError):  # of a checkpoint outside a run
            shutil.copy(run_of(loaded.folder) / RUN_CONFIG, folder)

    document = {"config": loaded.document.to_json()}
    Checkpoints(out.parent).save(out.name, {"model": as_arrays(loaded.model)}, document, extra)
    print(f"{counted(len(arrays), 'array')} in {out}: {out / REPORT} lists every one.")
    return 0


def write(out: Path, imported: "Imported") -> None:
    """Write the model's checkpoint, complete or not at all, with the report and the probe if there is one."""
    from safetensors.torch import save_file

    from learner.checkpoint import Checkpoints
    from world_models.model_document import ModelDocument
    from world_models.parameters import as_arrays

    config = imported.config
    pixels = (config.encoder.size, config.encoder.size, config.encoder.channels)
    observation = {"image": Space(dtype=np.dtype("uint8"), shape=pixels)}
    action = {}
    if config.family == "vjepa2_ac":
        action = {"action": Space(dtype=np.dtype("float32"), shape=(config.action,))}
    document = ModelDocument(task="", observation=observation, action=action, config=config)

    def extra(folder: Path) -> None:
        (folder / REPORT).write_text("\n".join(imported.converted.report()) + "\n")
        if imported.probe is not None:
            save_file(imported.probe.state_dict(), folder / PROBE)

    Checkpoints(out.parent).save(out.name, {"model": as_arrays(imported.model)}, {"config": document.to_json()}, extra)
