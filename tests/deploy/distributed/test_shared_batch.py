"""Batches that a learner shares with the shards of its machine."""

import os
from pathlib import Path

import numpy as np
import pytest

from deploy.distributed.shard_client import ShardClient
from deploy.distributed.shared_batch import SharedBatch, SharedBatches
from replay.step import Field, Schema
from tests.contracts.ray_stores import ray_shard
from tests.contracts.stores import SCHEMA, check_sequences, fill, rng


def test_what_one_side_writes_the_other_reads() -> None:
    mine, theirs = SharedBatch(SCHEMA, 3, 5), SharedBatches()
    found = theirs.find(mine.place, SCHEMA, 3, 5)
    assert found is not None
    found.rows["step"][:] = np.arange(15).reshape(3, 5)
    found.latents["deter"][:] = 7
    found.keys[:] = -1
    np.testing.assert_array_equal(mine.batch.rows["step"], np.arange(15).reshape(3, 5))
    assert (mine.batch.latents["deter"] == 7).all() and (mine.batch.keys == -1).all()
    assert all(array.flags.aligned and array.flags.c_contiguous for array in mine.batch)


def test_other_memory_is_never_taken_for_it() -> None:
    mine, theirs = SharedBatch(SCHEMA, 3, 5), SharedBatches()
    place = mine.place
    for wrong in (
        place._replace(token=bytes(64)), place._replace(process=2**22 + 1), place._replace(descriptor=9999),
        place._replace(nbytes=place.nbytes + 8),
    ):  # fmt: skip
        assert theirs.find(wrong, SCHEMA, 3, 5) is None
    assert theirs.find(place, SCHEMA, 3, 6) is None


def test_a_process_of_the_same_number_elsewhere_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    mine, theirs = SharedBatch(SCHEMA, 3, 5), SharedBatches()
    alike = tmp_path / "alike"  # on another machine that number and descriptor may be anything
    alike.write_bytes(bytes(mine.place.nbytes))
    os.mkfifo(tmp_path / "pipe")
    for path in (alike, tmp_path / "pipe"):
        descriptor = os.open(path, os.O_RDWR)
        try:
            assert theirs.find(mine.place._replace(descriptor=descriptor), SCHEMA, 3, 5) is None
        finally:
            os.close(descriptor)
    assert alike.read_bytes() == bytes(mine.place.nbytes)


def test_memory_goes_with_its_owner() -> None:
    shared = SharedBatch(SCHEMA, 3, 5)
    descriptor = shared.place.descriptor
    del shared
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_a_schema_without_latents() -> None:
    schema = Schema(fields={"x": Field(dtype=np.dtype(np.float32))}, latents={})
    batch = SharedBatch(schema, 2, 3).batch
    assert batch.rows.shape == (2, 3) and batch.latents.shape == (2,)


def test_without_shared_memory_the_batch_comes_through_ray() -> None:
    store = ray_shard()
    assert isinstance(store, ShardClient)
    fill(store, 30)
    check_sequences(*store.sample(6, 4, rng()))
    assert store._same_machine
    store._same_machine = False
    check_sequences(*store.sample(6, 4, rng()))
