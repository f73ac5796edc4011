"""A disk store whose rows are compressed: smaller files, the same steps."""

import sys
from pathlib import Path

import numpy as np
import pytest

from replay.disk.disk_store import DiskStore
from replay.step import Field, Schema
from tests.contracts.stores import rng
from tests.replay.disk.disk_process import store


def pictures(first: int, n: int) -> dict[str, np.ndarray]:
    """Rows of a schema with pictures that lz4 makes smaller."""
    picture = (np.arange(first, first + n)[:, None] + np.arange(3000) // 100) % 251
    return {"picture": picture.astype(np.uint8), "step": np.arange(first, first + n)}


PICTURES = Schema(
    fields={
        "picture": Field(dtype=np.dtype(np.uint8), shape=(3000,)),
        "step": Field(dtype=np.dtype(np.int64)),
    },
    latents={},
)


def test_compressed_chunks_take_less_and_give_the_same(quick: Path) -> None:
    pytest.importorskip("lz4")

    def opened(compression: str, said: list[str] | None = None) -> DiskStore:
        note = (said if said is not None else []).append
        return DiskStore(quick / "store", PICTURES, length=30, capacity=900, compression=compression, note=note)

    it = opened("lz4")
    assert it.chunk_length == 32
    for first in range(0, 500, 25):
        it.append(0, first, pictures(first, 25))
    it.close()
    it = opened("")  # what comes now is not compressed
    for first in range(500, 1000, 25):
        it.append(0, first, pictures(first, 25))
    it._sealer.drain()
    sizes = {int(path.stem[2:]): path.stat().st_size for path in (quick / "store" / "chunks").glob("*.rows")}
    assert max(sizes[number] for number in range(4, 14)) < 0.2 * sizes[20] and sizes[20] == 72 + 32 * 3008
    for seed in range(10):
        batch, keys = it.sample(16, 30, rng(seed))
        for i, start in enumerate(keys[:, 0, 1].tolist()):
            for key, value in pictures(start, 30).items():
                np.testing.assert_array_equal(batch[key][i], value)
    steps = it.streams()[0]
    for key, value in pictures(steps.start, len(steps)).items():
        np.testing.assert_array_equal(it.read(0, steps.start, len(steps))[key], value)
    it.checkpoint(quick / "saved")
    it.clear()
    it.restore(quick / "saved")
    np.testing.assert_array_equal(it.read(0, steps.start, 40)["step"], np.arange(steps.start, steps.start + 40))
    it.close()
    path = quick / "store" / "chunks" / "0-9.rows"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said: list[str] = []
    it = opened("lz4", said)
    for seed in range(30):
        batch, keys = it.sample(16, 30, rng(seed))
        np.testing.assert_array_equal(batch["step"], keys[:, :, 1])
    assert len(said) == 2 and "0-9.rows: its content fails its checksum" in said[1]


def test_chunks_that_get_no_smaller_stay_as_they_are(quick: Path) -> None:
    pytest.importorskip("lz4")
    it = DiskStore(quick, PICTURES, length=30, capacity=900, compression="lz4")
    noise = rng().integers(0, 256, (64, 3000)).astype(np.uint8)
    it.append(0, 0, {"picture": noise, "step": rng().integers(0, 1 << 62, 64)})
    it._sealer.drain()
    assert (quick / "chunks" / "0-1.rows").stat().st_size == 72 + 32 * 3008
    np.testing.assert_array_equal(it.read(0, 0, 64)["picture"], noise)


def test_compression_that_is_not_there_is_refused(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="compression is 'zip', allowed 'lz4'"):
        store(quick, compression="zip")
    pytest.importorskip("lz4")
    it = DiskStore(quick, PICTURES, length=30, capacity=900, compression="lz4")
    it.append(0, 0, pictures(0, 64))
    it.close()
    monkeypatch.setitem(sys.modules, "lz4.block", None)  # as where it is not installed
    with pytest.raises(ValueError, match="needs the package lz4: pip install"):
        DiskStore(quick, PICTURES, length=30, capacity=900, compression="lz4")
    with pytest.raises(ValueError, match="needs the package lz4: pip install"):
        DiskStore(quick, PICTURES, length=30, capacity=900)
    monkeypatch.undo()
    assert DiskStore(quick, PICTURES, length=30, capacity=900).streams() == {0: range(64)}
