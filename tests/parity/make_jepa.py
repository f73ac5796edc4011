"""Arrays of the schema of the JEPA vectors for other sizes, computed by our own classes: they test the tool, not us."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from learner.schedules import Schedule
from tests.parity.check import as_array
from tests.parity.jepa import check_arrays
from tests.parity.jepa_schedules import OF_VJEPA2
from world_models.jepa.block_masks import BlockMasks
from world_models.jepa.config import (
    BlockMaskConfig,
    EncoderConfig,
    IJEPAConfig,
    PredictorConfig,
    TubeMaskConfig,
    VJEPA2ACConfig,
    VJEPA2Config,
)
from world_models.jepa.ijepa import IJEPA
from world_models.jepa.pose import action_between, move_pose
from world_models.jepa.probe import AttentiveProbe
from world_models.jepa.tube_masks import TubeMasks
from world_models.jepa.vjepa2 import VJEPA2
from world_models.jepa.vjepa2_ac import VJEPA2AC

Arrays = dict[str, np.ndarray]


def recorded(file: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """`inputs`, and every output that the tool compares for such a file."""
    names = _Everything(inputs)
    check = check_arrays(file, names)
    return dict(inputs) | {name: actual.value for name, actual in check.actuals.items() if name not in inputs}


class _Everything(dict):
    """Arrays that claim to hold every output, so that `Check.compare` passes over none."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).split("/")[0] in ("out", "grad", "after_step")

    def __missing__(self, name: str) -> np.ndarray:
        return np.zeros(())


def drawn(model: nn.Module, seed: int, parts: Mapping[str, str]) -> Arrays:
    """Parameters with every bias, gain and token drawn, so that every term matters; the target encoder's too."""
    rng, out = torch.Generator().manual_seed(seed), {}
    for name, value in model.state_dict().items():
        part, _, rest = name.partition(".")
        if "pos_embed" not in name:
            spread = 1 / (value[0].numel() ** 0.5) if value.ndim > 1 else 0.1
            gain = float("norm" in name and name.endswith("weight"))
            value = gain + spread * torch.randn(value.shape, generator=rng)
        out[f"{parts.get(part, part)}/{rest}"] = value
    return {name: as_array(value) for name, value in out.items()}


def under(prefix: str, values: Mapping[str, object]) -> Arrays:
    return {f"{prefix}/{name}": as_array(value) for name, value in values.items()}


def normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng)


def of_ijepa(seed: int) -> Arrays:
    """Two context masks of a single-channel image."""
    rng, names = (
        torch.Generator().manual_seed(seed),
        ("img", "patch", "in_chans", "D", "depth", "heads", "PD", "pdepth"),
    )
    config = dict(zip(names, (40, 8, 1, 24, 2, 3, 12, 1), strict=True)) | {"nenc": 2, "npred": 3, "B": 2, "seed": seed}
    model = IJEPA(
        IJEPAConfig(
            encoder=EncoderConfig(size=40, patch=8, channels=1, width=24, depth=2, heads=3),
            predictor=PredictorConfig(width=12, depth=1, heads=3),
        )
    )
    masks = BlockMasks(BlockMaskConfig(contexts=2, targets=3, min_keep=4), 5, 5)(2, rng)
    inputs = {"images": normal(rng, 2, 1, 40, 40), "masks_enc": masks.context, "masks_pred": masks.target}
    step = {"lr": np.float64(1e-3), "wd": np.float64(0.1), "ema": np.float64(0.9)}
    return under("config", config) | under("in", inputs) | under("step", step) | drawn(model, seed, {})


