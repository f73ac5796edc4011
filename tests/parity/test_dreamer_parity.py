"""The parity tool agrees with the reference numbers; a wrong number anywhere makes it fail there and nowhere else."""

import json
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import world_models.layers
from tests.parity import golden_inputs, make_golden
from tests.parity.check import KINDS, Check
from tests.parity.dreamer import check_arrays, main
from tests.parity.golden_inputs import Arrays, Plan, space
from tests.parity.official_config import agent_config
from tests.parity.run import load
from world_models.dreamer import losses
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.rssm import RSSM

GOLDEN = make_golden.GOLDEN
OFFICIAL = Path(os.environ.get("NEXUS_VECTORS", Path(__file__).parents[3] / "shared" / "vectors")) / "dreamerv3"
FOLDERS = [
    pytest.param(GOLDEN, id="golden"),
    pytest.param(
        OFFICIAL,
        id="official",
        marks=pytest.mark.skipif(
            not OFFICIAL.is_dir(),
            reason="no official vectors: set NEXUS_VECTORS to the folder of dreamerv3/ (golden files stand in)",
        ),
    ),
]
GOLDEN_FILES = sorted(path.name for path in GOLDEN.glob("*.npz"))
# What the replay trace feeds to the store; it is compared too, after having gone through the store.
FED = re.compile(r"(config|add_worker|add_id|add_is_first|add_is_last|after_add|update/values)$")


@cache
def baseline(path: Path) -> Check:
    """The untouched file, checked once for all tests."""
    return check_arrays(path.name, load(path))


def failures(check: Check) -> set[str]:
    return {c.name for c in check.finish() if not c.ok}


def ten_tolerances_off(check: Check, name: str) -> np.ndarray:
    """The file's array with one element off by ten times its tolerance."""
    actual, array = check.actuals[name], np.array(check.arrays[name])
    flat = array.reshape(-1)  # a view
    at = len(flat) // 2
    if actual.kind == "exact":
        if array.dtype.kind == "U":
            return np.char.add(array, "?")
        flat[at] = not flat[at] if array.dtype == bool else flat[at] + 1
    else:
        if actual.kind == "statistics":
            at = 1  # the standard deviation
        scale = np.abs(flat).max() if actual.scale is None else np.broadcast_to(actual.scale, array.shape).flat[at]
        flat[at] += 10 * KINDS[actual.kind].tolerance * (scale or 1.0)
    return array


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_array_agrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--vectors", str(folder), "--json"])
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[-1])
    assert code == 0, "\n".join(line for line in lines if "FAIL" in line)
    assert report["ok"] and report["value"] == 0
    assert report["arrays"] == sum(len(load(path)) for path in folder.glob("*.npz"))
    assert report["files"] == len(list(folder.glob("*.npz"))) > 6


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_compared_array_fails_when_its_reference_is_ten_tolerances_off(folder: Path) -> None:
    """Judged one by one from a single run: `judge` sees no other array of the file."""
    for path in sorted(folder.glob("*.npz")):
        check = baseline(path)
        for name in check.comparisons:
            assert check.judge(name, check.arrays[name]).ok, name
            assert not check.judge(name, ten_tolerances_off(check, name)).ok, f"{path.name}: {name}"


def one_of_each_kind(check: Check) -> list[str]:
    names = {check.actuals[name].kind: name for name in check.comparisons if not FED.search(name)}
    return sorted(names.values())


@pytest.mark.parametrize("file", GOLDEN_FILES)
def test_a_whole_run_fails_on_exactly_the_wrong_array(file: str) -> None:
    """One run per wrong array: no output is used as an input of something else."""
    check = baseline(GOLDEN / file)
    for name in one_of_each_kind(check):
        wrong = {**check.arrays, name: ten_tolerances_off(check, name)}
        assert failures(check_arrays(file, wrong)) == {name}


@pytest.mark.parametrize("folder", FOLDERS)
def test_many_wrong_arrays_fail_and_no_others(folder: Path) -> None:
    for path in sorted(folder.glob("*.npz")):
        check = baseline(path)
        wrong = {name for name in sorted(check.comparisons)[::3] if not FED.search(name)}
        changed = {**check.arrays} | {name: ten_tolerances_off(check, name) for name in wrong}
        assert failures(check_arrays(path.name, changed)) == wrong, path.name


@pytest.mark.parametrize("file", GOLDEN_FILES)
def test_an_array_that_nobody_claims_fails(file: str) -> None:
    check = check_arrays(file, load(GOLDEN / file) | {"surprise/x": np.zeros(3, np.float32)})
    assert failures(check) == {"surprise/x"}
    assert {c.note for c in check.finish() if not c.ok} == {"not covered"}


def test_a_file_of_unknown_kind_and_an_empty_folder_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--vectors", str(tmp_path)]) == 1
    assert "no .npz file" in capsys.readouterr().err
    np.savez(tmp_path / "mystery.npz", x=np.zeros(3))
    assert main(["--vectors", str(tmp_path)]) == 1
    assert "not covered" in capsys.readouterr().out


def test_a_missing_input_fails_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    arrays = load(GOLDEN / "rssm_mixed.npz")
    del arrays["in/tokens"]
    failed = [c for c in check_arrays("rssm_mixed.npz", arrays).finish() if not c.ok]
    assert any("in/tokens" in c.note for c in failed)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda x: x[..., None], "shape"),
        (lambda x: x.astype(np.int32), "dtype"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 1, np.nan, x), "not finite"),
    ],
)
def test_shape_dtype_and_nan_are_named(change: Callable[[np.ndarray], np.ndarray], note: str) -> None:
    arrays = load(GOLDEN / "functions.npz")
    check = check_arrays("functions.npz", arrays | {"symlog/y": change(arrays["symlog/y"])})
    assert failures(check) == {"symlog/y"}
    assert note in check.comparisons["symlog/y"].note


