"""`python -m tests.benchmarks.feeding`: how long a learner waits for replay when an update takes as long as a GPU's.

The parts of a run in local mode: a Ray shard or a redis-server of its own, filled with steps of a 64x64 image, batches
of 16 x 65 made two ahead, and the latents of every batch written back, at once or by a thread. Only the update itself
is replaced by a pause. Shares of wall time: `fetch` waits for the next batch, `write` for latents to be taken,
`waiting` is all that is no pause.
`publish` is what the learner's loop spends on a snapshot of size12m, of which there is one a second.
"""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploy.distributed.learner_group.ahead import BEHIND, SampledAhead
from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from learner.batch import DeviceBatch
from learner.config import LearnerConfig
from learner.dreamer_step import DreamerStep, Update
from learner.learner import Learner
from learner.write_back import WriteBack
from replay.store import Sample
from tests.benchmarks.learner import ACTION, spaces
from tests.benchmarks.machine import describe, median, versions
from tests.benchmarks.replay_stores import Opener, replay_versions
from tests.benchmarks.replay_systems import LENGTH
from tests.benchmarks.replay_work import schema
from world_models.dreamer.acting import ActingModel, Carry
from world_models.dreamer.agent import Dreamer, Output
from world_models.dreamer.draws import Draws
from world_models.dreamer.rssm import Sequence as States
from world_models.dreamer.rssm import State
from world_models.snapshot import take_snapshot

STORES = ("ray", "redis_unix", "redis_tcp")
DEPTH = 2  # batches made ahead, `learner.prefetch`


class Paced(DreamerStep):
    """Takes as long as it is told, and returns latents of the right shapes."""

    pace = 0.0

    def __call__(self, batch: DeviceBatch, draws: Draws | None = None) -> Update:
        begun = time.perf_counter()
        rows, length = batch.steps["is_first"].shape
        c = self.agent.config.rssm
        deter, index = torch.zeros(rows, length, 2048), torch.zeros(rows, length, 32, dtype=torch.int64)
        metrics = {"loss/total": torch.zeros(()), "optimizer/grad_norm": torch.zeros(())}
        self.updates += 1
        carry = Carry(State(torch.zeros(rows, c.deter), torch.zeros(rows, c.stoch, c.classes)), batch.last_action)
        output = Output({}, {}, States(deter, deter, index, deter), {})
        time.sleep(max(0.0, self.pace - (time.perf_counter() - begun)))
        return Update(metrics, {"deter": deter, "stoch": index}, carry, output)


class Waits:
    """Seconds spent in what is called through it."""

    def __init__(self, function: Any):
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += time.perf_counter() - begun


def fed(name: str, opener: Opener, behind: int, given: argparse.Namespace) -> dict[str, Any]:
    """Shares of the time that updates wait."""
    system = opener.open(name)
    system.fill(given.steps)
    config = apply(RunConfig(task="dmc_walker_walk"), "dmc_proprio", "size1m")
    learner_config: LearnerConfig = replace(config.learner, device="cpu", batch_length=LENGTH - 1)
    observation = spaces(config) | spaces(apply(RunConfig(task="dmc_walker_walk"), "dmc_vision", "size12m"))
    agent = Dreamer(observation, ACTION, config.model)  # small: its update is never made
    learner = Learner(agent, learner_config, system.store, seed=0, faults=Path("faults"))
    learner.step = paced = Paced(agent, learner_config)
    paced.pace = given.milliseconds / 1e3
    rng = np.random.default_rng(0)

    def sample(number: int) -> Sample:
        batch, keys = system.store.sample(learner_config.batch_size, LENGTH, rng, 60.0, False)
        return batch | {"stoch": np.minimum(batch["stoch"], 3)}, keys  # the stored ones are any int8

    ahead = SampledAhead(sample, DEPTH)
    learner.write_back = back = WriteBack(system.store, behind)
    learner.source, learner.write_back = (fetch := Waits(ahead)), (write := Waits(back))  # type: ignore[assignment]
    for _ in range(5):
        learner.update()
    fetch.seconds = write.seconds = 0.0
    begun, each = time.perf_counter(), []
    for _ in range(given.updates):
        one = time.perf_counter()
        learner.update()
        each.append(time.perf_counter() - one)
    back.settle()
    wall = time.perf_counter() - begun
    ahead.close()
    back.close()
    return {
        "store": name, "write_behind": behind, "fetch": fetch.seconds / wall, "write": write.seconds / wall,
        "waiting": 1 - given.updates * paced.pace / wall, "updates_per_second": given.updates / wall,
        "median_ms": 1e3 * median(each),
    }  # fmt: skip


def published(repeats: int) -> dict[str, float]:
    """Seconds of making a snapshot of size12m."""
    config = apply(RunConfig(task="dmc_walker_walk"), "dmc_vision", "size12m")
    agent = Dreamer(spaces(config), ACTION, config.model)
    acting = ActingModel.sharing(agent)
    taken = []
    for number in range(repeats):
        begun = time.perf_counter()
        snapshot = take_snapshot(acting, number, number)
        taken.append(time.perf_counter() - begun)
    return {"snapshot_seconds": median(taken), "snapshot_mb": snapshot.buffer.nbytes / 1e6}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.feeding", description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--milliseconds", type=float, default=15.0, help="of an update")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--steps", type=int, default=16384, help="in replay")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    with ExitStack() as stack:
        for name in given.stores:
            for behind in (0, BEHIND):
                opener = Opener(schema(), given.steps, 16, stack)
                rows.append(fed(name, opener, behind, given))
                if not given.json:
                    shares = (f"{key} {rows[-1][key]:.1%}" for key in ("waiting", "fetch", "write"))
                    print(
                        f"{name:<12}{behind} behind  {'  '.join(shares)}  {rows[-1]['updates_per_second']:.1f}/s",
                        flush=True,
                    )
    best = max(row["waiting"] for row in rows if row["write_behind"])
    out = {
        "name": "feeding", "value": best, "unit": "share of the time that the learner waits, the worst store",
        "milliseconds": given.milliseconds, "rows": rows, "device": describe(torch.device("cpu")),
        "versions": versions() | replay_versions(),
    } | published(5)  # fmt: skip
    if given.json:
        print(json.dumps(out))
    else:
        print(f"a snapshot of size12m, {out['snapshot_mb']:.0f} MB: {1e3 * out['snapshot_seconds']:.1f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
