"""Strict two-way mapping between our parameters and those of danijar/dreamerv3 (commit e3f0224).

Linear kernels are `[in out]` there and `[out in]` here; convolutions HWIO there and OIHW here; block kernels agree.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from world_models.dreamer.agent import Dreamer
from world_models.layers import BlockLinear, Conv2d, Linear, NormSilu, module_key

_HEADS = {"reward": "rew", "continuation": "con", "policy": "pol", "value": "val", "slow_value": "slowval"}
_RSSM = {"deter_in": "dynin0", "stoch_in": "dynin1", "action_in": "dynin2"}


def _module_names(agent: Dreamer) -> dict[str, str]:
    """Our module path to the official one, for every module that owns parameters."""
    names: dict[str, str] = {}

    def dense(ours: str, theirs: str, norm: str | None = None) -> None:
        names[f"{ours}.linear"] = theirs
        names[f"{ours}.norm"] = norm or f"{theirs}norm"

    def mlp(ours: str, theirs: str, layers: int) -> None:
        for i in range(layers):
            dense(f"{ours}.{i}", f"{theirs}/linear{i}", f"{theirs}/norm{i}")

    encoder, decoder, rssm = agent.encoder, agent.decoder, agent.rssm
    if encoder.vectors:
        for i in range(len(encoder.mlp)):
            dense(f"encoder.mlp.{i}", f"enc/mlp{i}")
    if encoder.images:
        for i in range(len(encoder.cnn)):
            names |= {f"encoder.cnn.{i}.conv": f"enc/cnn{i}", f"encoder.cnn.{i}.norm": f"enc/cnn{i}norm"}
    for ours, theirs in _RSSM.items():
        dense(f"rssm.{ours}", f"dyn/{theirs}")
    for i in range(len(rssm.dynamics)):
        dense(f"rssm.dynamics.{i}", f"dyn/dynhid{i}")
    for ours, theirs in (("prior", "prior"), ("posterior", "obs")):
        for i in range(len(getattr(rssm, f"{ours}_mlp"))):
            dense(f"rssm.{ours}_mlp.{i}", f"dyn/{theirs}{i}")
        names[f"rssm.{ours}_out"] = f"dyn/{theirs}logit"
    names["rssm.gru"] = "dyn/dyngru"
    if decoder.vectors:
        mlp("decoder.mlp", "dec/mlp", len(decoder.mlp))
        for key, space in decoder.vectors.items():
            kind = "logits" if space.discrete else "pred"
            names[f"decoder.vector_out.{module_key(key)}"] = f"dec/vec/{key}/{kind}"
    if decoder.images:
        names |= {"decoder.from_deter": "dec/sp0", "decoder.first_norm": "dec/spnorm"}
        names["decoder.image_out"] = "dec/imgout"
        dense("decoder.from_stoch.0", "dec/sp1")
        names["decoder.from_stoch.1"] = "dec/sp2"
        last = len(decoder.cnn) - 1
        for i in range(len(decoder.cnn)):  # the official program numbers the decoder stages from the image inwards
            theirs = f"dec/conv{last - i}"
            names |= {f"decoder.cnn.{i}.conv": theirs, f"decoder.cnn.{i}.norm": f"{theirs}norm"}
    for ours, theirs in _HEADS.items():
        mlp(f"{ours}.mlp", f"{theirs}/mlp", len(getattr(agent, ours).mlp))
    names |= {f"{ours}.out": f"{_HEADS[ours]}/head/logits" for ours in ("reward", "value", "slow_value")}
    for i, head in enumerate(agent.reward_heads[1:]):  # the official program has none, so no name of its own is taken
        mlp(f"more_rewards.{i}.mlp", f"rew{i + 1}/mlp", len(head.mlp))
        names[f"more_rewards.{i}.out"] = f"rew{i + 1}/head/logits"
    names["continuation.out"] = "con/head/logit"
    for key in agent.policy.spaces:
        for ours in cast(nn.ModuleDict, agent.policy.out[module_key(key)]):
            theirs = "stddev" if ours == "std" else ours
            names[f"policy.out.{module_key(key)}.{ours}"] = f"pol/head/{key}/{theirs}"
    return names


def official_names(agent: Dreamer) -> dict[str, str]:
    """Every trainable parameter and slow-value parameter of `agent` to its official name; complete and one-to-one."""
    modules, leaf = _module_names(agent), {"weight": "kernel", "bias": "bias"}
    result = {}
    for name, _ in agent.named_parameters():
        path, kind = name.rsplit(".", 1)
        is_norm = isinstance(agent.get_submodule(path), NormSilu)
        result[name] = f"{modules[path]}/{'scale' if is_norm else leaf[kind]}"
    assert len(set(result.values())) == len(result), "two parameters map to one official name"
    return result


def official_buffers(agent: Dreamer) -> dict[str, str]:
    """Our persistent buffers to the official state names."""
    scale = {"low": "lo", "high": "hi", "mean": "mean", "square": "sqrs", "correction": "corr"}
    names = {f"return_scale.{key}": f"retnorm/{scale[key]}/value" for key, _ in agent.return_scale.named_buffers()
             if key in scale}  # fmt: skip
    return names | {"slow_count": "slowval_count/value"}


def to_official(agent: Dreamer, name: str, value: Tensor) -> np.ndarray:
    """One of our parameters (or its gradient or moment) in the official layout."""
    module = agent.get_submodule(name.rsplit(".", 1)[0])
    value = value.detach().cpu()
    if name.endswith(".weight"):
        if isinstance(module, Conv2d):
            value = value.permute(2, 3, 1, 0)
        elif isinstance(module, Linear):
            value = value.t()
    return value.contiguous().numpy()


def from_official(agent: Dreamer, name: str, value: np.ndarray) -> Tensor:
    """An official array in our layout."""
    module = agent.get_submodule(name.rsplit(".", 1)[0])
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    if name.endswith(".weight"):
        if isinstance(module, Conv2d):
            tensor = tensor.permute(3, 2, 0, 1)
        elif isinstance(module, Linear):
            tensor = tensor.t()
        else:
            assert isinstance(module, (BlockLinear, NormSilu)), type(module)
    return tensor


def export_official(agent: Dreamer) -> dict[str, np.ndarray]:
    """All parameters and state under their official names."""
    tensors = dict(agent.named_parameters())
    out = {theirs: to_official(agent, ours, tensors[ours]) for ours, theirs in official_names(agent).items()}
    buffers = dict(agent.named_buffers())
    return out | {theirs: buffers[ours].cpu().numpy() for ours, theirs in official_buffers(agent).items()}


def read_official(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file. ValueError: it cannot be read, or holds what is no number or not finite."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if other := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
            raise ValueError(f"{other[0]} in it is no array")
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{file} cannot be read as a .npz file of arrays ({error}).") from error
    odd = [name for name, value in arrays.items() if value.dtype.kind not in "fiub" or not np.isfinite(value).all()]
    if odd:
        raise ValueError(f"{file} holds values that are no finite numbers: {', '.join(odd)}.")
    return arrays


def import_official(agent: Dreamer, arrays: Mapping[str, np.ndarray]) -> None:
    """Load official arrays. Raises ValueError listing every missing, unexpected or misshapen name."""
    names = official_names(agent) | official_buffers(agent)
    missing, extra = sorted(set(names.values()) - set(arrays)), sorted(set(arrays) - set(names.values()))
    parameters = dict(agent.named_parameters())
    tensors: dict[str, Tensor] = parameters | dict(agent.named_buffers())
    converted, wrong = {}, []
    for ours, theirs in names.items():
        if theirs in arrays:
            array, parameter = arrays[theirs], ours in parameters
            fits = array.ndim == tensors[ours].ndim
            if fits:
                converted[ours] = from_official(agent, ours, array) if parameter else torch.tensor(array)
            if not fits or converted[ours].shape != tensors[ours].shape:
                wrong.append(f"{theirs} {array.shape}")
    if missing or extra or wrong:
        raise ValueError(
            f"Official parameters do not fit this agent: missing {missing}, unexpected {extra}, wrong shape {wrong}; "
            "check that the configuration's sizes, observation keys and action keys match the weights."
        )
    with torch.no_grad():
        for ours, value in converted.items():
            tensors[ours].copy_(value)


def trainable(agent: Dreamer) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Parameters that the optimiser updates: all but the slow value's."""
    return ((name, p) for name, p in agent.named_parameters() if p.requires_grad)


def is_kernel(name: str) -> bool:
    """Whether weight decay applies: kernels, not biases or gains."""
    return name.endswith(".weight") and not re.search(r"norm\.weight$", name)
