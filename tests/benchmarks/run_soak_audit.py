"""What a run has left on disk and on its servers must be whole, whatever ended it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from deploy.stored.sources import open_sources
from replay.reading.episodes import pieces
from tests.benchmarks.run_soak_judge import judge


class SoakError(Exception):
    """The run did not do what it promises."""


def require_forward(logdir: Path) -> None:
    """SoakError: a curve goes backwards, or an episode is told twice."""
    for name in ("metrics.jsonl", "scores.jsonl"):
        before: dict[str, int] = {}
        seeds: set[int] = set()
        for line in lines(logdir / name):
            kind = line.get("kind", "")
            for key in ("frames", "updates"):
                if line[key] < before.get(kind + key, 0):
                    raise SoakError(f"{name} goes back from {before[kind + key]} to {line[key]} {key}: {line}")
                before[kind + key] = line[key]
            if kind == "train":
                if line["seed"] in seeds:
                    raise SoakError(f"{name} has the training episode of seed {line['seed']} twice, again in {line}")
                seeds.add(line["seed"])


def read_everything(logdir: Path) -> tuple[int, int]:
    """Steps that are stored, and episodes among them that were broken off. SoakError: one does not fit the next."""
    steps = abandoned = 0
    for reader in open_sources(str(logdir)):
        try:
            for stream, stored in sorted(reader.streams().items()):
                last: dict[str, np.ndarray] = {}
                until = None
                for position, rows in pieces(reader, stream, stored):
                    steps += len(rows["is_first"])
                    joins, until = until == position, position + len(rows["is_first"])
                    if joins:  # its first row has a neighbour in the piece before
                        rows = {key: np.concatenate([last[key], value]) for key, value in rows.items()}
                    last = {key: value[-1:] for key, value in rows.items()}
                    found = judge(rows)
                    abandoned += found.abandoned
                    if found.torn:
                        raise SoakError(f"stream {stream} at step {position}: {found.torn[:3]}")
        finally:
            reader.close()
    return steps, abandoned


def lines(path: Path, newest: int = 0) -> list[dict[str, Any]]:
    """A log's whole lines (with `newest`, those in its last bytes): one that is just being written does not count."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - newest) if newest else 0
        file.seek(start)
        whole = file.read().split(b"\n")
    return [json.loads(line) for line in whole[bool(start) : -1] if line]
