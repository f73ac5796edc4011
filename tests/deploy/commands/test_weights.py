"""`nexus import-weights` and `nexus export-weights` through the command line, both ways and all layouts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.cli import main
from deploy.commands.import_weights import PROBE, REPORT
from tests.deploy.commands.test_plan import saved_dreamer
from tests.world_models.small_agent import CONTINUOUS, VECTOR, build
from world_models.checkpoint_files import read_arrays, verify
from world_models.dreamer.official_names import export_official
from world_models.jepa import presets
from world_models.jepa.official_layout import to_official
from world_models.jepa.vjepa2 import VJEPA2
from world_models.loading import load_model
from world_models.model_document import read_model_document
from world_models.space import Space

PLACE = Space(dtype=VECTOR.dtype, shape=(2,))


def nexus(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    parts = to_official(VJEPA2(presets.vjepa2()), backbone=True)
    torch.save(parts | {"epoch": 1}, tmp_path / "meta.pt")
    return tmp_path / "meta.pt"


def test_there_and_back_through_both_layouts(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "ours", ("--heads", 4, "--predictor-heads", 4, "--size", 32)
    assert nexus("import-weights", "vjepa2", official, "--out", out, *options) == 0
    assert "1 key left out" in capsys.readouterr().out
    verify(out)
    document = read_model_document(out)
    assert document.family.name == "vjepa2" and document.config.encoder == presets.vjepa2().encoder
    arrays = read_arrays(out / "model.safetensors")
    assert len((out / REPORT).read_text().splitlines()) == len(arrays) + 1

    assert nexus("export-weights", out, "--to", "meta", "--out", tmp_path / "meta") == 0
    first, again = (torch.load(path, weights_only=True) for path in (official, tmp_path / "meta" / "weights.pt"))
    assert first.keys() - {"epoch"} == again.keys()
    assert all(torch.equal(again[part][name], x) for part in again for name, x in first[part].items())

    assert nexus("export-weights", out, "--to", "hf", "--out", tmp_path / "hf") == 0
    assert nexus("import-weights", "hf", tmp_path / "hf", "--out", tmp_path / "again") == 0
    other = read_arrays(tmp_path / "again" / "model.safetensors")
    assert other.keys() == arrays.keys()
    for name in arrays:
        # Theirs has one encoder, the target encoder.
        source = name.replace("encoder.", "target_encoder.", 1) if name.startswith("encoder.") else name
        assert (other[name] == arrays[source]).all(), name
    assert not (tmp_path / "again" / PROBE).exists()


def test_weights_that_do_not_fit_leave_nothing(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = torch.load(official, weights_only=True)
    del parts["predictor"]["module.backbone.predictor_proj.bias"]
    torch.save(parts, official)
    assert nexus("import-weights", "vjepa2", official, "--out", tmp_path / "ours") == 2
    assert "predictor.predictor_proj.bias" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert nexus("import-weights", "vjepa2", official, "--out", tmp_path / "full") == 2
    assert "already exists" in capsys.readouterr().err


def test_hugging_faces_own_files(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra hf: pip install 'nexus-worlds[hf]'")
    config = transformers.VJEPA2Config(
        patch_size=8, crop_size=32, hidden_size=32, num_attention_heads=2, num_hidden_layers=1, pred_hidden_size=16,
        pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=2, num_pooler_layers=1, num_labels=3,
    )  # fmt: skip
    model = transformers.VJEPA2ForVideoClassification(config)
    model.save_pretrained(tmp_path / "theirs")
    assert nexus("import-weights", "hf", tmp_path / "theirs", "--out", tmp_path / "ours") == 0
    assert read_arrays(tmp_path / "ours" / PROBE)["linear.bias"].shape == (3,)
    assert nexus("export-weights", tmp_path / "ours", "--to", "hf", "--out", tmp_path / "back") == 0
    again = transformers.VJEPA2Model.from_pretrained(tmp_path / "back")
    for name, x in model.vjepa2.state_dict().items():
        assert torch.equal(again.state_dict()[name], x)


def test_an_agent_there_and_back_by_official_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    like, other = saved_dreamer(tmp_path / "run"), build({"position": PLACE}, {"action": CONTINUOUS}, seed=5)
    (like / "config.yaml").write_text("task: gym:CartPole-v1\n")
    file, out, options = tmp_path / "official.npz", tmp_path / "agent", ("--like", like)
    arrays = export_official(other)
    np.savez(file, allow_pickle=False, **arrays)
    assert nexus("import-weights", "dreamerv3", file, *options, "--out", out) == 0
    assert f"{len(arrays)} arrays in {out}" in capsys.readouterr().out
    verify(out)
    assert (out / "config.yaml").exists() and len((out / REPORT).read_text().splitlines()) == len(arrays)
    loaded = load_model(out)
    for name, value in other.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name

    assert nexus("export-weights", out, "--to", "dreamerv3", "--out", tmp_path / "back") == 0
    with np.load(tmp_path / "back" / "weights.npz") as back:
        assert set(back.files) == set(arrays)
        for name in back.files:
            np.testing.assert_array_equal(back[name], arrays[name])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x.pop("pol/mlp/linear0/bias"), "missing ['pol/mlp/linear0/bias']"),
        (lambda x: x.update({"opt/step": np.zeros(1)}), "unexpected ['opt/step']"),
        (lambda x: x.update({"dyn/obslogit/bias": np.zeros(7)}), "wrong shape ['dyn/obslogit/bias (7,)']"),
        (lambda x: x.update({"dyn/obslogit/kernel": np.zeros(7)}), "wrong shape ['dyn/obslogit/kernel (7,)']"),
        (lambda x: x.update({"dyn/obslogit/bias": np.full(12, np.nan)}), "no finite numbers: dyn/obslogit/bias"),
    ],
)
def test_an_agent_that_does_not_fit_is_not_written(
    change: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    like, file = saved_dreamer(tmp_path / "run"), tmp_path / "official.npz"
    arrays = export_official(build({"position": PLACE}, {"action": CONTINUOUS}))
    change(arrays)
    np.savez(file, allow_pickle=False, **arrays)
    assert nexus("import-weights", "dreamerv3", file, "--like", like, "--out", tmp_path / "agent") == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "agent").exists()


def test_what_is_no_agent(tmp_path: Path, official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, array, like = tmp_path / "agent", tmp_path / "array.npy", saved_dreamer(tmp_path / "run")
    np.save(array, np.zeros(3))
    for arguments, told in (
        (("dreamerv3", official), "import-weights dreamerv3 needs --like RUN"),
        (("vjepa2", official, "--like", tmp_path), "leave --like out"),
        (("dreamerv3", array, "--like", like), "cannot be read as a .npz file of arrays"),
        (("dreamerv3", official, "--like", like, "--size", 64), "--size are for Meta's weights"),
        (("dreamerv3", official, "--like", like), "cannot be read as a .npz file of arrays"),
    ):
        assert nexus("import-weights", *arguments, "--out", out) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert nexus("export-weights", tmp_path / "run", "--to", "hf", "--out", out) == 2
    assert "family 'dreamer'; --to dreamerv3 fits it" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