def flip_check(value: np.ndarray, noise: np.ndarray) -> Check:
    check = Check("agent_x", {"p": np.zeros(60_000, np.float32)})
    check.compare("p", value.astype(np.float32), "parameters", scale=1.0, noise=noise, step=4e-5)
    return check


def test_sign_flips_are_excused_for_noise_only_and_few() -> None:
    value, noise = np.zeros(60_000), np.zeros(60_000, bool)
    value[:3] = 8e-5
    assert failures(flip_check(value, noise)) == {"p"}
    noise[:100] = True
    assert failures(flip_check(value, noise)) == set()
    assert failures(flip_check(value * 1.1, noise)) == {"p"}  # neither one step nor two
    value[:7] = 8e-5
    assert failures(flip_check(value, noise)) == {"(parameters: sign flips)"}


def renamed(arrays: Arrays, names: dict[str, str]) -> Arrays:
    """Other key names: path components of array names, and keys inside the JSON configurations."""
    out = {}
    for path, array in arrays.items():
        if array.dtype.kind == "U":
            array = np.array([names.get(x, x) for x in array.tolist()]) if array.ndim else array
            for old, new in names.items() if not array.ndim else ():
                array = np.array(str(array).replace(f'"{old}": {{', f'"{new}": {{'))
        out["/".join(names.get(part, part) for part in path.split("/"))] = array
    return out


@pytest.mark.parametrize(
    ("path", "names"),
    [
        # Keys are concatenated in alphabetical order, which the new names keep.
        (GOLDEN / "agent_mixed.npz", {"gear": "a-number", "pose": "b.arm", "view": "camera"}),
        (GOLDEN / "nets_flat.npz", {"button": "k0", "steer": "k1"}),
        (GOLDEN / "rssm_mixed.npz", {"button": "Fire", "steer": "wheel"}),
        pytest.param(OFFICIAL / "agent_vec_disc.npz", {"position": "arm", "velocity": "hand"}, marks=FOLDERS[1].marks),
    ],
)
def test_other_key_names(path: Path, names: dict[str, str]) -> None:
    arrays = renamed(load(path), names)
    assert any(new in part for part in arrays for new in names.values())
    assert failures(check_arrays(path.name, arrays)) == set()


OTHERS = [
    Plan(seed=3, deter=12, hidden=5, stoch=2, classes=6, blocks=4, units=9, layers=2, rssm_layers=3, bins=8),
    Plan(
        seed=4, batch=3, length=5, horizon=2,
        observation={"left": space("uint8", 16, 24, 3, classes=255), "right": space("uint8", 16, 24, 1, classes=255)},
        action={"fire": space("int32", 2, classes=3), "turn": space("float32")},
    ),
    Plan(seed=5, observation={"grid": space("float32", 2, 3), "on": space("bool", classes=2), "x": space("float32")}),
]  # fmt: skip


@pytest.mark.parametrize("plan", OTHERS, ids=lambda plan: f"seed{plan.seed}")
def test_other_sizes_seeds_and_spaces(plan: Plan) -> None:
    """Only the file says what the configuration is."""
    for file, inputs in (
        ("agent_other", golden_inputs.of_agent),
        ("rssm_other", golden_inputs.of_rssm),
        ("nets_other", golden_inputs.of_nets),
        ("init_stats_other", golden_inputs.of_init),
    ):
        arrays = make_golden.record(file, inputs(plan))
        check = check_arrays(file, arrays)
        assert failures(check) == set()
        assert len(check.comparisons) > 20


def test_options_that_nexus_lacks_are_refused() -> None:
    fields = Plan().official()
    fields["enc"]["simple"]["act"] = "gelu"
    with pytest.raises(ValueError, match=r"enc.act='gelu'.*'silu'"):
        agent_config(fields)
    fields = Plan().official()
    fields["repl_loss"] = fields["repl_loss"] | {"lam": 0.5}
    with pytest.raises(ValueError, match=r"repl_loss.lam=0.5"):
        agent_config(fields)


CORE: Any = RSSM.core
RETURNS: Any = losses.lambda_return
SLIPS: dict[str, tuple[Any, str, Any, str]] = {
    "norm epsilon": (world_models.layers, "NORM_EPS", 1e-3, "agent_mixed.npz"),
    "recurrent step": (RSSM, "core", lambda rssm, *args: CORE(rssm, *args) * 1.001, "rssm_mixed.npz"),
    "slow value stands still": (Dreamer, "update_slow", lambda agent: agent.slow_count.add_(1), "agent_mixed.npz"),
    "returns": (losses, "lambda_return", lambda *args: RETURNS(*args[:-1], args[-1] * 0.99), "agent_mixed.npz"),
    "vectors not squashed": (world_models.layers, "symlog", lambda x: x, "functions.npz"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_the_code_is_seen(slip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, value, file = SLIPS[slip]
    monkeypatch.setattr(owner, name, value)
    assert failures(check_arrays(file, load(GOLDEN / file)))


def test_golden_files_are_small_and_come_from_the_script() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.glob("*")) < 300_000
    made = make_golden.golden()
    assert sorted(made) == GOLDEN_FILES
    assert {file: sorted(arrays) for file, arrays in made.items()} == {
        file: sorted(load(GOLDEN / file)) for file in GOLDEN_FILES
    }
