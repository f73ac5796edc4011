"""Inline runs that go back to a checkpoint, over every kind of replay: no row of one life joins those of another."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.wiring.claim import _LOCKS
from deploy.wiring.stores import inline_store, rolls_back
from deploy.wiring.task import replay_schema, spaces_of
from replay.keys import incarnation_of
from replay.step import Rows
from tests.integration.runs import TINY, checkpoints, wait_for
from tests.replay.redis.redis_servers import RedisServer

KINDS = ["memory", "disk", "named disk", "redis"]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RedisServer()) for _ in range(2)]


class Site:
    """Lives of one run, each as good as a process of its own."""

    def __init__(self, kind: str, folder: Path, servers: list[RedisServer]):
        self.logdir = folder / "run"
        self.store = {
            "memory": ["--replay", "memory"],
            "disk": ["--replay", "disk"],
            "named disk": ["--replay", "disk", "--replay.directory", str(folder / "fast")],
            "redis": ["--replay", ",".join(server.url_unix for server in servers)],
        }[kind]
        self.store += ["--replay.prefix", folder.name] if kind == "redis" else []

    def live(self, frames: int, beside: Callable[[InlineRun], None] = lambda run: None) -> InlineRun:
        """One life of `frames` in all, or until `beside`, which runs in a thread, asks it to stop."""
        arguments = [*TINY, "--mode", "inline", "--learner.train-ratio", "2", "--logdir", str(self.logdir)]
        self.config = parse_train(["gym:CartPole-v1", *arguments, *self.store, "--frames", str(frames)])
        run = InlineRun(self.config, self.logdir)
        thread = threading.Thread(target=beside, args=(run,))
        thread.start()
        try:
            assert run.run() == ("interrupted" if run.interrupt.asked else "done")
        finally:
            thread.join()
            _LOCKS.pop(self.logdir).close()
        return run

    def forget(self) -> None:
        """The newest checkpoint was never written: the run was killed before."""
        shutil.rmtree(self.logdir / "checkpoints" / f"{checkpoints(self.logdir)[-1]:010d}")

    def stored(self) -> dict[int, Rows]:
        schema = replay_schema(*spaces_of(self.config), self.config.model)
        with closing(inline_store(schema, self.config, print)) as store:
            if self.config.replay.kind == "memory":
                store.restore(self.logdir / "checkpoints" / f"{checkpoints(self.logdir)[-1]:010d}" / "replay")
            return {s: store.read(s, steps.start, len(steps)) for s, steps in store.streams().items()}


def check_streams(streams: dict[int, Rows]) -> None:
    """Every row is the step after the one before it: CartPole's position moves by a fiftieth of its velocity."""
    for stream, rows in streams.items():
        assert rows["is_first"][0], stream
        goes_on = ~rows["is_first"][1:]
        np.testing.assert_array_equal(goes_on, ~rows["is_last"][:-1], f"stream {stream}")
        moved = rows["vector"][:-1, 0] + 0.02 * rows["vector"][:-1, 1]
        np.testing.assert_allclose(rows["vector"][1:, 0][goes_on], moved[goes_on], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_of_one_life_joins_those_of_another(kind: str, tmp_path: Path, servers: list[RedisServer]) -> None:
    site = Site(kind, tmp_path, servers)
    lost = site.live(60).actor.steps
    site.forget()  # killed before its first checkpoint
    kept = site.live(60).actor.steps
    unsaved = site.live(120).actor.steps - kept
    site.forget()
    last = site.live(180)
    streams = site.stored()
    check_streams(streams)
    rows, lives = sum(len(rows["reward"]) for rows in streams.values()), {incarnation_of(stream) for stream in streams}
    if rolls_back(site.config):
        assert kind in ("memory", "disk") and lives == {0} and rows == last.actor.steps
    else:
        assert kind in ("named disk", "redis") and lives == {0, 1, 2, 3}
        assert rows == lost + unsaved + last.actor.steps, "every step acted is stored"
    # The counters have gone back to the checkpoint, and with them the updates that are due.
    assert 180 <= last.frames < 184
    assert 2 * (last.actor.steps - 60) <= last.learner.replayed <= 2 * last.actor.steps + 32


def test_one_of_two_servers_goes_down_and_is_still_away_when_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.wiring.stores.DOWN", 1.0)
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(appendonly=True)) for _ in range(2)]
        site = Site("redis", tmp_path, servers)

        def kill_one(run: InlineRun) -> None:
            try:
                wait_for(lambda: run.learner.updates >= 5, "update 5")
                servers[1].kill()
                wait_for(lambda: run.store.down, "the run to notice")
                updates = run.learner.updates
                wait_for(lambda: run.learner.updates >= updates + 5, "training with one server")
            finally:
                run.interrupt.asked = True

        first = site.live(1_000_000, kill_one)
        assert first.store.down == ["shard-1"]
        second = site.live(first.frames + 60)
        assert second.store.down == ["shard-1"]
        servers[1].restart()
        third = site.live(second.frames + 60)
        streams = site.stored()
        check_streams({stream: rows for stream, rows in streams.items() if rows["is_first"][0]})
        newest = [max(map(incarnation_of, run.actor.streams)) for run in (first, second, third)]
        oldest = [min(map(incarnation_of, run.actor.streams)) for run in (first, second, third)]
        assert newest[0] < oldest[1] and newest[1] < oldest[2], "no life has a number of an earlier one"
