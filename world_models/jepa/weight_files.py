"""Reading foreign weight files without running code from them, and writing them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from world_models.checkpoint_files import CHECKPOINTS

PICKLED = (".pt", ".pth", ".tar", ".bin", ".ckpt")
SAFE = ".safetensors"
Tensors = dict[str, Tensor]


def read_tensors(path: Path) -> tuple[Tensors, list[str]]:
    """Every tensor in a weight file, or in the weight files of a folder, and the names of what is no tensor.

    Nested dictionaries become dotted names. ValueError if a file cannot be read, or holds more than tensors and plain
    values: such a pickle could run code.
    """
    tensors: Tensors = {}
    others: list[str] = []
    for file in weight_files(path):
        for name, value in _flat(_load(file)):
            if isinstance(value, Tensor):
                if name in tensors:
                    raise ValueError(f"{file} and another file in {path} both hold {name}; name one file.")
                tensors[name] = value
            else:
                others.append(name)
    if not tensors:
        raise ValueError(f"{path} holds no tensors; name a checkpoint of model weights.")
    return tensors, others


def weight_files(path: Path) -> list[Path]:
    """The file itself, or a folder's: all .safetensors files, or else the one pickled file. ValueError if none."""
    if path.is_file():
        if path.suffix not in (SAFE, *PICKLED):
            raise ValueError(f"{path} is no weight file: its name must end in {', '.join((SAFE, *PICKLED))}.")
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; name a file of weights, or a folder that holds one.")
    if safe := sorted(path.glob(f"*{SAFE}")):
        return safe
    pickled = sorted(file for file in path.iterdir() if file.suffix in PICKLED)
    if len(pickled) != 1:
        found = ", ".join(file.name for file in pickled) or "none"
        own = ". It is a run of Nexus, which needs no import" if (path / CHECKPOINTS).is_dir() else ""
        raise ValueError(f"{path} must hold one file of weights, found {found}; name the file itself{own}.")
    return pickled


def _load(file: Path) -> Any:
    try:
        if file.suffix == SAFE:
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and PyTorch raise half a dozen types for files that are no weights
        if type(error).__name__ == "UnpicklingError":
            raise ValueError(
                f"{file} is refused: it holds something else than tensors and plain values, and loading Python objects "
                "can run any code. Save its tensors alone, as .safetensors or with torch.save of plain state "
                "dictionaries."
            ) from error
        reason = "it is empty" if not file.stat().st_size else str(error).partition("\n")[0] or repr(error)
        raise ValueError(f"{file} cannot be read as weights ({reason}); copy or download it again.") from error


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, Tensor)) for item in value):
        for i, item in enumerate(value):
            yield from _flat(item, f"{prefix}.{i}")
    else:
        yield prefix, value
