"""Foreign weights as models of ours and back: what `nexus import-weights` and `nexus export-weights` do."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from world_models.families import FAMILIES
from world_models.jepa import huggingface_layout, official_layout
from world_models.jepa.conversion import Converted
from world_models.jepa.official_layout import Unreadable
from world_models.jepa.probe import AttentiveProbe
from world_models.jepa.weight_files import read_tensors

# Name on the command line: reader of the configuration, rotary positions, a target encoder.
OFFICIAL: dict[str, tuple[Any, bool, bool]] = {
    "ijepa": (official_layout.ijepa_config, False, True),
    "vjepa2": (official_layout.vjepa2_config, True, True),
    "vjepa2.1": (official_layout.vjepa2_config, True, True),
    "vjepa2-ac": (official_layout.vjepa2_ac_config, True, False),
}
KINDS = (*OFFICIAL, "hf")


class Imported(NamedTuple):
    """A model with foreign weights."""

    config: Any
    model: nn.Module
    converted: Converted
    probe: AttentiveProbe | None
    """The attentive probe that came with it."""


def import_weights(kind: str, path: Path, told: Unreadable) -> Imported:
    """The model in a weight file or folder, of one of `KINDS`. ValueError: it cannot be read, or not all of it fits."""
    tensors, others = read_tensors(path)
    if kind == "hf":
        return _from_huggingface(path, tensors)
    configure, rotary, target = OFFICIAL[kind]
    converted = official_layout.from_official(tensors, rotary, target)
    config = configure(converted.tensors, told)
    model = _built(config)
    converted.load_into(model)
    if not (told.heads or official_layout.heads_are_known(config)):
        converted.notes.append(
            f"No published encoder is {config.encoder.width} wide, and weights do not tell the number of attention "
            f"heads: {config.encoder.heads} in the encoder and {config.predictor.heads} in the predictor are assumed. "
            "Give --heads and --predictor-heads if that is wrong."
        )
    for name in others:
        converted.left_out[name] = "not a tensor"
    return Imported(config, model, converted, None)


def _from_huggingface(path: Path, tensors: dict[str, Tensor]) -> Imported:
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{file.parent} has no config.json, which tells the sizes of Hugging Face's model; put the one that came "
            "with the weights beside them. Meta's files need none: name their kind, e.g. vjepa2, in place of hf."
        )
    try:
        fields = json.loads(file.read_bytes())
        if not isinstance(fields, dict):
            raise TypeError("it holds no fields")
        config = huggingface_layout.config_from_huggingface(fields)
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{file} does not tell Hugging Face's sizes: {reason}. Give the one that came with the weights."
        ) from error
    model = _built(config)
    converted = huggingface_layout.from_huggingface(model, tensors)
    converted.load_into(model)
    probe = None
    if "pooler.query_tokens" in tensors:
        probe = huggingface_layout.probe_from_huggingface(fields, tensors)
    return Imported(config, model, converted, probe)


def _built(config: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = FAMILIES[config.family].build({}, {}, config)
    return model


def export_official(model: Any, file: Path) -> int:
    """Write a .pt file of plain tensors as Meta's programs load it; returns the number of tensors."""
    parts = official_layout.to_official(model, backbone=model.config.family != "ijepa")
    torch.save(parts, file)
    return sum(len(part) for part in parts.values())


def export_huggingface(model: Any, folder: Path) -> int:
    """Write `model.safetensors` and `config.json` for `from_pretrained`; returns the number of tensors.

    ValueError: Hugging Face has no such model.
    """
    if model.config.family not in ("ijepa", "vjepa2"):
        raise ValueError(f"Hugging Face has no model of family {model.config.family!r}; export to meta instead.")
    tensors = huggingface_layout.to_huggingface(model)
    save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    fields = huggingface_layout.config_to_huggingface(model.config)
    (folder / "config.json").write_text(json.dumps(fields, indent=2))
    return len(tensors)
