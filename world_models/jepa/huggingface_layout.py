"""Hugging Face's layout of I-JEPA, V-JEPA 2 and its attentive probe, both ways.

It has one encoder, our target encoder; its I-JEPA has no predictor. Queries, keys and values are separate there.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from world_models.jepa.config import EncoderConfig, IJEPAConfig, PredictorConfig, VJEPA2Config
from world_models.jepa.conversion import Converted
from world_models.jepa.probe import AttentiveProbe
from world_models.jepa.weight_files import Tensors
from world_models.vit import NORM_EPS

# Our names to theirs, first match; `*` in a replacement stands for each of the parts that we keep fused.
IJEPA = (
    (r"pos_embed$", "embeddings.position_embeddings"),
    (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"blocks\.(\d+)\.norm1", r"layers.\1.layernorm_before"),
    (r"blocks\.(\d+)\.norm2", r"layers.\1.layernorm_after"),
    (r"blocks\.(\d+)\.attn\.qkv", r"layers.\1.attention.*_proj"),
    (r"blocks\.(\d+)\.attn\.proj", r"layers.\1.attention.o_proj"),
    (r"blocks\.(\d+)\.mlp", r"layers.\1.mlp"),
    (r"norm\.", "layernorm."),
)
VJEPA2 = (
    (r"patch_embed\.proj", "encoder.embeddings.patch_embeddings.proj"),
    (r"predictor_embed\.", "predictor.embeddings.predictor_embeddings."),
    (r"predictor_norm\.", "predictor.layernorm."),
    (r"predictor_proj\.", "predictor.proj."),
    (r"predictor_blocks\.(\d+)\.attn\.qkv", r"predictor.layer.\1.attention.*"),
    (r"predictor_blocks\.(\d+)\.attn\.proj", r"predictor.layer.\1.attention.proj"),
    (r"predictor_blocks\.(\d+)\.", r"predictor.layer.\1."),
    (r"blocks\.(\d+)\.attn\.qkv", r"encoder.layer.\1.attention.*"),
    (r"blocks\.(\d+)\.attn\.proj", r"encoder.layer.\1.attention.proj"),
    (r"blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"norm\.", "encoder.layernorm."),
)
PROBE = (
    (r"pooler\.query_tokens", "pooler.query_tokens"),
    (r"pooler\.cross_attention_block\.norm", "pooler.cross_attention_layer.layer_norm"),
    (r"pooler\.cross_attention_block\.xattn\.q\.", "pooler.cross_attention_layer.cross_attn.q_proj."),
    (r"pooler\.cross_attention_block\.xattn\.kv", "pooler.cross_attention_layer.cross_attn.*_proj"),
    (r"pooler\.cross_attention_block\.mlp", "pooler.cross_attention_layer.mlp"),
    (r"pooler\.blocks\.(\d+)\.norm", r"pooler.self_attention_layers.\1.layer_norm"),
    (r"pooler\.blocks\.(\d+)\.attn\.qkv", r"pooler.self_attention_layers.\1.self_attn.*_proj"),
    (r"pooler\.blocks\.(\d+)\.attn\.proj", r"pooler.self_attention_layers.\1.self_attn.out_proj"),
    (r"pooler\.blocks\.(\d+)\.mlp", r"pooler.self_attention_layers.\1.mlp"),
    (r"linear\.", "classifier."),
)
Names = tuple[tuple[str, str], ...]
# Files from before transformers 5 name I-JEPA's layers so.
EARLIER = (
    (r"encoder\.layer\.(\d+)\.attention\.attention\.query", r"layers.\1.attention.q_proj"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.key", r"layers.\1.attention.k_proj"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.value", r"layers.\1.attention.v_proj"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense", r"layers.\1.attention.o_proj"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense", r"layers.\1.mlp.fc1"),
    (r"encoder\.layer\.(\d+)\.output\.dense", r"layers.\1.mlp.fc2"),
    (r"encoder\.layer\.(\d+)\.layernorm", r"layers.\1.layernorm"),
)


def theirs(name: str, names: Names) -> list[str]:
    """Their names of one of our tensors: several if we keep it fused."""
    for ours, replacement in names:
        if re.match(ours, name):
            found = re.sub(f"^{ours}", replacement, name)
            if "*" not in found:
                return [found]
            parts = "kv" if ".kv." in name else "qkv"
            words = {"q": "query", "k": "key", "v": "value"} if names is VJEPA2 else {part: part for part in parts}
            return [found.replace("*", words[part]) for part in parts]
    raise AssertionError(f"{name} has no name in Hugging Face's layout")


def gather(own: Iterable[str], tensors: Mapping[str, Tensor], names: Names, part: str = "") -> Converted:
    """Their tensors under the names `own`, of one `part` of a model; keys that stand for none of ours stay as they
    are, so that they are seen as unexpected."""
    out, used = Converted(), set()
    for name in own:
        keys = theirs(name, names)
        used.update(keys)
        out.expected[f"{part}{name}"] = " + ".join(keys)
        parts = [tensors[key] for key in keys if key in tensors]
        if len(parts) == len(keys):
            odd = [key for key, x in zip(keys, parts, strict=True) if x.shape != parts[-1].shape]
            if odd:  # the misshapen one alone, so that its name is told
                out.add(f"{part}{name}", tensors[odd[0]], odd[0])
            else:
                out.add(
                    f"{part}{name}", torch.cat(parts) if len(parts) > 1 else parts[0], out.expected[f"{part}{name}"]
                )
        elif parts:
            out.expected[f"{part}{name}"] = ", ".join(key for key in keys if key not in tensors)
    for key in tensors.keys() - used:
        out.add(key, tensors[key], key)
    return out


def spread(own: Mapping[str, Tensor], names: Names) -> Tensors:
    """Our tensors under their names."""
    out: Tensors = {}
    for name, value in own.items():
        keys = theirs(name, names)
        for key, x in zip(keys, value.detach().cpu().chunk(len(keys)), strict=True):
            out[key] = x.clone()
    return out


def from_huggingface(model: Any, tensors: Mapping[str, Tensor]) -> Converted:
    """Weights of a model with the sizes of `model`, an I-JEPA or a V-JEPA 2, under our names; probes apart."""
    image = isinstance(model.config, IJEPAConfig)
    prefix = "ijepa." if image else "vjepa2."
    plain = {
        key.removeprefix(prefix): x for key, x in tensors.items() if not key.startswith(("pooler.", "classifier."))
    }
    if image:
        plain = {_later(key): x for key, x in plain.items()}
        out = gather(model.get_submodule("target_encoder").state_dict(), plain, IJEPA, "target_encoder.")
        out.fresh["predictor."] = "drawn anew: Hugging Face's I-JEPA has no predictor"
    else:
        predictor = model.get_submodule("predictor").state_dict()
        tokens = plain.pop("predictor.embeddings.mask_tokens", None)
        own = [f"target_encoder.{name}" for name in model.get_submodule("target_encoder").state_dict()]
        own += [f"predictor.{name}" for name in predictor if not name.startswith("mask_tokens.")]
        short = {name.partition(".")[2]: name for name in own}
        found = gather(short, plain, VJEPA2)
        out = Converted(expected={short[name]: key for name, key in found.expected.items()})
        for name, x in found.tensors.items():
            out.add(short.get(name, name), x, found.origin[name])
        for i, token in enumerate(tokens if tokens is not None else ()):
            out.add(f"predictor.mask_tokens.{i}", token, f"predictor.embeddings.mask_tokens[{i}]")
    out.copy_part("encoder", "target_encoder")
    for key in tensors:
        if key.startswith(("pooler.", "classifier.")):
            out.left_out[key] = "of a probe or pooler, not of the model"
    return out


def to_huggingface(model: Any) -> Tensors:
    """The target encoder, and V-JEPA 2's predictor, under Hugging Face's names."""
    encoder = model.get_submodule("target_encoder").state_dict()
    if isinstance(model.config, IJEPAConfig):
        return spread(encoder, IJEPA)
    predictor = model.get_submodule("predictor").state_dict()
    tokens = [predictor.pop(name) for name in list(predictor) if name.startswith("mask_tokens.")]
    stacked = {"predictor.embeddings.mask_tokens": torch.stack(tokens).detach().cpu().clone()}
    return spread(encoder, VJEPA2) | spread(predictor, VJEPA2) | stacked


def probe_from_huggingface(fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AttentiveProbe:
    """The probe of VJEPA2ForVideoClassification. ValueError names every key that does not fit."""
    head = {key: x for key, x in tensors.items() if key.startswith(("pooler.", "classifier."))}
    classes = len(head["classifier.bias"]) if "classifier.bias" in head else 1
    probe = AttentiveProbe(
        int(fields["hidden_size"]), classes, int(fields["num_attention_heads"]),
        int(fields.get("num_pooler_layers", 3)) + 1,
    )  # fmt: skip
    gather(probe.state_dict(), head, PROBE).load_into(probe)
    return probe


def probe_to_huggingface(probe: AttentiveProbe) -> Tensors:
    """A probe under the names of VJEPA2ForVideoClassification."""
    return spread(probe.state_dict(), PROBE)


def config_from_huggingface(fields: Mapping[str, Any]) -> IJEPAConfig | VJEPA2Config:
    """Our configuration from a `config.json` of theirs. ValueError: another model, or options that ours lacks."""
    kind = fields.get("model_type")
    if kind not in ("ijepa", "vjepa2"):
        raise ValueError(f"model_type {kind!r} is neither ijepa nor vjepa2")
    if fields.get("hidden_act", "gelu") != "gelu" or not fields.get("qkv_bias", True):
        raise ValueError("it asks for another activation than gelu, or for no qkv_bias, and Nexus has neither")
    width, heads = int(fields["hidden_size"]), int(fields["num_attention_heads"])
    depth, patch = int(fields["num_hidden_layers"]), int(fields["patch_size"])
    if kind == "ijepa":
        encoder = EncoderConfig(
            size=int(fields["image_size"]), patch=patch, channels=int(fields.get("num_channels", 3)), width=width,
            depth=depth, heads=heads, mlp_ratio=int(fields["intermediate_size"]) / width,
        )  # fmt: skip
        return IJEPAConfig(encoder=encoder, predictor=PredictorConfig(heads=16))
    encoder = EncoderConfig(
        size=int(fields["crop_size"]), patch=patch, tubelet=int(fields.get("tubelet_size", 2)), width=width,
        channels=int(fields.get("in_chans", 3)), depth=depth, heads=heads, mlp_ratio=float(fields.get("mlp_ratio", 4)),
    )  # fmt: skip
    predictor = PredictorConfig(
        width=int(fields.get("pred_hidden_size", 384)), depth=int(fields.get("pred_num_hidden_layers", 12)),
        heads=int(fields.get("pred_num_attention_heads", 12)), mlp_ratio=float(fields.get("pred_mlp_ratio", 4)),
        mask_tokens=int(fields.get("pred_num_mask_tokens", 10)),
    )  # fmt: skip
    return VJEPA2Config(encoder=encoder, predictor=predictor, frames=int(fields.get("frames_per_clip", 16)))


def config_to_huggingface(config: IJEPAConfig | VJEPA2Config) -> dict[str, Any]:
    """A `config.json` with which `from_pretrained` builds the same model."""
    e, p = config.encoder, config.predictor
    fields: dict[str, Any] = {
        "hidden_size": e.width, "num_hidden_layers": e.depth, "num_attention_heads": e.heads, "patch_size": e.patch,
        "layer_norm_eps": NORM_EPS, "hidden_act": "gelu", "qkv_bias": True,
    }  # fmt: skip
    if isinstance(config, IJEPAConfig):
        return fields | {
            "architectures": ["IJepaModel"], "model_type": "ijepa", "image_size": e.size, "num_channels": e.channels,
            "intermediate_size": round(e.width * e.mlp_ratio),
        }  # fmt: skip
    return fields | {
        "architectures": ["VJEPA2Model"], "model_type": "vjepa2", "crop_size": e.size, "in_chans": e.channels,
        "tubelet_size": e.tubelet, "mlp_ratio": e.mlp_ratio, "frames_per_clip": config.frames,
        "pred_hidden_size": p.width, "pred_num_hidden_layers": p.depth, "pred_num_attention_heads": p.heads,
        "pred_mlp_ratio": p.mlp_ratio, "pred_num_mask_tokens": p.mask_tokens,
    }  # fmt: skip


def _later(key: str) -> str:
    """A key of before transformers 5 as it is named now."""
    for before, after in EARLIER:
        if re.match(before, key):
            return re.sub(f"^{before}", after, key)
    return key
