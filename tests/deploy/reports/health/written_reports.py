"""Health reports as a run writes them, with numbers like those of CartPole, and what makes one bad."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from deploy.reports.health.files import FOLDER

HORIZON, STARTS = 15, 64


def report(
    updates: int = 1000,
    *,
    gained: float = 0.3,
    state: float = 2.4,
    optimism: float = 0.0,
    miscalibrated: float = 0.0,
    oldest: float = 0.45,
    newest: float = 0.35,
    sensitivity: float = 2.1,
    memory: float = 3.8,
    share: float = 0.01,
    rise: float | None = 1.0,
    apart: float | None = None,
    episodes: int = 9,
) -> dict[str, Any]:
    """`gained` is the error that predictions gain, relative to repeating the last observation; `optimism` is added to
    every imagined return and `miscalibrated` to every predicted reward; `rise` is that of the loss on old windows,
    `apart` that relative to the newest."""
    rng, steps = np.random.default_rng(updates), np.arange(1, HORIZON + 1)
    still = 0.1 + 0.002 * steps
    ahead = gained * still * np.minimum(1, steps / 10)
    real = np.where(rng.random(STARTS) < 0.1, 9.0, 14.7) + 0.01 * rng.standard_normal(STARTS)
    imagined = real + 0.2 * rng.standard_normal(STARTS) + optimism
    actual = np.linspace(0.0, 1.0, 10)
    flat = dict.fromkeys(("reconstruction/vector", "reward", "continuation"), {"oldest": oldest, "newest": newest})
    return {
        "updates": updates, "frames": 8 * updates, "time": 1.7e9 + updates / 6, "warmup": 100, "seconds": 0.4,
        "horizon": {
            "context": 16, "state": state,
            "keys": {
                "vector": {
                    "model": np.hypot(0.04, ahead).tolist(), "still": still.tolist(), "start": 0.04,
                    "unit": "mean absolute error in symlog space", "gained": ahead.tolist(),
                },
                "reward": {
                    "model": [0.001] * HORIZON, "still": [0.0] * HORIZON, "start": 0.001,
                    "unit": "mean absolute error", "gained": [0.0] * HORIZON,
                },
            },
        },
        "memory": {"steps": 5, "with": 0.55, "without": 0.55 * memory, "ratio": memory},
        "returns": {
            "horizon": HORIZON, "discount": 1 - 1 / 333, "imagined": imagined.tolist(), "real": real.tolist(),
            "imagined_mean": float(imagined.mean()), "real_mean": float(real.mean()), "episodes": episodes,
        },
        "reward": {
            "bins": [{"predicted": one + miscalibrated, "actual": one, "count": 198} for one in actual.tolist()],
            "error": abs(miscalibrated), "mean": float(actual.mean()), "deviation": float(actual.std()),
            "discount": 1 - 1 / 333,
        },
        "forgetting": {
            "oldest": oldest, "newest": newest, "ratio": oldest / newest, "rise": rise, "apart": apart, "by_loss": flat,
        },
        "actions": {"true": 0.5, "shuffled": 0.5 * sensitivity, "ratio": sensitivity},
        "cost": {
            "seconds": 0.4, "share": share, "seconds_per_update": 1 / 6, "updates_per_frame": 0.125,
        },
        "missing": {},
    }  # fmt: skip


def write(logdir: Path, *reports: dict[str, Any]) -> None:
    """As files of a run directory."""
    (logdir / FOLDER).mkdir(parents=True, exist_ok=True)
    for one in reports:
        (logdir / FOLDER / f"report-{one['updates']:08d}.json").write_text(json.dumps(one))
