"""What tests of a disk store do with it over several lives: leave it, open it again, check all that is there."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from replay.disk.disk_store import DiskStore
from tests.contracts.stores import SCHEMA, check_sequences, fill, rng, rows
from tests.replay.disk.disk_process import LENGTH, store

ROOT = Path(__file__).parents[3]


def process(way: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.replay.disk.disk_process", way, str(directory)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip


def finished(way: str, directory: Path) -> list[str]:
    with process(way, directory) as running:
        assert running.stdout is not None
        lines = running.stdout.read().splitlines()
    assert running.returncode == 0, lines
    return lines


def filled(directory: Path, steps: int = 60) -> None:
    it = store(directory)
    fill(it, steps)
    it.close()


def size(directory: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def check(it: DiskStore) -> None:
    """Every step that is said to be there can be read, is right and whole; and so is all that is sampled."""
    for stream, steps in it.streams().items():
        if steps:
            stored, expected = it.read(stream, steps.start, len(steps)), rows(stream, steps.start, len(steps))
            for key in SCHEMA.fields:
                np.testing.assert_array_equal(stored[key], expected[key], key)
    if len(it):
        for seed in range(5):
            check_sequences(*it.sample(16, LENGTH, rng(seed)))


def reopened(directory: Path, **settings: object) -> tuple[DiskStore, list[str]]:
    said: list[str] = []
    return store(directory, note=said.append, **settings), said


def abandon(it: DiskStore) -> None:
    """Leave a store without closing it; from a process that ends the kernel takes the lock and the mappings back."""
    it._sealer.drain()
    it._unlock()
    for chunk in it._chunks.values():
        chunk.rows = chunk.latents = None
