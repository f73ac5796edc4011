"""`python -m tests.parity.make_golden [DIR]`: golden files from our own code, in the schema of the official vectors.

Run it only where `tests.parity.dreamer` agrees with the official vectors: the files then guard the same numbers where
those are absent. Inputs are drawn from a seed; every output is what the sections of the parity tool compute.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.parity import golden_inputs as inputs
from tests.parity.check import Check, as_array
from tests.parity.dreamer import SECTIONS
from tests.parity.golden_inputs import Arrays, Plan, normal, optimizer, text

GOLDEN = Path(__file__).parent / "golden"


class Recorder(Check):
    """Takes whatever is compared as the expected value."""

    def __init__(self, file: str, arrays: Arrays):
        super().__init__(file, arrays)
        self.recorded: Arrays = arrays

    def compare(self, name: str, actual: Any, kind: str = "forward", **how: Any) -> None:
        assert name not in self.inputs_read, name
        if name.startswith("out/new_opt/opt/state/2/"):
            return  # after one update the momentum is the gradient's sign; left out to keep the files small
        value = as_array(actual)
        single = value.dtype == np.float64 and kind not in ("norms", "statistics")
        self.recorded[name] = value.astype(np.float32) if single else value


def record(file: str, arrays: Arrays) -> Arrays:
    """`arrays` and every output of the section that `file` belongs to."""
    recorder = Recorder(file, dict(arrays))
    next(section for start, section in SECTIONS.items() if file.startswith(start))(recorder)
    return recorder.recorded


def of_functions(seed: int) -> Arrays:
    """Edge cases by hand, the rest drawn."""
    rng = np.random.default_rng(seed)
    out: Arrays = {"symlog/x": np.array([0, -1, 1e-6, 30, -1e6], np.float32)}
    out["symexp/x"] = np.array([0, -1, 1e-6, 3, -15], np.float32)
    for at, bins in (("twohot_odd", 7), ("twohot_even", 8)):
        logits = normal(rng, 6, bins, scale=4)
        logits[0] = 0  # constant logits: the prediction is exactly zero
        out |= {f"{at}/logits": logits, f"{at}/target": np.array([0, 1.5, -3e3, 1e12, -1e12, 20], np.float32)}
    out |= {f"onehot/{name}": normal(rng, 4, 3, 5, scale=2) for name in ("logits", "logits2", "st_weight")}
    out["onehot/unimix"] = np.array(0.02, np.float32)
    out["onehot/index"] = rng.integers(5, size=(4, 3)).astype(np.int32)
    out |= {"categorical/logits": normal(rng, 5, 3), "categorical/action": np.array([0, 1, 2, 0, 1], np.int32)}
    out |= {f"bounded_normal/{name}": normal(rng, 5, 3, scale=2) for name in ("raw_mean", "raw_std", "action")}
    out |= {f"bounded_normal/{name}": np.array(std, np.float32) for name, std in (("minstd", 0.1), ("maxstd", 1))}
    out |= {"binary/logit": normal(rng, 8, scale=5), "binary/target": rng.random(8).astype(np.float32)}
    out |= {"mse/mean": normal(rng, 3, 4), "mse/target": normal(rng, 3, 4, scale=20)}
    out |= {"rmsnorm/x": normal(rng, 3, 7, scale=0.01), "rmsnorm/scale": normal(rng, 7), "silu/x": normal(rng, 9)}
    out |= {"blocklinear/kernel": normal(rng, 3, 2, 4), "blocklinear/bias": normal(rng, 12)}
    out |= {"blocklinear/x": normal(rng, 5, 6), "conv2d/kernel": normal(rng, 3, 3, 2, 4)}
    out |= {"conv2d/bias": normal(rng, 4), "conv2d/x": normal(rng, 2, 6, 5, 2)}
    beta = normal(rng, 3, 2)
    beta[1, 0] = -np.inf  # "not available": the whole key is zero in this row
    out |= {"dictconcat/beta": beta, "dictconcat/kind": np.array([0, -1, 3], np.int32)}
    out |= {"dictconcat/alarm": np.array([True, False, True]), "dictconcat/out": np.zeros((3, 8), np.float32)}
    for case, (disc, lam) in enumerate(((1.0, 0.95), (0.98, 0.0))):
        flags = {name: (rng.random((2, 6)) < 0.3).astype(np.float32) for name in ("last", "term")}
        floats = {name: normal(rng, 2, 6) for name in ("rew", "val", "boot")}
        scalars = {"disc": np.array(disc), "lam": np.array(lam)}
        out |= inputs.under(f"lambda_return/{case}/", flags | floats | scalars)
    percentiles = {"impl": "perc", "rate": 0.1, "limit": 0.5, "perclo": 10.0, "perchi": 95.0, "debias": False}
    moments = {"impl": "meanstd", "rate": 0.1, "limit": 1e-8, "debias": True}
    for at, config in (("normalize_a", percentiles), ("normalize_b", moments)):
        out |= {f"{at}/config": text(config), f"{at}/x": normal(rng, 4, 3, 5, scale=2)}
    out |= {"slowmodel/rate": np.array(0.1), "slowmodel/every": np.array(2), "slowmodel/init/w": normal(rng, 2, 3)}
    out["slowmodel/source/w"] = normal(rng, 5, 2, 3)
    out |= {"ratio/0/ratio": np.array(0.3), "ratio/0/step": np.arange(3, 60, 3)}
    return out


def of_optimizer(seed: int) -> Arrays:
    rng, shapes = np.random.default_rng(seed), {"a/kernel": (3, 4), "a/bias": (4,), "b/norm/scale": (5,)}
    out = {f"init/{name}": normal(rng, *shape) for name, shape in shapes.items()}
    out |= {f"grad/{name}": normal(rng, 6, *shape, scale=3) for name, shape in shapes.items()}
    out["grad/a/bias"][:2] = 0
    variants = {"plain": {}, "late": {"schedule": "cosine", "warmup": 2, "anneal": 6, "wd": 0.1}}
    return out | {f"{name}/config": text(optimizer(**changes)) for name, changes in variants.items()}


def of_replay(seed: int) -> Arrays:
    """Outputs are placeholders: the trace needs their shapes and types."""
    rng, adds, length = np.random.default_rng(seed), 24, 3
    worker = rng.integers(2, size=adds).astype(np.int32)
    time = np.array([np.sum(worker[:i] == worker[i]) for i in range(adds)], np.int32)
    out: Arrays = {
        "case/config": text({"online": True, "length": length, "chunksize": 4, "workers": 2, "capacity": None}),
        "case/add_worker": worker,
        "case/add_id": worker * 1000 + time,
        "case/add_is_first": (time == 0) | (time == 5),
        "case/add_is_last": time == 4,
        "case/sample/after_add": np.array([14, 24]),
        "case/update/values": normal(rng, 3, length - 1),
        "consec/0/config": text({"length": 2, "consec": 2, "prefix": 1}),
    }
    integers = {"add_len_items": (adds,), "add_queue_len": (adds,), "sample/ids": (2, 3, length)}
    integers |= {"update/ids": (3, length - 1), "items_oldest_first": (adds,)}
    out |= {f"case/{name}": np.full(shape, -1, np.int32) for name, shape in integers.items()}
    out |= {f"case/sample/{name}": np.zeros((2, 3, length), bool) for name in ("is_first", "is_last")}
    out |= {"case/sample/online": np.zeros((2, 3), bool), "case/update/stored_ids": np.arange(adds, dtype=np.int32)}
    out["case/update/stored_values"] = np.zeros(adds, np.float32)
    return out | {f"consec/0/{name}": np.zeros((4, 2, 3), np.int64) for name in ("x", "consec")}


def record_replay(arrays: Arrays) -> Arrays:
    from tests.parity import replay_traces

    out = dict(arrays)
    replay_traces.compare(arrays, lambda name, actual, expected, kind: out.update({name: np.asarray(actual)}))
    return out


def golden(seed: int = 7) -> dict[str, Arrays]:
    """All files by name."""
    plan = Plan(seed=seed)
    vectors = {"pose": inputs.space("float32", 2), "gear": inputs.space("int32", classes=3)}
    flat = Plan(seed=seed, observation=vectors, rssm_layers=2)
    drawn = {
        "agent_mixed": inputs.of_agent(plan),
        "rssm_mixed": inputs.of_rssm(flat),
        "nets_flat": inputs.of_nets(flat),
        "init_stats": inputs.of_init(flat),
        "functions": of_functions(seed),
        "optimizer": of_optimizer(seed),
    }
    files = {f"{name}.npz": record(f"{name}.npz", arrays) for name, arrays in drawn.items()}
    return files | {"replay.npz": record_replay(of_replay(seed))}


def save(path: Path, arrays: Arrays) -> None:
    """What `np.savez_compressed` writes, with smaller headers: most arrays are tiny."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parity.make_golden", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=GOLDEN)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, arrays in golden().items():
        save(folder / name, arrays)
        print(json.dumps({"file": name, "arrays": len(arrays), "bytes": (folder / name).stat().st_size}))


if __name__ == "__main__":
    main()
