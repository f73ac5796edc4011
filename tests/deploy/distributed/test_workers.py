"""An environment worker of a local run, in this process, with a real coordinator and a real shard behind Ray."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from deploy.commands.train import parse_train
from deploy.distributed.messages import Limits, State
from deploy.distributed.remote import Heartbeat, ask, start
from deploy.distributed.snapshots import put
from deploy.distributed.workers import ActorWorker, _audible_maker
from deploy.wiring.build import build_agent
from deploy.wiring.fleet import Fleet
from deploy.wiring.incarnations import Incarnations
from deploy.wiring.task import replay_schema, spaces_of
from tests.contracts.ray_stores import started
from tests.integration.runs import MY_MODULE, TINY, wait_for
from world_models.dreamer.acting import ActingModel
from world_models.snapshot import take_snapshot

SLOW = MY_MODULE.replace("import gym", "import time, gym").replace("MyEnv-v0", "SlowEnv-v0").replace(
    "self.t + 1\n", "self.t + 1\n        time.sleep(0.3 if self.t == 5 else 0)\n"
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an environment that is slow at its fifth step: there a writer sends what it has."""
    (tmp_path / "slow_module.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    started()
    yield tmp_path
    torch.set_num_threads(threads)


def test_what_an_actor_reports_is_stored_before_it_waits_and_episodes_have_their_own_frames(here: Path) -> None:
    config = parse_train(["gym:slow_module:SlowEnv-v0", *TINY, "--logdir", str(here)])
    actor = replace(config.actor, actors=1, environments=2, flush_steps=16, flush_seconds=0.2, isolation="none")
    config = replace(config, actor=actor, replay=replace(config.replay, shards=1))
    spaces = spaces_of(config)
    schema = replay_schema(*spaces, config.model)
    coordinator = start(
        "deploy.distributed.coordinator.Coordinator",
        Limits(samples_per_insert=1.0, tolerance=64.0, min_size=64), Incarnations(here),
        State(counters={}, replay_size=0, fleet=Fleet(2, 1), actors=1), cpus=0, threads=0, name="coordinator",
    )  # fmt: skip
    shard = start(
        "deploy.distributed.shard_server.ShardServer", "shard-0", schema, config, str(here), cpus=0, threads=4
    )
    thread: threading.Thread | None = None
    try:
        ask(coordinator, "publish", put(take_snapshot(ActingModel.sharing(build_agent(config, *spaces)), 0, 0)))
        worker = ActorWorker(config, spaces, 0, [shard], str(here))
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        # Nobody samples, so that the limiter stops inserting at its least size and the tolerance.
        wait_for(lambda: ask(coordinator, "counters")["steps"] == 128, "the limiter to stop the actor")
        assert ask(shard, "status")["stats"]["inserted"] == 128
        episodes = ask(coordinator, "news").episodes
        assert [episode.frames for episode, _ in episodes] == [40, 40, 80, 80, 120, 120]
        assert (here / "incarnation").read_text() == "0\n"
    finally:
        ask(coordinator, "stop")
        if thread:
            thread.join(60)
        for handle in (coordinator, shard):
            ray.kill(handle)


class Ear:
    """Hears signs of life in place of a `CoordinatorClient`."""

    heard = 0

    def tell(self, *_: Any) -> None:
        self.heard += 1


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_an_environment_that_is_made_slowly_is_no_silence_if_it_has_a_limit(here: Path, isolation: str) -> None:
    (here / "late_module.py").write_text("import time\ntime.sleep(1)\n" + MY_MODULE)
    config = parse_train(["gym:late_module:MyEnv-v0", *TINY, "--actor.isolation", isolation, "--logdir", str(here)])
    ear = Ear()
    make = _audible_maker(config, Heartbeat(ear, "actor 0", every=0.02))  # type: ignore[arg-type]
    make().close()
    assert ear.heard > 3 if isolation == "process" else ear.heard == 1
