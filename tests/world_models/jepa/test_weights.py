"""Meta's layout: read strictly, at its own sizes, without running code; and written so that it reads back."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from world_models.families import FAMILIES
from world_models.jepa import presets
from world_models.jepa.config import PredictorConfig
from world_models.jepa.official_layout import Unreadable, to_official
from world_models.jepa.weights import export_official, import_weights

HEADS = Unreadable(heads=4, predictor_heads=4, size=32)
CONFIGS: dict[str, Any] = {
    "ijepa": presets.ijepa(),
    "vjepa2": presets.vjepa2(),
    "vjepa2-ac": replace(presets.vjepa2_ac(action=7, state=7), extrinsics=6, state_update="pose"),
}


def model_of(kind: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = replace(CONFIGS[kind], **changes)
    model: nn.Module = FAMILIES[config.family].build({}, {}, config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model


def saved(kind: str, file: Path, model: nn.Module | None = None, **more: Any) -> Path:
    torch.save(to_official(model or model_of(kind), kind != "ijepa") | {"epoch": 3, "opt": {"lr": 0.1}} | more, file)
    return file


@pytest.mark.parametrize("kind", CONFIGS)
def test_there_and_back(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    imported = import_weights(kind, saved(kind, tmp_path / "a.pt", model), HEADS)
    assert imported.config == replace(CONFIGS[kind], **_untold(kind))
    own = model.state_dict()
    assert own.keys() == imported.model.state_dict().keys()
    assert all(torch.equal(own[name], x) for name, x in imported.model.state_dict().items())
    report = imported.converted.report()
    assert len([line for line in report if "<-" in line]) == len(own)
    assert "left out: epoch: not a tensor" in report
    assert export_official(imported.model, tmp_path / "b.pt") == len(own)
    again = torch.load(tmp_path / "b.pt", weights_only=True)
    first = torch.load(tmp_path / "a.pt", weights_only=True)
    for part in again:
        assert again[part].keys() == first[part].keys()
        assert all(torch.equal(again[part][name], x) for name, x in first[part].items())


def _untold(kind: str) -> dict[str, Any]:
    """What weights do not tell and import leaves at its default."""
    return {"vjepa2": {"frames": 16}}.get(kind, {})


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_missing_one_extra_and_one_misshapen_are_all_named(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    parts = to_official(model, kind != "ijepa")
    prefix = "module." if kind == "ijepa" else "module.backbone."
    del parts["encoder"][f"{prefix}blocks.1.mlp.fc1.bias"]
    parts["predictor"][f"{prefix}predictor_blocks.0.norm1.weight"] = torch.zeros(3)
    parts["encoder"][f"{prefix}blocks.1.gamma"] = torch.zeros(2)
    torch.save(parts, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="nothing is loaded") as caught:
        import_weights(kind, tmp_path / "a.pt", HEADS)
    message = str(caught.value)
    assert "Missing: encoder.blocks.1.mlp.fc1.bias." in message
    assert f"Unexpected: encoder.{prefix}blocks.1.gamma." in message
    assert f"Of another shape: predictor.{prefix}predictor_blocks.0.norm1.weight [3], not [" in message


@pytest.mark.parametrize("depth", [1, 5])
def test_a_predictor_of_another_depth_is_built_at_its_own(depth: int, tmp_path: Path) -> None:
    predictor = PredictorConfig(width=24, depth=depth, heads=4, mask_tokens=8)
    file = saved("vjepa2", tmp_path / "a.pt", model_of("vjepa2", predictor=predictor))
    for kind in ("vjepa2", "vjepa2.1"):
        config = import_weights(kind, file, HEADS).config
        assert (config.predictor, config.encoder.depth) == (predictor, 3)


def test_stale_tables_are_left_out_and_one_encoder_serves_as_both(tmp_path: Path) -> None:
    parts = to_official(model_of("vjepa2"), True)
    parts["ema_encoder"] = parts.pop("target_encoder")
    del parts["encoder"]
    parts["ema_encoder"]["module.backbone.pos_embed"] = torch.zeros(1, 9, 64)
    torch.save(parts, tmp_path / "a.pt")
    imported = import_weights("vjepa2.1", tmp_path / "a.pt", HEADS)
    encoders = [imported.model.get_submodule(name).state_dict() for name in ("encoder", "target_encoder")]
    assert all(torch.equal(encoders[0][name], x) for name, x in encoders[1].items())
    assert "rotary" in imported.converted.left_out["ema_encoder.module.backbone.pos_embed"]


def test_assumed_attention_heads_are_said(tmp_path: Path) -> None:
    imported = import_weights("vjepa2", saved("vjepa2", tmp_path / "a.pt"), Unreadable())
    assert any("--heads" in note for note in imported.converted.notes)
    assert imported.config.encoder.size == 256


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    saved("ijepa", tmp_path / "a.pt", surprise=Code(tmp_path / "ran"))
    with pytest.raises(ValueError, match=r"a\.pt is refused.*run any code"):
        import_weights("ijepa", tmp_path / "a.pt", HEADS)
    assert not (tmp_path / "ran").exists()


def test_damaged_absent_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(saved("ijepa", tmp_path / "a.pt").read_bytes()[:5000])
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    (tmp_path / "text.pt").write_text("not weights")
    for name in ("notes.txt", "empty.pt"):
        (tmp_path / name).touch()
    for name, message in (
        ("cut.pt", "cannot be read as weights"), ("cut.safetensors", "cannot be read as weights"),
        ("text.pt", "is refused"), ("empty.pt", "it is empty"),
        ("notes.txt", "must end in"), ("absent.pt", "no such file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            import_weights("ijepa", tmp_path / name, HEADS)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a.pt").touch()
    (tmp_path / "two" / "b.pth").touch()
    with pytest.raises(ValueError, match=r"found a\.pt, b\.pth"):
        import_weights("ijepa", tmp_path / "two", HEADS)
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"no blocks\.0"):
        import_weights("ijepa", tmp_path / "x.safetensors", HEADS)


def test_hugging_face_needs_its_configuration(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"has no config\.json, which tells the sizes .*; put the one that came with"):
        import_weights("hf", tmp_path, Unreadable())
    for text, message in (
        ("{", "Expecting property name"),
        ("[]", "it holds no fields"),
        ('{"model_type": "vit"}', "model_type 'vit'"),
        ('{"model_type": "ijepa"}', "it has no 'hidden_size'"),
        ('{"model_type": "ijepa", "hidden_size": "wide"}', "invalid literal for int"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            import_weights("hf", tmp_path, Unreadable())
