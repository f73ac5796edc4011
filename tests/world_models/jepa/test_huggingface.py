"""Hugging Face's tiny random models as an independent reference, and conversion to and from their layout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from world_models.jepa.block_masks import MaskIds
from world_models.jepa.config import IJEPAConfig, VJEPA2Config
from world_models.jepa.huggingface_layout import (
    config_from_huggingface,
    config_to_huggingface,
    from_huggingface,
    probe_from_huggingface,
    probe_to_huggingface,
    to_huggingface,
)
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.vjepa2 import VJEPA2

transformers = pytest.importorskip("transformers", reason="needs the extra hf: pip install 'nexus-worlds[hf]'")
pytestmark = pytest.mark.filterwarnings("ignore")


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).detach().abs().max()) < 1e-5


def redrawn(model: nn.Module, seed: int = 0) -> Any:
    """Every bias, gain and token drawn, so that every term matters."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "position_embeddings" not in name:
                spread = 1 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.2
                p.copy_(spread * torch.randn(p.shape, generator=rng) + float("norm" in name and "weight" in name))
    return model.eval()


@pytest.fixture(scope="module")
def image_model() -> Any:
    config = transformers.IJepaConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    return redrawn(transformers.IJepaModel(config, add_pooling_layer=False))


@pytest.fixture(scope="module")
def video_model() -> Any:
    config = transformers.VJEPA2Config(
        patch_size=8, crop_size=32, frames_per_clip=8, hidden_size=40, num_attention_heads=2, num_hidden_layers=2,
        mlp_ratio=2.0, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=3,
        pred_num_mask_tokens=3, num_pooler_layers=2, num_labels=5,
    )  # fmt: skip
    return redrawn(transformers.VJEPA2ForVideoClassification(config))


def ijepa_from(theirs: Any) -> IJEPA:
    config = config_from_huggingface(theirs.config.to_dict())
    assert isinstance(config, IJEPAConfig)
    model = IJEPA(config)
    with torch.no_grad():  # the fixed positions are zero in a fresh model of theirs
        theirs.embeddings.position_embeddings.copy_(model.encoder.pos_embed)
    from_huggingface(model, theirs.state_dict()).load_into(model)
    return model


def vjepa2_from(theirs: Any) -> VJEPA2:
    config = config_from_huggingface(theirs.config.to_dict())
    assert isinstance(config, VJEPA2Config)
    model = VJEPA2(config)
    from_huggingface(model, theirs.state_dict()).load_into(model)
    return model


def test_ijepa_encodes_the_same(image_model: Any) -> None:
    ours, images = ijepa_from(image_model), torch.randn(2, 3, 32, 32)
    assert close(ours.encode(images), image_model(pixel_values=images).last_hidden_state)
    assert close(ours.encoder(images), ours.encode(images))


def test_vjepa2_encodes_and_predicts_the_same(video_model: Any) -> None:
    ours, clips = vjepa2_from(video_model), torch.randn(2, 3, 8, 32, 32)
    order = torch.rand(2, 64).argsort(1)
    masks = MaskIds(order[:, :20].sort(1).values, order[:, 30:].sort(1).values)
    theirs = video_model.vjepa2(clips.transpose(1, 2), context_mask=[masks.context], target_mask=[masks.target])
    assert close(ours.encode(clips), theirs.last_hidden_state)
    context = ours.encode(clips).gather(1, masks.context[..., None].expand(-1, -1, 40))
    assert close(ours.predictor(context, *masks), theirs.predictor_output.last_hidden_state)


def test_the_probe_says_the_same(video_model: Any) -> None:
    probe = probe_from_huggingface(video_model.config.to_dict(), video_model.state_dict())
    clips = torch.randn(2, 3, 8, 32, 32)
    theirs = video_model(clips.transpose(1, 2)).logits
    # Their norms have an epsilon of 1e-6, the original's 1e-5.
    assert float((probe(vjepa2_from(video_model).encode(clips)) - theirs).detach().abs().max()) < 1e-3
    again = probe_to_huggingface(probe)
    head = {key: x for key, x in video_model.state_dict().items() if key.startswith(("pooler", "classifier"))}
    assert again.keys() == head.keys() and all(torch.equal(again[key], x) for key, x in head.items())


@pytest.mark.parametrize("kind", ["image", "video"])
def test_there_and_back(kind: str, image_model: Any, video_model: Any, tmp_path: Path) -> None:
    ours = ijepa_from(image_model) if kind == "image" else vjepa2_from(video_model)
    base = image_model if kind == "image" else video_model.vjepa2
    tensors, fields = to_huggingface(ours), config_to_huggingface(ours.config)
    assert tensors.keys() == base.state_dict().keys()
    assert all(torch.equal(tensors[key], x) for key, x in base.state_dict().items())
    loaded = type(base)(type(base.config)(**fields))
    loaded.load_state_dict(tensors, strict=False)
    again = type(ours)(config_from_huggingface(loaded.config.to_dict()))  # type: ignore[arg-type]
    from_huggingface(again, loaded.state_dict()).load_into(again)
    for name, x in ours.target_encoder.state_dict().items():
        assert torch.equal(again.target_encoder.state_dict()[name], x)


def test_names_from_before_transformers_5(image_model: Any) -> None:
    """As on the hub: the layers of ViT of then."""
    renames = [
        ("layers.", "encoder.layer."), ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ]  # fmt: skip
    expected, old = ijepa_from(image_model), {}
    for key, x in image_model.state_dict().items():
        for new, before in renames:
            key = key.replace(new, before)
        old[key] = x
    model = IJEPA(expected.config)
    from_huggingface(model, old).load_into(model)
    own, same = model.target_encoder.state_dict(), expected.target_encoder.state_dict()
    assert all(torch.equal(own[name], x) for name, x in same.items())


@pytest.mark.parametrize("kind", ["image", "video"])
def test_one_missing_one_extra_and_one_misshapen_are_all_named(kind: str, image_model: Any, video_model: Any) -> None:
    ours = ijepa_from(image_model) if kind == "image" else vjepa2_from(video_model)
    key = "layers.1.attention.k_proj.bias" if kind == "image" else "encoder.layer.1.attention.key.bias"
    odd = "layers.0.mlp.fc1.weight" if kind == "image" else "predictor.layer.2.mlp.fc1.weight"
    tensors = to_huggingface(ours)
    del tensors[key]
    tensors |= {odd: torch.zeros(3, 5), "surprise.weight": torch.zeros(2)}
    fresh = type(ours)(ours.config)  # type: ignore[arg-type]
    before = {name: x.clone() for name, x in fresh.state_dict().items()}
    with pytest.raises(ValueError, match="nothing is loaded") as caught:
        from_huggingface(fresh, tensors).load_into(fresh)
    assert all(name in str(caught.value) for name in (key, odd, "surprise.weight"))
    assert all(torch.equal(before[name], x) for name, x in fresh.state_dict().items())


def test_other_models_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="'bert'"):
        config_from_huggingface({"model_type": "bert"})
    with pytest.raises(ValueError, match="another activation"):
        config_from_huggingface({"model_type": "ijepa", "hidden_act": "relu"})
