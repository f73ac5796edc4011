"""`nexus export-weights`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from deploy.commands.parsing import parse
from deploy.wiring.output_path import require_new_folder
from replay.counted import counted
from world_models.checkpoint_files import newest_model
from world_models.model_document import read_family

FAMILIES = {"meta": ("ijepa", "vjepa2", "vjepa2_ac"), "hf": ("ijepa", "vjepa2", "vjepa2_ac"), "dreamerv3": ("dreamer",)}
"""Families that have each layout."""


@dataclass(frozen=True, kw_only=True)
class ExportWeights:
    """Convert a model of Nexus to the layout of Meta's programs, of Hugging Face or of danijar/dreamerv3."""

    path: Positional[Path]
    """A run directory of `nexus train` or `nexus pretrain`, or a model's folder."""
    to: Literal["meta", "hf", "dreamerv3"]
    """`meta`: weights.pt, as Meta's programs load it; `hf`: model.safetensors and config.json for from_pretrained,
    with one encoder, the target encoder, and for I-JEPA no predictor; `dreamerv3`: weights.npz, an agent's arrays by
    their official names."""
    out: Path
    """A new folder."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        ExportWeights, arguments, prog="nexus export-weights",
        example="nexus export-weights runs/vjepa2 --to hf --out vjepa2-hf",
    )  # fmt: skip
    folder = newest_model(given.path)
    family = read_family(folder).name
    layouts = [layout for layout, families in FAMILIES.items() if family in families]
    if given.to not in layouts:
        offered = f"--to {' or '.join(layouts)} fits it" if layouts else "there is no other layout of it"
        raise ValueError(f"{folder} holds a model of family {family!r}; {offered}.")
    require_new_folder(given.out, "--out")
    from replay.files.new_directory import new_directory
    from world_models.dreamer import official_names
    from world_models.jepa import weights
    from world_models.loading import load_model

    model: Any = load_model(folder)
    with new_directory(given.out, replace=True) as fresh:
        if given.to == "hf":
            count = weights.export_huggingface(model, fresh)
        elif given.to == "meta":
            count = weights.export_official(model, fresh / "weights.pt")
        else:
            arrays = official_names.export_official(model)
            np.savez(fresh / "weights.npz", **arrays)  # type: ignore[arg-type]
            count = len(arrays)
    print(f"{counted(count, 'tensor')} in {given.out}.")
    return 0
