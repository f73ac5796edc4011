"""`python -m tests.benchmarks.genie_block_world`: Genie learns the block world from video alone, and is measured.

For each seed, `nexus pretrain genie --data generated:block_world`, which trains tokenizer, latent actions and dynamics
with the tiny preset, and measures the world on clips of maps that it has not seen, copying the last frame on the same
clips. Runs that are there already are continued, or only read. Further options are handed on to `nexus pretrain genie`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from deploy.reports.metrics import METRICS, read_lines
from deploy.reports.pretraining.world_evaluation import EVALUATION, STRIP
from tests.benchmarks.machine import describe, versions

DATA = "generated:block_world"
STAGES = ("tokenizer", "latent_action", "dynamics")
LEAST = {
    "psnr_1_over_copy": 4.0, "delta_psnr_4": 1.5, "action_nmi": 0.6, "action_shuffle_ratio": 1.2,
}  # fmt: skip
"""What every seed is to reach."""
MOST = {"shuffled_nmi": 0.05}
COPIES = {"copy_psnr_1": 22.5, "copy_psnr_4": 21.0}
"""What copying the last frame is to score, within `NEAR`, so that the world is as hard as it is said to be."""
NEAR = 0.3
LONGEST = 600.0
"""Seconds of a stage."""
SHOWN = (
    "copy_psnr_1", "psnr_1", "copy_psnr_4", "psnr_4", "ssim_1", "ssim_4", "delta_psnr_1", "delta_psnr_4", "action_nmi",
    "shuffled_nmi", "action_shuffle_ratio", "tokenizer_psnr", "codebook_perplexity", "codebook_used",
)  # fmt: skip


def nexus(*words: object) -> None:
    """SystemExit: the command failed."""
    command = [sys.executable, "-m", "deploy.cli", *map(str, words)]
    print("nexus", *words, file=sys.stderr, flush=True)
    if code := subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(f"nexus {words[0]} ended with exit code {code}.")


def train(logdir: Path, seed: int, options: Sequence[str]) -> None:
    """Begin or continue a run."""
    nexus("pretrain", "genie", "--data", DATA, "--logdir", logdir, "--seed", seed, *options)


def measured(logdir: Path) -> dict[str, Any]:
    """The measures of a run, which `nexus eval` writes, and the seconds of its stages."""
    if not (logdir / "dynamics" / EVALUATION).exists():
        nexus("eval", logdir)
    found = json.loads((logdir / "dynamics" / EVALUATION).read_text())
    spent = {stage: _seconds(logdir / stage) for stage in STAGES}
    return found | {"psnr_1_over_copy": found["psnr_1"] - found["copy_psnr_1"], "stage_seconds": spent}


def _seconds(run: Path) -> float:
    """From a run's first measurement to its last."""
    times = [line["time"] for line in read_lines(run / METRICS)]
    return times[-1] - times[0]


def failures(row: dict[str, Any]) -> list[str]:
    """The measures that are not what they are to be."""
    out = [name for name, least in LEAST.items() if not row[name] >= least]
    out += [name for name, most in MOST.items() if not row[name] < most]
    out += [name for name, value in COPIES.items() if not abs(row[name] - value) <= NEAR]
    return out + [f"{stage} seconds" for stage, spent in row["stage_seconds"].items() if spent > LONGEST]


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The measures in Markdown, a column for each run."""
    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name in SHOWN:
        cells = []
        for row in rows.values():
            interval = row.get(f"{name}_interval")
            cells.append(f"{row[name]:.4g}" + (" [{:.2f}, {:.2f}]".format(*interval) if interval else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for stage in STAGES:
        lines.append(
            f"| {stage}, s | " + " | ".join(f"{row['stage_seconds'][stage]:.0f}" for row in rows.values()) + " |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.genie_block_world", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--logdir", type=Path, default=Path("runs/genie_block_world"), help="folder of the runs")
    parser.add_argument("--runs", type=Path, nargs="+", help="runs that are there already, to read instead")
    parser.add_argument("--picture", type=Path, help="where the picture of the first run goes")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options, others = parser.parse_known_args(arguments)
    runs = options.runs or [options.logdir / f"seed{seed}" for seed in options.seeds]
    if not options.runs:
        for run, seed in zip(runs, options.seeds, strict=True):
            train(run, seed, others)
    rows = {run.name: measured(run) for run in runs}
    failed = {name: missed for name, row in rows.items() if (missed := failures(row))}
    if options.picture:
        shutil.copyfile(runs[0] / "dynamics" / STRIP, options.picture)
    if not options.json:
        print("\n".join([*table(rows), *(f"{name} misses {', '.join(missed)}" for name, missed in failed.items())]))
    report = {
        "name": "genie_block_world", "value": min(row["psnr_1_over_copy"] for row in rows.values()),
        "unit": "dB above copying the last frame at 1 step, of the worst run", "device": describe(torch.device("cpu")),
        "versions": versions(), "failed": failed, "runs": rows,
    }  # fmt: skip
    print(json.dumps(report))
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
