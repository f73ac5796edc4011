"""What is refused before a run starts because its replay could never serve it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.wiring.config import RunConfig
from deploy.wiring.stores import actor_streams, damage, inline_store, require_room, shard
from deploy.wiring.task import replay_schema, spaces_of
from replay.memory.memory_store import MemoryStore
from tests.integration.runs import TINY
from tests.replay.cartpole import play, schema


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
    with pytest.raises(ValueError, match=r"starts at 32 .* holds at most 16 of 9 steps: .* the 1 environment writes"):
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
            with pytest.raises(ValueError, match=r"48 .* holds at most 32 of 9 steps: .* Raise replay.capacity_gb="):
                _check(bounded)


def test_a_run_that_could_never_train_does_not_begin(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", 1, shards=2, capacity=32)
    with pytest.raises(ValueError, match="Training starts at 32 sequences, but replay holds at most 16"):
        InlineRun(config, tmp_path / "run").run()


def test_damage_of_a_disk_replay_is_said_when_it_is_met_and_known_at_the_end(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", 2, store="disk", shards=1, chunk_length=16, compression="")
    notes: list[str] = []
    store = shard("shard-0", schema(), config, notes.append)
    play(store, steps=100)
    store.close()
    assert damage(config) == ""
    first, second, *_ = sorted((tmp_path / "run" / "replay" / "shard-0" / "chunks").glob("*.rows"))
    for file in (first, second):
        content = bytearray(file.read_bytes())
        content[-1] ^= 255
        file.write_bytes(content)
    store = shard("shard-0", schema(), config, notes.append)
    rng = np.random.default_rng(0)
    for _ in range(100):
        store.sample(4, store.length, rng)
    store.close()
    for file in (first, second):
        (line,) = (note for note in notes if file.name in note)
        assert "chunk set aside, its sequences are lost" in line
    assert damage(config).startswith(f"Damaged and left out of the replay in {tmp_path}/run/replay: 2 files, such as ")
