"""A process of the learner other than the first:
`python -m deploy.distributed.learner_group.follower LOGDIR ADDRESS NAMESPACE FIRST RANK PORT`.

It reads the spaces of the task from standard input, joins the run's Ray instance as a client of the shards, meets the
first one (process FIRST, its parent) at PORT, and does what that tells it: samples, updates and writes back its rows of
every batch. It saves nothing, and ends with the first one.
"""

import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import ray
import torch

from deploy.distributed.learner_group.ahead import BEHIND, SampledAhead
from deploy.distributed.learner_group.group import GO, SAVE, STOP, end_with, meet_first, threads_of
from deploy.distributed.ray_cluster import join
from deploy.distributed.shard_client import connect_store
from deploy.exit_codes import FAILED, NON_FINITE
from deploy.wiring.build import build_agent, build_learner
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.stores import shard_names
from deploy.wiring.task import TaskSpaces
from learner.checkpoint import Checkpoints, read_arrays
from learner.freed_memory import keep_freed_memory
from learner.learner import NonFiniteError
from learner.processes import Processes
from learner.write_back import WriteBack


def follow(config: RunConfig, logdir: Path, spaces: TaskSpaces, processes: Processes) -> None:
    """Learn as the first process says, until it says that this is the end."""
    names = [] if config.replay.kind == "redis" else shard_names(config)
    # Each has an index of its own of Redis servers; every fresh sequence is for the first process alone.
    other = replace(config, replay=replace(config.replay, online=False))
    store = connect_store(other, *spaces, [ray.get_actor(name) for name in names], note=print, samples=True)
    learner = build_learner(config, build_agent(config, *spaces), store, logdir, processes=processes)
    newest = processes.from_first(-1)
    if newest >= 0:
        learner.load(read_arrays(Checkpoints.of(logdir).path(newest) / "training.safetensors"))
    learner.align()
    print(f"process {processes.rank} of the learner's {processes.size} is there, at update {learner.updates}")
    learner.source = ahead = SampledAhead(learner.sample, config.learner.prefetch)
    learner.write_back = WriteBack(store, BEHIND)
    while (what := processes.from_first(STOP)) != STOP:
        if what == GO:
            learner.update()
        elif what == SAVE:
            learner.state()
            processes.any(False)
    store.close()
    ahead.close()
    learner.write_back.close()


def main() -> NoReturn:
    """Run one follower; whatever ends it, the first process notices."""
    logdir, address, namespace = Path(sys.argv[1]), *sys.argv[2:4]
    first, rank, port = (int(word) for word in sys.argv[4:])
    end_with(first)
    code = FAILED
    try:
        spaces, config = TaskSpaces.from_json(json.load(sys.stdin)), load_config(logdir)
        torch.set_num_threads(threads_of(config))
        keep_freed_memory()
        join(address, namespace)
        follow(config, logdir, spaces, meet_first(rank, config.learner.processes, port))
        code = 0
        ray.shutdown()
    except NonFiniteError:  # the first process has the same, and says so
        code = NON_FINITE
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
