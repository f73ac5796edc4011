"""What is refused before a run starts because its replay could never serve it."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.cli import parse_train
from deploy.config import RunConfig
from deploy.inline_run import InlineRun
from deploy.stores import actor_streams, inline_store, require_room
from deploy.task import replay_schema, spaces_of
from replay.memory_store import MemoryStore
from tests.integration.runs import TINY

pytestmark = pytest.mark.timeout(120)


def _config(logdir: Path, environments: int, actors: int = 1, **replay: object) -> RunConfig:
    config = parse_train(["gym:CartPole-v1", *TINY, "--mode", "inline", "--logdir", str(logdir)])
    actor = replace(config.actor, environments=environments, actors=actors)
    return replace(config, actor=actor, replay=replace(config.replay, **replay))  # type: ignore[arg-type]


def _check(config: RunConfig) -> None:
    actors = config.actor.actors
    streams = [stream for actor in range(actors) for stream in actor_streams(config, actor, actors, 0)]
    assert len(streams) == config.actor.environments
    store = inline_store(replay_schema(*spaces_of(config), config.model), config, print)
    try:
        require_room(store, config, streams)
    finally:
        store.close()


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_room_is_counted_in_the_shards_that_are_written_to(tmp_path: Path, store: str) -> None:
    run = tmp_path / "run"  # training starts at 32 sequences
    with pytest.raises(ValueError, match=r"starts at 32 .* has 16 of 9 steps at most: .* 2 shards, .* 1 environments"):
        _check(_config(run, 1, store=store, shards=2, capacity=32))
    with pytest.raises(ValueError, match=r"Raise replay.capacity=63 to 64, .* lower learner.start_items to 31\."):
        _check(_config(run, 1, store=store, shards=2, capacity=63))
    for environments, actors, shards, capacity in ((1, 1, 2, 64), (1, 1, 1, 32), (4, 2, 1, 32)):
        _check(_config(run, environments, actors, store=store, shards=shards, capacity=capacity))


def test_steps_that_start_no_sequence_take_room_too(tmp_path: Path) -> None:
    config = _config(tmp_path, 4, shards=1, chunk_length=8, capacity=1000)
    config = replace(config, learner=replace(config.learner, start_items=48))
    store = inline_store(replay_schema(*spaces_of(config), config.model), config, print)
    shard = store.shards[0]
    assert isinstance(shard, MemoryStore)
    for chunks, starts in ((8, False), (11, False), (12, True)):  # of four streams, 8 steps of each start none
        bounded = replace(config, replay=replace(config.replay, capacity_gb=(chunks + 0.1) * shard.slot_bytes / 1e9))
        if starts:
            _check(bounded)
        else:
            with pytest.raises(ValueError, match=r"48 .* has 32 of 9 steps at most: .* Raise replay.capacity_gb="):
                _check(bounded)


def test_a_run_that_could_never_train_does_not_begin(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", 1, shards=2, capacity=32)
    with pytest.raises(ValueError, match="Training starts at 32 sequences, but replay has 16"):
        InlineRun(config, tmp_path / "run").run()
