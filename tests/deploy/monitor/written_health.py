"""Health reports and open-loop videos as runs write them, in moments."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from actors.video import write_video
from deploy.reports.open_loop_files import FPS, HELD, picture_name

STEPS, CONTEXT = 12, 4


def report(updates: int, *, wrong: float = 0.0, time: float | None = None, **parts: Any) -> dict[str, Any]:
    """A report, by the contract; `wrong`: 0 for a healthy model, 1 for one that is bad in every part."""
    rng = np.random.default_rng(updates)
    ahead = np.arange(1, STEPS - CONTEXT + 1)
    real = rng.normal(50, 12, 60)
    imagined = real * (1 + wrong) + rng.normal(0, 4, 60)
    model, still = 0.01 * (1 + 8 * wrong) * np.sqrt(ahead), 0.04 * np.sqrt(ahead)
    levels = np.linspace(-1, 1, 9).tolist()
    bins = [{"predicted": one, "actual": one * (1 - 0.6 * wrong), "count": 5 + 90 * int(one == 0)} for one in levels]
    curve = {"start": 0.002, "unit": "mean absolute error"}
    keys = {"image": curve | {"model": model.tolist(), "still": still.tolist(), "gained": (model - 0.002).tolist()},
            "reward": curve | {"model": (2 * model).tolist(), "still": (3 * still).tolist()}}  # fmt: skip
    return {
        "updates": updates, "frames": 16 * updates, "time": 1000.0 + updates if time is None else time,
        "warmup": 0, "seconds": 1.5, "missing": {"memory": "No sequence is long enough."}, "memory": None,
        "cost": {"seconds": 1.5, "share": 0.01, "seconds_per_update": 0.2, "updates_per_frame": 0.06},
        "horizon": {"context": CONTEXT, "keys": keys},
        "returns": {"horizon": 15, "discount": 0.997, "imagined": imagined.tolist(), "real": real.tolist(),
                    "imagined_mean": float(imagined.mean()), "real_mean": float(real.mean()), "episodes": 12},
        "reward": {"bins": bins, "error": 0.6 * wrong, "mean": 0.0, "deviation": 0.6},
        "forgetting": {"oldest": 1 + 2 * wrong, "newest": 1.0, "ratio": 1 + 2 * wrong, "rise": 1 + wrong,
                       "by_loss": {}},
        "actions": {"true": 1.0, "shuffled": 1.6 - 0.6 * wrong, "ratio": 1.6 - 0.6 * wrong}, **parts,
    }  # fmt: skip


def write_report(run: Path, updates: int, **more: Any) -> Path:
    """One file of the run's `health/`."""
    path = run / "health" / f"report-{updates:08d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report(updates, **more)))
    return path


def write_film(run: Path, updates: int, steps: int = STEPS) -> Path:
    """A video whose step n is grey by 20 n, and the held frames as black as none of them."""
    shades = [20 * step for step in range(steps)]
    frames = [np.full((256, 256, 3), shade, np.uint8) for shade in [*shades, *[255] * HELD]]
    return write_video(run / "videos" / f"{picture_name(updates)}.mp4", frames, FPS, seekable=True)
