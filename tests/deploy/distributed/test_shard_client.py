"""Waiting for shards behind Ray, and no longer waiting for them."""

import pytest

from replay.prefetch import Prefetch
from replay.sharding import ShardedStore
from replay.store import Sample, ShardDownError
from tests.contracts.ray_stores import ray_shard
from tests.contracts.stores import rng


@pytest.mark.parametrize("shards", [1, 2])
def test_a_closed_store_lets_go_whoever_waits_for_a_batch(shards: int) -> None:
    each = [ray_shard(length=4) for _ in range(shards)]
    store = ShardedStore(each, parallel=True)  # empty: sampling waits for the first sequence

    def sample(number: int) -> Sample:
        return store.sample(4, 4, rng(number), timeout=200.0)

    prefetch = Prefetch(sample, depth=2)
    with pytest.raises(TimeoutError, match="still in its call"):
        prefetch.close(0.05)
    store.close()
    prefetch.close(timeout=200)
    with pytest.raises(ShardDownError, match="closed"):
        sample(9)
