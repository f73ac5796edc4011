from collections import Counter

import numpy as np
import pytest

from replay.sharding import ShardedStore, shard_of
from tests.contracts.stores import check_sequences, memory, rows


def test_streams_spread_evenly_over_shards() -> None:
    names = [f"shard-{i}" for i in range(4)]
    counts = Counter(shard_of(stream, names) for stream in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) < 250  # 4 standard deviations of a fair split


def test_losing_a_shard_moves_only_its_own_streams() -> None:
    names = ["a", "b", "c", "d"]
    for stream in range(300):
        before = names[shard_of(stream, names)]
        after = [n for n in names if n != "c"][shard_of(stream, [n for n in names if n != "c"])]
        assert before in (after, "c")


def test_shards_are_sampled_in_proportion_to_their_size() -> None:
    shards = [memory(online=False) for _ in range(3)]
    store = ShardedStore(shards)
    home = {i: next(s for s in range(100) if store.shard(s) is shards[i]) for i in range(3)}
    for i, n in enumerate((103, 23, 0)):  # 100, 20 and 0 items
        if n:
            store.append(home[i], 0, rows(home[i], 0, n))
    batch, keys = store.sample(6000, 4, np.random.default_rng(1))
    check_sequences(batch, keys)
    share = Counter(keys[:, 0, 0].tolist())
    assert share[home[0]] == pytest.approx(5000, abs=5 * np.sqrt(6000 * 5 / 36))
    assert share[home[2]] == 0


def test_online_sequences_are_taken_from_all_shards_in_turn() -> None:
    shards = [memory() for _ in range(3)]
    store = ShardedStore(shards)
    for i, shard in enumerate(shards):
        home = next(s for s in range(100) if store.shard(s) is shard)
        store.append(home, 0, rows(home, 0, 45 if i == 0 else 17))  # 11, 4 and 4 waiting
    assert [shard.stats()["queue"] for shard in shards] == [11, 4, 4]
    store.sample(9, 4, np.random.default_rng(0))
    assert [shard.stats()["queue"] for shard in shards] == [8, 1, 1]
    store.sample(9, 4, np.random.default_rng(0))
    assert [shard.stats()["queue"] for shard in shards] == [1, 0, 0]


def test_shards_are_alike() -> None:
    with pytest.raises(ValueError, match="at least one shard"):
        ShardedStore([])
    with pytest.raises(ValueError, match="shard-1 has another schema or length"):
        ShardedStore([memory(length=4), memory(length=5)])
    with pytest.raises(ValueError, match="different names"):
        ShardedStore([memory(), memory()], names=["a", "a"])
