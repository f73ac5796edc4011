"""`nexus export-weights`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from deploy.commands.parsing import parse
from deploy.wiring.output_path import require_new_folder
from replay.counted import counted
from world_models.checkpoint_files import newest_model
from world_models.model_document import read_family

FAMILIES = ("ijepa", "vjepa2", "vjepa2_ac")


@dataclass(frozen=True, kw_only=True)
class ExportWeights:
    """Convert a model of Nexus to the layout of Meta's programs or of Hugging Face."""

    path: Positional[Path]
    """A run directory of `nexus pretrain`, or a model's folder."""
    to: Literal["meta", "hf"]
    """`meta`: weights.pt, as Meta's programs load it; `hf`: model.safetensors and config.json for from_pretrained,
    with one encoder, the target encoder, and for I-JEPA no predictor."""
    out: Path
    """A new folder."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        ExportWeights, arguments, prog="nexus export-weights",
        example="nexus export-weights runs/vjepa2 --to hf --out vjepa2-hf",
    )  # fmt: skip
    folder = newest_model(given.path)
    if (family := read_family(folder).name) not in FAMILIES:
        raise ValueError(f"{folder} holds a model of family {family!r}; there is no other layout of it.")
    require_new_folder(given.out, "--out")
    from replay.files.new_directory import new_directory
    from world_models.jepa.weights import export_huggingface, export_official
    from world_models.loading import load_model

    model = load_model(folder)
    with new_directory(given.out, replace=True) as fresh:
        count = export_huggingface(model, fresh) if given.to == "hf" else export_official(model, fresh / "weights.pt")
    print(f"{counted(count, 'tensor')} in {given.out}.")
    return 0
