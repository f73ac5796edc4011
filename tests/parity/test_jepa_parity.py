"""The parity tool of the JEPAs agrees with the originals' numbers; a wrong number makes it fail there alone."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import world_models.vit
from learner.adamw import AdamW
from tests.parity import make_jepa
from tests.parity.check import KINDS, Check
from tests.parity.jepa import check_arrays, main
from tests.parity.run import load
from world_models.jepa import block_masks, predictor
from world_models.jepa.vjepa2_ac import VJEPA2AC

OFFICIAL = Path(os.environ.get("NEXUS_VECTORS", Path(__file__).parents[3] / "shared" / "vectors")) / "jepa"
FILES = sorted(path.name for path in OFFICIAL.glob("*.npz")) or ["ijepa.npz"]
FED = {"encoder/pos_embed", "target_encoder/pos_embed", "predictor/predictor_pos_embed"}
"""Compared, and loaded into the model too."""

official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="no official vectors: set NEXUS_VECTORS to the folder of jepa/"
)


@cache
def baseline(file: str) -> Check:
    """The untouched file, checked once for all tests."""
    return check_arrays(file, load(OFFICIAL / file))


def failures(check: Check) -> set[str]:
    return {c.name for c in check.finish() if not c.ok}


def off(check: Check, name: str) -> np.ndarray:
    """The file's array, one element off by ten times its tolerance."""
    actual, array = check.actuals[name], np.array(check.arrays[name])
    flat, tolerance = array.reshape(-1), KINDS[actual.kind].tolerance  # a view
    at = len(flat) // 2
    if actual.kind == "exact":
        flat[at] = not flat[at] if array.dtype == bool else flat[at] + 1
    elif actual.kind == "sampled":  # counts: a shifted law; shares: one patch that is used where it should not be
        flat[:] = flat + 150 if array.ndim == 1 else np.where(np.arange(len(flat)) == len(flat) - 1, 0.5, flat)
    elif actual.kind == "schedule":
        flat[at] *= 1 + 10 * tolerance
    else:
        if actual.scale is not None:
            at = int(np.argmin(np.broadcast_to(actual.scale, array.shape)))  # where the sign of the gradient is certain
        flat[at] += 10 * tolerance
    return array


@official
def test_every_array_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--vectors", str(OFFICIAL), "--json"])
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[-1])
    assert code == 0, "\n".join(line for line in lines if "FAIL" in line)
    assert report["ok"] and report["value"] == 0 and report["files"] == len(FILES) == 7
    assert report["arrays"] == sum(len(load(OFFICIAL / file)) for file in FILES)


@official
@pytest.mark.parametrize("file", FILES)
def test_each_compared_array_fails_when_its_reference_is_off(file: str) -> None:
    """Judged one by one from a single run: `judge` sees no other array of the file."""
    check = baseline(file)
    for name in check.comparisons:
        assert check.judge(name, check.arrays[name]).ok, name
        assert not check.judge(name, off(check, name)).ok, name


@official
@pytest.mark.parametrize("file", [file for file in FILES if "masks" not in file])  # those take seconds to sample
def test_wrong_arrays_fail_and_no_others(file: str) -> None:
    check = baseline(file)
    wrong = {name for name in sorted(check.comparisons)[:: 3 if len(check.comparisons) > 3 else 1]} - FED
    assert wrong
    changed = {**check.arrays} | {name: off(check, name) for name in wrong}
    assert failures(check_arrays(file, changed)) == wrong


@official
@pytest.mark.parametrize("file", FILES)
def test_an_array_that_nobody_claims_fails(file: str) -> None:
    check = baseline(file)
    known = Check(file, {**check.arrays, "surprise/x": np.zeros(3)})
    known.inputs_read, known.comparisons = check.inputs_read, check.comparisons
    assert failures(known) == {"surprise/x"}


@pytest.mark.parametrize("file", make_jepa.OTHERS)
def test_other_sizes_and_seeds(file: str) -> None:
    """Only the file says what the configuration is."""
    arrays = make_jepa.recorded(file, make_jepa.OTHERS[file](3))
    check = check_arrays(file, arrays)
    assert failures(check) == set()
    assert len(check.comparisons) > 2


def test_a_missing_parameter_a_missing_input_and_an_unknown_file_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = make_jepa.recorded("vjepa2_ac.npz", make_jepa.of_vjepa2_ac(3))
    for gone in ("predictor/action_encoder.weight", "in/actions"):
        rest = {name: array for name, array in arrays.items() if name != gone}
        notes = [c.note for c in check_arrays("vjepa2_ac.npz", rest).finish() if not c.ok]
        assert any(gone.split("/")[1] in note for note in notes)
    np.savez(tmp_path / "mystery.npz", x=np.zeros(3))
    assert main(["--vectors", str(tmp_path)]) == 1
    assert "not covered" in capsys.readouterr().out


PREDICT: Any = VJEPA2AC.predictions
SLIPS: dict[str, tuple[Any, str, Any, str]] = {
    "blocks": (block_masks, "between", lambda low_high, share: low_high[0], "ijepa_schedules_masks.npz"),
    "target encoder stands still": (
        __import__("world_models.jepa.ijepa", fromlist=["ijepa"]), "move_towards", lambda *_: None, "ijepa.npz",
    ),
    "everything decays": (
        AdamW, "step", lambda self, lr, wd: torch.optim.AdamW(self.named.values(), lr=lr, weight_decay=wd).step(),
        "ijepa.npz",
    ),
    "unrotated predictor": (predictor, "rotation_3d", lambda *_: None, "vjepa2.npz"),
    "rollout": (VJEPA2AC, "predictions", lambda *a: (PREDICT(*a)[0], PREDICT(*a)[0][:, :2]), "vjepa2_ac.npz"),
    "rotation": (
        world_models.vit, "rotate", lambda x, rotation: x * rotation.cos.to(x.dtype), "vjepa2.npz",
    ),
}  # fmt: skip


@official
@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_the_code_is_seen(slip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, value, file = SLIPS[slip]
    monkeypatch.setattr(owner, name, value)
    assert failures(check_arrays(file, load(OFFICIAL / file)))
