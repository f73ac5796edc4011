import numpy as np
import pytest

from replay.config import ReplayConfig, SelectionConfig
from replay.memory.memory_store import MemoryStore
from replay.step import Field, Schema

SCHEMA = Schema(fields={"x": Field(dtype=np.dtype(np.float32), shape=(250,))}, latents={})


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity": 0}, {"chunk_length": -1}, {"shards": 0}, {"capacity_gb": -1.0}, {"capacity_gb": float("nan")},
        {"tolerance": -1.0}, {"tolerance": float("inf")},
    ],
)  # fmt: skip
def test_wrong_values_are_named(wrong: dict[str, float]) -> None:
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"replay\.{name} is {value} but must be"):
        ReplayConfig(**wrong)  # type: ignore[arg-type]


def test_a_store_knows_its_bound() -> None:
    store = MemoryStore(SCHEMA, length=65, capacity=100_000, chunk_length=256, streams=16)
    assert 0.11 < store.max_gb < 0.111
    with pytest.raises(ValueError, match="64 streams need 128; allow at least"):
        MemoryStore(SCHEMA, length=65, capacity_gb=0.01, chunk_length=256)
    with pytest.raises(ValueError, match="no bound"):
        MemoryStore(SCHEMA, length=65)


def test_priorities_that_would_never_come_are_refused() -> None:
    ReplayConfig(selection=SelectionConfig(priority=0.5))
    ReplayConfig(selection=SelectionConfig(priority=0.5, zero_on_sample=False, initial=1.0))
    with pytest.raises(ValueError, match=r"zero_on_sample is off and initial is inf.*Set initial to 1"):
        ReplayConfig(selection=SelectionConfig(priority=0.5, zero_on_sample=False))


def test_compression_is_for_the_disk() -> None:
    ReplayConfig(store="disk", compression="lz4")
    with pytest.raises(ValueError, match="compression=lz4 is for disk, not memory"):
        ReplayConfig(compression="lz4")
    with pytest.raises(ValueError, match="compression='zip' is not supported"):
        ReplayConfig(store="disk", compression="zip")


def test_a_store_is_named_or_a_url() -> None:
    assert ReplayConfig(store="ray").kind == "memory" and ReplayConfig().shard_count == 2
    redis = ReplayConfig(store="redis://a:1,unix:///b")
    assert redis.kind == "redis" and redis.urls == ("redis://a:1", "unix:///b") and redis.shard_count == 2
    with pytest.raises(ValueError, match="'discs' is none of memory, ray, disk"):
        ReplayConfig(store="discs")
