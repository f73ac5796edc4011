"""The learner of a local run, a process of its own:
`python -m deploy.learner_process LOGDIR ADDRESS NAMESPACE CHECKPOINT`.

It joins the run's Ray instance as a client of coordinator and shards, continues from CHECKPOINT (a name, `newest` or
`none`), and saves and ends when the coordinator says stop, at SIGTERM, or when its parent, the supervisor, is gone.
"""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
import torch

from deploy.build import build_agent
from deploy.config import RunConfig, load_config
from deploy.coordinator import LEARNER
from deploy.interrupt import Interrupt
from deploy.open_loop import open_loop_due, open_loop_metrics
from deploy.policy_files import as_arrays, load_arrays, model_document
from deploy.ray_store import connect_store
from deploy.ray_workers import ASK
from deploy.remote import LONGEST_WAIT, Heartbeat, ask
from deploy.stores import rolls_back, shard_names
from deploy.task import spaces_of
from learner.checkpoint import Checkpoints, disk_is_full, read_arrays
from learner.learner import Learner, NonFiniteError
from replay.prefetch import Prefetch
from replay.store import Sample
from world_models.dreamer.acting import ActingModel
from world_models.snapshot import take_snapshot

EXIT_NON_FINITE, EXIT_DISK = 3, 4
"""Exit codes that a restart would not cure."""
REPORT = 0.5  # seconds between progress reports


class LearnerProcess:
    """Builds the learner and runs it to the end."""

    def __init__(self, config: RunConfig, logdir: Path, namespace: str):
        self.config, self.logdir = config, logdir
        torch.set_num_threads(config.learner.threads or max(1, (os.cpu_count() or 2) - 1))
        self.coordinator = ray.get_actor("coordinator", namespace)
        observation, action = spaces_of(config)
        names = [] if config.replay.kind == "redis" else shard_names(config)
        shards = [ray.get_actor(name, namespace) for name in names]
        self.beat = Heartbeat(self.coordinator, LEARNER)
        self.store = connect_store(config, observation, action, shards, self.beat.waiting, print, samples=True)
        self.agent = build_agent(config, observation, action)
        self.acting = ActingModel.sharing(self.agent)
        self.checkpoints = Checkpoints(logdir / "checkpoints", config.keep_checkpoints)
        self.learner = Learner(
            self.agent, config.learner, self.store, seed=config.seed, faults=logdir / "faults", source=self._prefetched,
            prioritize=config.replay.selection.priority > 0,
        )  # fmt: skip
        self.document = model_document(config, observation, action)
        self._prefetch: Prefetch[Sample] | None = None
        self._reported = 0.0

    def restore(self, name: str) -> None:
        """Continue from checkpoint `name`, `newest` or `none`. Replay and counters live on in their own processes."""
        if name == "newest":
            path = self.checkpoints.newest(print)
        else:
            path = None if name == "none" else self.checkpoints.path(name)
        if path is not None:
            load_arrays(self.agent, read_arrays(path / "model.safetensors"))
            self.learner.load(read_arrays(path / "training.safetensors"))
            print(f"continuing at update {self.learner.updates} from {path.name}")
        self._ask("rewind", self.learner.updates, self.learner.replayed_per_update)

    def run(self, interrupt: Interrupt) -> None:
        """Train until told to stop, then save."""
        parent, learner, config = os.getppid(), self.learner, self.config
        self._publish()
        saved = -1
        try:
            while os.getppid() == parent and not interrupt.asked:
                verdict = self._ask("sample", learner.replayed_per_update, ASK)
                if verdict == "stop":
                    break
                if verdict == "wait":
                    continue
                metrics = learner.update()
                updates = learner.updates
                if updates % config.learner.publish_every == 0:
                    self._publish()
                if updates % config.log_every == 0:
                    log = {key: float(value) for key, value in metrics.items()}
                    if open_loop_due(config, updates):
                        log |= open_loop_metrics(learner, config, self.logdir, print)
                    self._ask("progress", updates, log)
                elif time.monotonic() - self._reported > REPORT:
                    self._reported = time.monotonic()
                    self._ask("progress", updates)
                if updates % config.checkpoint_every == 0:
                    self.save()
                    saved = updates
            if saved != learner.updates:
                self.save()
        finally:
            if self._prefetch:
                self._prefetch.close(timeout=60.0)

    def save(self) -> None:
        """Write a checkpoint: model, optimiser, every shard and the run's counters."""
        updates = self.learner.updates
        counters = self._ask("counters") | {"updates": updates}
        self.checkpoints.save(
            updates,
            {"model": as_arrays(self.agent), "training": self.learner.state()},
            {"config": self.document, "state": {"counters": counters}},
            (lambda folder: self.store.checkpoint(folder / "replay")) if rolls_back(self.config) else None,
        )
        self._ask("progress", updates)

    def _publish(self) -> None:
        self._ask("publish", take_snapshot(self.acting, 0, self.learner.updates))

    def _prefetched(self, number: int) -> Sample:
        if self._prefetch is None:  # begun late, so that no batch is drawn before replay is filled
            depth = self.config.learner.prefetch
            self._prefetch = Prefetch(self.learner.sample, number, depth, timeout=LONGEST_WAIT)
        with self.beat.waiting():
            return self._prefetch()

    def _ask(self, method: str, *arguments: Any) -> Any:
        return ask(self.coordinator, method, *arguments)


def main() -> int:
    """Run one learner; the exit code tells the supervisor whether a restart may help."""
    logdir, address, namespace = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    try:
        process = LearnerProcess(load_config(logdir), logdir, namespace)
        process.restore(sys.argv[4])
        with Interrupt().listening() as interrupt:
            process.run(interrupt)
    except NonFiniteError as error:
        print(error)
        return EXIT_NON_FINITE
    except OSError as error:
        if not disk_is_full(error):
            raise
        print(f"The disk is full: {error}")
        return EXIT_DISK
    finally:
        ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
