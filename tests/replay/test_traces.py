"""The official replay traces, where the vectors are at hand, and that the comparison can fail."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.parity.replay_traces import compare

VECTORS = Path(os.environ.get("NEXUS_VECTORS", Path(__file__).parents[2].parent / "shared" / "vectors"))
PATH = VECTORS / "dreamerv3" / "replay.npz"


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    if not PATH.exists():
        pytest.skip(f"no reference vectors at {VECTORS}; set NEXUS_VECTORS to their directory")
    with np.load(PATH, allow_pickle=False) as file:
        return dict(file)


def different(arrays: dict[str, np.ndarray], perturbed: str | None = None) -> tuple[set[str], set[str]]:
    """The names that were compared, and those that differ when the expected array `perturbed` is wrong."""
    names: list[str] = []
    wrong: set[str] = set()

    def check(name: str, actual: np.ndarray, expected: np.ndarray, tolerance: str) -> None:
        assert tolerance == "exact"
        names.append(name)
        if actual.dtype != expected.dtype or not np.array_equal(actual, expected):
            wrong.add(name)

    file = dict(arrays)
    if perturbed:
        value = file[perturbed].copy()
        flat = value.reshape(-1)
        flat[len(flat) // 2] = ~flat[len(flat) // 2] if value.dtype == bool else flat[len(flat) // 2] + 10
        file[perturbed] = value
    compare(file, check)
    assert len(names) == len(set(names)), "an array was compared twice"
    return set(names), wrong


def test_every_array_agrees(arrays: dict[str, np.ndarray]) -> None:
    names, wrong = different(arrays)
    assert names == set(arrays)
    assert not wrong


OUTPUTS = [
    "add_len_items", "add_queue_len", "sample/ids", "sample/online", "sample/is_first", "sample/is_last",
    "update/ids", "update/stored_ids", "update/stored_values", "items_oldest_first",
]  # fmt: skip


@pytest.mark.parametrize("name", [f"{case}/{out}" for case in ("online", "offline", "capacity") for out in OUTPUTS])
def test_one_wrong_output_is_the_one_that_is_named(arrays: dict[str, np.ndarray], name: str) -> None:
    if name not in arrays:
        pytest.skip(f"these vectors have no {name}")
    assert different(arrays, name)[1] == {name}


@pytest.mark.parametrize("name", [f"consec/{i}/{out}" for i in range(3) for out in ("x", "consec")])
def test_one_wrong_chunk_is_the_one_that_is_named(arrays: dict[str, np.ndarray], name: str) -> None:
    if name not in arrays:
        pytest.skip(f"these vectors have no {name}")
    assert different(arrays, name)[1] == {name}
