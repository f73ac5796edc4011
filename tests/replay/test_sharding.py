from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.config import ActorConfig
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import actor_streams
from replay.keys import stream_id
from replay.sharding import ShardedStore, shard_of
from tests.contracts.stores import check_sequences, latents, memory, rows


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 16), st.integers(0, 2**24 - 1))
def test_the_streams_of_one_life_are_spread_evenly(
    environments: int, shards: int, actors: int, incarnation: int
) -> None:
    actors = min(actors, environments)
    config = RunConfig(actor=ActorConfig(environments=environments, actors=actors))
    streams = [actor_streams(config, actor, actors, incarnation) for actor in range(actors)]
    names = [f"shard-{i}" for i in range(shards)]
    for some in (*streams, [stream for each in streams for stream in each]):  # of each actor, too
        assert len(set(some)) == len(some)
        counts = Counter(shard_of(stream, names) for stream in some)
        assert max(counts.values()) - min(counts[i] for i in range(shards)) <= 1


@given(st.integers(0, 63), st.integers(2, 8), st.integers(0, 1000))
def test_a_new_life_goes_to_another_shard(slot: int, shards: int, incarnation: int) -> None:
    names = [f"shard-{i}" for i in range(shards)]
    lives = [shard_of(stream_id(3, incarnation + i, slot), names) for i in range(shards)]
    assert sorted(lives) == list(range(shards)), "one that is down is passed, whichever it is"


def test_streams_are_found_where_they_lie(tmp_path: Path) -> None:
    shards = [memory() for _ in range(3)]
    for stream in range(6):  # as another version, or another number of shards, had placed them
        shards[(stream * stream + 1) % 3].append(stream, 0, rows(stream, 0, 20))
    homes = [shard.streams().keys() for shard in shards]
    assert not all(stream in homes[shard_of(stream, "abc")] for stream in range(6))

    def assert_found(store: ShardedStore) -> None:
        for stream in range(6):
            assert store.append(stream, 20, rows(stream, 20, 5)) == 5, stream
        assert [shard.streams().keys() for shard in store.shards] == homes
        _, keys = store.sample(64, 4, np.random.default_rng(0))
        assert store.write_back(keys[:, :1], latents(64, 1, 3)) == 64
        assert (store.read(2, 3, 2)["step"] == [3, 4]).all()

    store = ShardedStore(shards)
    store.checkpoint(tmp_path / "saved")
    sampled = ShardedStore(shards)  # a learner: it samples, and nothing else
    keys = sampled.sample(64, 4, np.random.default_rng(0))[1]
    assert sampled.write_back(keys[:, :1], latents(64, 1, 3)) == 64
    assert_found(store)
    restored = ShardedStore([memory() for _ in range(3)])
    for stream in range(6):
        restored.append(stream, 0, rows(stream, 0, 2))  # where they will not lie any more
    restored.restore(tmp_path / "saved")
    assert_found(restored)
    restored.clear()
    for stream in range(6):
        restored.append(stream, 0, rows(stream, 0, 2))
    assert [len(shard.streams()) for shard in restored.shards] == [2, 2, 2]


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
