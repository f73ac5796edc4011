"""Heads: trained probes that are saved, loaded again, and give scores to features.

A folder of one holds `head.json` (what it is, and of which encoder), `head.safetensors` and their checksums.
Legend: N examples, L tokens, D features, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from learner.checkpoint import Checkpoints
from learner.probes.attentive import attentive_scores
from learner.probes.encoders import Encoder
from learner.probes.knn import knn_scores
from world_models.checkpoint_files import MANIFEST, read_arrays, read_document, verify
from world_models.dataclass_json import to_json
from world_models.jepa.probe import AttentiveProbe
from world_models.parameters import as_arrays, load_parameters

LINEAR, ATTENTIVE, KNN = KINDS = ("linear", "attentive", "knn")
"""Kinds of probes; attentive ones take tokens, the others their mean."""
DOCUMENT, ARRAYS = "head.json", "head.safetensors"
_FORMAT = 1
_ARRAYS: Mapping[str, Mapping[str, int]] = {
    LINEAR: {"mean": 1, "std": 1, "weight": 2, "bias": 1},
    KNN: {"features": 2, "labels": 1},
}
"""Arrays of a head, and their axes."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A trained probe of one encoder."""

    kind: str
    classes: int
    width: int
    """Features of a token."""
    frames: int
    """Frames of a clip."""
    size: int
    """Pixels a side."""
    checksum: str = ""
    """Of the encoder's weights; empty: not known, as of heads that are not saved."""
    names: tuple[str, ...] = ()
    """Of the classes; empty: they have none."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of attentive probes `depth` and `heads`, of kNN `neighbours` and `temperature`."""
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    probe: AttentiveProbe | None = None

    def scores(self, features: Tensor) -> Float[Tensor, "N K"]:
        """Scores of the classes from tokens `[N L D]` (attentive) or mean tokens `[N D]`; the largest is the answer."""
        if self.probe is not None:
            return attentive_scores(self.probe, features)
        a = {name: value.to(features.device) for name, value in self.arrays.items()}
        if self.kind == KNN:
            return knn_scores(a["features"], a["labels"], self.classes, features, **self.options)
        return (features.float() - a["mean"]) / a["std"] @ a["weight"] + a["bias"]

    def require_encoder(self, encoder: Encoder, where: object = "The head") -> None:
        """ValueError: the head is one for another encoder."""
        own = {"features of a token": self.width, "frames of a clip": self.frames, "pixels a side": self.size}
        theirs = dict(zip(own, (encoder.width, encoder.frames, encoder.size), strict=True))
        for what, number in own.items():
            if number != theirs[what]:
                raise ValueError(
                    f"{where} is for an encoder with {number} {what}; {encoder.name} has {theirs[what]}. Give the "
                    "encoder that it was trained on, or train another head."
                )
        if self.checksum and self.checksum != encoder.checksum():
            raise ValueError(
                f"{where} was trained on other weights than those of {encoder.name}. Give the checkpoint that its "
                "head.json names as `encoder`, or train another head."
            )


def save_head(
    head: Head, folder: Path, encoder: Encoder, found: Mapping[str, Any], names: Sequence[str] = ()
) -> Path:  # fmt: skip
    """Write the head to `folder`, complete or not at all; `found` and the classes' `names` are kept with it. Returns
    the folder."""
    document = {
        "format": _FORMAT, "kind": head.kind, "classes": head.classes, "width": head.width, "frames": head.frames,
        "size": head.size, "options": dict(head.options), "encoder": encoder.name, "model": to_json(encoder.config),
        "checksum": encoder.checksum(), "names": list(names), "found": dict(found),
    }  # fmt: skip
    if head.probe is not None:
        arrays = as_arrays(head.probe)
    else:
        arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in head.arrays.items()}
    return Checkpoints(folder.parent).save(folder.name, {"head": arrays}, {"head": document})


def load_head(folder: Path, device: str | torch.device = "cpu") -> Head:
    """The head in a folder of `save_head`. ValueError: there is none, or it is damaged or of a later version."""
    if not (folder / DOCUMENT).is_file():
        raise ValueError(
            f"{folder} holds no head of a probe ({DOCUMENT}); give a folder below --out of nexus probe, e.g. "
            "probe/linear."
        )
    if (folder / MANIFEST).exists():
        verify(folder)
    fields, arrays = read_document(folder / DOCUMENT), read_arrays(folder / ARRAYS)
    try:
        if fields["format"] > _FORMAT:
            raise ValueError(f"it has format {fields['format']}, newer than {_FORMAT}; upgrade Nexus")
        sizes: dict[str, Any] = {name: int(fields[name]) for name in ("classes", "width", "frames", "size")}
        # Heads of earlier versions have neither.
        sizes |= {"checksum": str(fields.get("checksum", "")), "names": tuple(fields.get("names", ()))}
        return _made(fields["kind"], sizes, dict(fields["options"]), arrays, device)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / DOCUMENT} describes no head that can be read: {error}.") from error


def _made(
    kind: str, sizes: dict[str, Any], options: dict[str, Any], arrays: dict[str, np.ndarray],
    device: str | torch.device,
) -> Head:  # fmt: skip
    width, classes = sizes["width"], sizes["classes"]
    if kind == ATTENTIVE:
        probe = AttentiveProbe(width, classes, int(options["heads"]), int(options["depth"]))
        load_parameters(probe, arrays, ARRAYS, "Its head.json describes another head")
        probe = probe.to(device).eval().requires_grad_(False)
        return Head(kind=kind, **sizes, options=options, probe=probe)
    if kind not in _ARRAYS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    axes = _ARRAYS[kind]
    if arrays.keys() != axes.keys() or any(arrays[name].ndim != count for name, count in axes.items()):
        raise ValueError(f"{ARRAYS} has {', '.join(sorted(arrays))}, not {', '.join(axes)}")
    shown = arrays["weight"].shape if kind == LINEAR else (arrays["features"].shape[1], classes)
    if tuple(shown) != (width, classes):
        raise ValueError(f"{ARRAYS} maps {shown[0]} features to {shown[1]} classes, not {width} to {classes}")
    tensors = {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
    return Head(kind=kind, **sizes, options=options, arrays=tensors)