def of_vjepa2(seed: int) -> Arrays:
    """Three clip lengths, tubelets of four frames, another MLP ratio, heads with features that are not rotated."""
    rng = torch.Generator().manual_seed(seed)
    names = ("img", "patch", "tub", "D", "depth", "heads", "mlp", "PD", "pdepth", "pheads", "nmask", "B")
    config: dict[str, object] = dict(zip(names, (24, 8, 4, 40, 1, 2, 2.0, 32, 2, 2, 3, 1), strict=True))
    frames = (12, 8, 4)
    model = VJEPA2(
        VJEPA2Config(
            encoder=EncoderConfig(size=24, patch=8, tubelet=4, width=40, depth=1, heads=2, mlp_ratio=2.0),
            predictor=PredictorConfig(width=32, depth=2, heads=2, mask_tokens=3),
        )
    )
    inputs: dict[str, Tensor] = {"nonsquare": normal(rng, 1, 3, 4, 32, 8)}
    for i, length in enumerate(frames):
        inputs[f"clip{i}"] = normal(rng, 1, 3, length, 24, 24)
        for j, blocks in enumerate((1, 2)):
            masks = TubeMasks(TubeMaskConfig(blocks=blocks, scale=(0.3, 0.3)), length // 4, 3, 3)(1, rng)
            inputs |= {f"mask_enc{i}_{j}": masks.context, f"mask_pred{i}_{j}": masks.target}
    arrays = under("config", config | {"frames": np.array(frames)}) | under("in", inputs) | drawn(model, seed, {})
    rope = {"x": normal(rng, 1, 2, 5, 12), "pos": torch.randint(0, 9, (1, 2, 5), generator=rng)}
    return arrays | under("rope", rope) | drawn(nn.ModuleDict({"probe2": AttentiveProbe(40, 5, 2, 2)}), seed, {})


def of_vjepa2_ac(seed: int) -> Arrays:
    """Extrinsics in use, actions and states of other widths, a rollout of three frames."""
    rng = torch.Generator().manual_seed(seed)
    names = (
        "img",
        "patch",
        "tub",
        "D",
        "depth",
        "heads",
        "PD",
        "pdepth",
        "pheads",
        "adim",
        "T",
        "auto",
        "extr",
        "maxf",
    )
    config = dict(zip(names, (24, 8, 2, 32, 1, 2, 24, 2, 2, 5, 6, 3, 1, 12), strict=True))
    model = VJEPA2AC(
        VJEPA2ACConfig(
            encoder=EncoderConfig(size=24, patch=8, tubelet=2, width=32, depth=1, heads=2),
            predictor=PredictorConfig(width=24, depth=2, heads=2, mask_tokens=0),
            action=5, state=5, extrinsics=4, use_extrinsics=True, state_update="hold",
        )
    )  # fmt: skip
    inputs = {"clips": normal(rng, 2, 3, 6, 24, 24), "actions": normal(rng, 2, 5, 5)}
    inputs |= {"states": normal(rng, 2, 6, 5), "extrinsics": normal(rng, 2, 6, 4)}
    arrays = under("config", config) | under("in", inputs) | drawn(model, seed, {})
    return arrays | {"out/attn_mask_T2": np.kron(np.tri(2), np.ones((12, 12))).astype(bool)}


def of_ijepa_masks(seed: int) -> Arrays:
    """Other schedules, and masks drawn one batch at a time as the original does."""
    fields = {
        "warm": 3,
        "start": 0.0,
        "ref": 2e-3,
        "fin": 1e-5,
        "T": 50,
        "wd": 0.1,
        "fwd": 0.2,
        "ema0": 0.9,
        "ema1": 1.0,
    }
    rate = Schedule(kind="cosine", start=0.0, top=2e-3, end=1e-5, warmup=3)
    decay, average = Schedule(kind="cosine", top=0.1, end=0.2), Schedule(kind="linear", top=0.9, end=1.0)
    steps = range(1, 51)
    arrays = under("config", {name: np.float64(value) for name, value in fields.items()})
    arrays |= {"lr": np.array([rate.at(i, 50) for i in steps]), "wd": np.array([decay.at(i, 50) for i in steps])}
    arrays["ema"] = np.array([average.at(i, 50) for i in range(51)])
    config = BlockMaskConfig(official_slips=True)
    sizes = BlockMasks(config, 9, 9)
    rows = [(72, 8, k, *sum(sizes.sizes(torch.Generator().manual_seed(k)), ())) for k in range(5)]
    rng = torch.Generator().manual_seed(seed)
    masks = [BlockMasks(config, 16, 16)(16, rng) for _ in range(100)]
    counts = {f"n_{name}_tokens": [m[i].shape[-1] for m in masks] for i, name in enumerate(("context", "target"))}
    occupancy = {
        f"{name}_occupancy": torch.cat([m[i][0].flatten() for m in masks]).bincount(minlength=256).view(16, 16) / 1600
        for i, name in enumerate(("context", "target"))
    }  # fmt: skip
    return arrays | {"ijepa_block_sizes": np.array(rows)} | under("stat", counts) | under("stat", occupancy)


def of_schedules(seed: int) -> Arrays:
    out = {"warmup": np.array(7), "anneal": np.array(5), "T": np.array(40)}
    for name, fields in OF_VJEPA2.items():
        schedule = Schedule(**fields, warmup=7, anneal=5)
        out[name] = np.array([schedule.at(i, 40) for i in range(1, 41)])
    return out


def of_cem(seed: int) -> Arrays:
    """Another horizon, other momenta; poses with states of their own."""
    rng = torch.Generator().manual_seed(seed)
    names = ("rollout", "samples", "topk", "cem_steps", "mm", "ms", "mmg", "msg", "maxnorm", "N", "D")
    config = dict(zip(names, (3, 30, 5, 4, 0.2, 0.3, 0.1, 0.4, 0.08, 2, 5), strict=True))
    inputs = {"context_frame": normal(rng, 1, 1, 2, 5), "goal_frame": normal(rng, 1, 1, 2, 5), "W": normal(rng, 7, 10)}
    inputs |= {"noise": normal(rng, 4, 3, 30, 4), "pose": normal(rng, 1, 1, 7)}
    pose = {"pose": normal(rng, 6, 1, 7), "action": normal(rng, 6, 1, 7)}
    moved = move_pose(pose["pose"], pose["action"])
    pose |= {"new_pose": moved, "diff_back": action_between(pose["pose"], moved)[:, 0]}
    return under("config", config) | under("in", inputs) | under("pose", pose)


OTHERS = {
    "cem_other.npz": of_cem,
    "ijepa_other.npz": of_ijepa,
    "ijepa_schedules_masks_other.npz": of_ijepa_masks,
    "vjepa2_other.npz": of_vjepa2,
    "vjepa2_ac_other.npz": of_vjepa2_ac,
    "vjepa2_schedules.npz": of_schedules,
}
