"""The learner of a local run, a process of its own:
`python -m deploy.distributed.learner_process LOGDIR ADDRESS NAMESPACE SUPERVISOR CHECKPOINT`.

It reads the spaces of the task from standard input, joins the run's Ray instance as a client of coordinator and shards,
continues from CHECKPOINT (a name, `newest` or `none`), and saves and ends when the coordinator says stop or at SIGTERM.
With `learner.processes` it is the first of a group (`learner_group`), and the only one that does any of this. When its
parent, the process SUPERVISOR, is gone (in cluster mode its launcher), so are coordinator and shards: it saves
if the replay is durable, prints what the run continues from, and ends.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import ray
import torch
from ray.exceptions import RayError

from deploy.distributed.coordinator_client import CoordinatorClient, CoordinatorLostError
from deploy.distributed.learner_group.ahead import BEHIND, SampledAhead
from deploy.distributed.learner_group.group import GO, SAVE, WAIT, LearnerGroup, LearnerGroupError, threads_of
from deploy.distributed.learner_group.publishing import SnapshotPublisher
from deploy.distributed.learner_group.time_shares import TimeShares
from deploy.distributed.messages import LEARNER
from deploy.distributed.ray_cluster import join
from deploy.distributed.remote import Heartbeat
from deploy.distributed.shard_client import connect_store
from deploy.distributed.workers import ASK
from deploy.exit_codes import DISK_FULL, FAILED, NON_FINITE, REFUSED
from deploy.interrupt import Interrupt
from deploy.reports.health.measuring import health_metrics
from deploy.reports.open_loop import open_loop_due, open_loop_metrics
from deploy.wiring.build import acting_part, build_agent, build_learner, load_initial
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.policy_files import model_document
from deploy.wiring.stores import rolls_back, shard_names
from deploy.wiring.task import TaskSpaces
from learner.checkpoint import Checkpoints, disk_is_full, read_arrays
from learner.freed_memory import keep_freed_memory
from learner.gpu import gpu_metrics
from learner.learner import NonFiniteError
from learner.write_back import WriteBack
from replay.step import Rows
from world_models.checkpoint_files import WEIGHTS
from world_models.parameters import as_arrays, load_parameters

REPORT = 0.5  # seconds between progress reports
ALONE = 120.0  # seconds to save and exit once the supervisor is gone


class LearnerProcess:
    """Builds the learner and runs it to the end."""

    def __init__(
        self, config: RunConfig, logdir: Path, spaces: TaskSpaces, supervisor: int, interrupt: Interrupt,
        group: LearnerGroup,
    ):  # fmt: skip
        self.config, self.logdir, self.supervisor, self.interrupt = config, logdir, supervisor, interrupt
        torch.set_num_threads(threads_of(config))
        keep_freed_memory()
        self.coordinator = CoordinatorClient(lambda: self.alone or self.interrupt.asked)
        names = [] if config.replay.kind == "redis" else shard_names(config)
        shards = [ray.get_actor(name) for name in names]
        self.beat, self.shares = Heartbeat(self.coordinator, LEARNER), TimeShares()
        self.store = connect_store(config, *spaces, shards, self.beat.waiting, print, samples=True)
        self.agent = build_agent(config, *spaces)
        self.acting = acting_part(config, *spaces, self.agent)
        self.checkpoints = Checkpoints.of(logdir, config.keep_checkpoints)
        self.group = group
        with self.beat.waiting():
            group.meet()
        self.learner = build_learner(config, self.agent, self.store, logdir, group.processes)
        for line in self.learner.step.remarks:
            print(line)
        self.learner.source = self.ahead = SampledAhead(self.learner.sample, config.learner.prefetch, self._batch)
        self.learner.write_back = WriteBack(self.store, BEHIND, lambda: self.shares.on("latents"))
        self.publisher = SnapshotPublisher(self.acting, self.coordinator)
        self.document = model_document(config, *spaces)
        self._reported = self._published = 0.0
        self._saved = -1  # updates of its newest checkpoint
        self._counters: dict[str, int] = {}  # as the coordinator last had them
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @property
    def alone(self) -> bool:
        """The supervisor is gone."""
        return os.getppid() != self.supervisor

    def restore(self, name: str) -> None:
        """Continue from checkpoint `name`, `newest` or `none`. Replay and counters live on in their own processes."""
        if name == "newest":
            path = self.checkpoints.newest(print)
        else:
            path = None if name == "none" else self.checkpoints.path(name)
        self.group.processes.from_first(-1 if path is None else int(path.name))
        if path is not None:
            load_parameters(self.agent, read_arrays(path / WEIGHTS), path / WEIGHTS)
            self.learner.load(read_arrays(path / "training.safetensors"))
            print(f"continuing at update {self.learner.updates} from {path.name}")
            self._saved = self.learner.updates
        else:
            load_initial(self.config, self.agent, self.logdir)
        self.learner.align()
        self.coordinator.ask("rewind", self.learner.updates, self.learner.replayed_per_update)

    def run(self) -> None:
        """Train until told to stop, then save."""
        try:
            self._train()
        except (OSError, RayError) as error:  # nobody is left to answer
            if not (self.alone or self.interrupt.asked):
                raise
            print(f"ending: {error}")
        try:
            if self._saved != self.learner.updates and self._may_save():
                self.save()
            self.group.stop()
            if self._saved == self.learner.updates:
                print(f"saved at update {self._saved}")
                return
        except (OSError, RayError) as error:
            if not self.alone:
                raise
            print(error)
        newest = max(self.checkpoints.numbers(), default=-1)
        what = f"continues from checkpoint {newest}" if newest >= 0 else "starts over, since there is no checkpoint"
        if not self.alone:
            raise LearnerGroupError(f"An update that several processes share was cut off; the same command {what}.")
        print(f"The supervisor is gone, and the coordinator and shards with it; the same command {what}.")

    def _may_save(self) -> bool:
        """Without its supervisor only if the checkpoint holds no replay, with the counters it last received; without
        the other processes, if an update that they share was cut off, only if it needs nothing of them."""
        if not self.group.in_step and self.learner.within_sequence:
            return False
        return not self.alone or bool(self._counters) and not rolls_back(self.config)

    def _train(self) -> None:
        learner, config = self.learner, self.config
        while not (self.alone or self.interrupt.asked):
            with self.shares.on("turn"):
                verdict = self.coordinator.ask("sample", learner.replayed_per_update, ASK)
            if verdict == "stop":
                self.publisher.wait()
                return
            if verdict == "publish":
                self._publish()
                self.publisher.wait()  # else it asks for one more
            if verdict == "checkpoint" and self._saved != learner.updates:
                self.save()
            elif verdict == "checkpoint":
                self.coordinator.ask("saved", self._saved)
            self.group.tell(GO if verdict == "go" else WAIT)
            if verdict != "go":
                continue
            metrics = learner.update()
            self.group.in_step = True
            updates = learner.updates
            if self._publication_due():
                self._publish()
            if updates % config.log_every == 0:
                learner.settle()
                log = {key: float(value) for key, value in metrics.items()} | gpu_metrics(learner.step.device)
                log |= self.shares.take()
                if open_loop_due(config, updates):
                    begun, frames = time.perf_counter(), self._counters.get("frames", 0)
                    log |= open_loop_metrics(learner, config, self.logdir, print)
                    log |= health_metrics(learner, config, self.logdir, frames, print, begun)
                self._progress(log)
            elif time.monotonic() - self._reported > REPORT:
                self._progress()
            if self.checkpoints.due(updates, config.checkpoint_every, config.checkpoint_seconds):
                self.save()

    def close(self) -> None:
        """End its threads and the other processes; whoever still waits for a shard no longer does."""
        self.store.close()
        self.ahead.close()
        self.learner.write_back.close()
        self.publisher.close()
        self.group.end()
        self._ended.set()

    @contextmanager
    def _batch(self) -> Iterator[None]:
        with self.beat.waiting(), self.shares.on("batch"):
            yield

    def save(self) -> None:
        """Write a checkpoint: model, optimiser, every shard and the run's counters."""
        with self.shares.on("checkpoint"):
            self._save()

    def _save(self) -> None:
        together = self.group.in_step
        if together:
            self.group.tell(SAVE)
        training = self.learner.state()  # at once, since the other processes wait for it
        if together:
            self.group.processes.any(False)  # they have written their latents
        with self.group.saving:
            self._write(training)

    def _write(self, training: Rows) -> None:
        updates = self.learner.updates
        if not self.alone:
            try:
                self._counters = self.coordinator.ask("counters")
            except CoordinatorLostError as error:
                if not self._counters:
                    raise
                print(f"{error} Saving its counters from {time.monotonic() - self._reported:.1f} s ago instead.")
        counters = self._counters | {"updates": updates}
        self.checkpoints.save(
            updates,
            {"model": as_arrays(self.agent), "training": training},
            {"config": self.document, "state": {"counters": counters}},
            (lambda folder: self.store.checkpoint(folder / "replay")) if rolls_back(self.config) else None,
        )
        self._saved = updates
        if not self.alone:
            try:
                self._progress()
                self.coordinator.ask("saved", updates)
            except CoordinatorLostError as error:
                print(error)

    def _publication_due(self) -> bool:
        learner = self.config.learner
        late = time.monotonic() - self._published > learner.publish_seconds if learner.publish_seconds else False
        return late or self.learner.updates % learner.publish_every == 0

    def _publish(self) -> None:
        self.learner.settle()  # actors are to get nothing that is not finite
        with self.shares.on("snapshot"):
            self.publisher.begin(self.learner.updates)
        self._published = time.monotonic()

    def _progress(self, log: dict[str, float] | None = None) -> None:
        self._counters = self.coordinator.ask("progress", self.learner.updates, log)
        self._reported = time.monotonic()

    def _watch(self) -> None:
        """Close the store once the supervisor is gone, or once a signal asked for the end and saving needs no shard;
        then nobody waits for one."""
        while not self.alone and not (self.interrupt.asked and not rolls_back(self.config)):
            if self._ended.wait(0.2):
                return
        self.learner.write_back.give_up()
        self.store.close()


def main() -> NoReturn:
    """Run one learner; the exit code tells the supervisor whether a restart may help."""
    logdir, address, namespace = Path(sys.argv[1]), *sys.argv[2:4]
    supervisor, checkpoint = int(sys.argv[4]), sys.argv[5]
    learns = threading.Event()
    threading.Thread(target=_do_not_outlive, args=(supervisor, learns), name="supervisor", daemon=True).start()
    with Interrupt().listening() as interrupt:
        join(address, namespace)
        try:
            given, config = sys.stdin.read(), load_config(logdir)
            group = LearnerGroup(config, logdir, address, namespace, given)
            spaces = TaskSpaces.from_json(json.loads(given))
            process = LearnerProcess(config, logdir, spaces, supervisor, interrupt, group)
        except ValueError as error:  # a device that there is not, say
            print(error, flush=True)
            os._exit(FAILED if checkpoint == "newest" else REFUSED)  # a restart may come at a bad moment
        except LearnerGroupError as error:
            print(error, flush=True)
            os._exit(FAILED)
        code = _run(process, checkpoint, learns)
        process.close()
        sys.stdout.flush()
        if not process.alone:  # leaving Ray waits for its processes, which are gone
            ray.shutdown()
        os._exit(code)  # while signals are listened to: what they ask for is done, and none is to change the code


def _do_not_outlive(supervisor: int, learns: threading.Event) -> None:
    while os.getppid() == supervisor:
        time.sleep(0.5)
    if not learns.is_set():  # there is nothing to save, and Ray waits for minutes for what is gone
        print("The supervisor exited while this learner was starting; exiting too.", flush=True)
        os._exit(FAILED)
    time.sleep(ALONE)
    print(f"still running {ALONE:g} s after the supervisor exited; exiting", flush=True)
    os._exit(FAILED)


def _run(process: LearnerProcess, checkpoint: str, learns: threading.Event) -> int:
    try:
        process.restore(checkpoint)
        learns.set()
        process.run()
    except NonFiniteError as error:
        print(error)
        return NON_FINITE
    except Exception as error:
        if isinstance(error, OSError) and disk_is_full(error):
            print(f"The disk is full: {error}")
            return DISK_FULL
        if cause := process.group.cause(error):
            print(cause)
        else:
            traceback.print_exc()
        return FAILED
    return 0


if __name__ == "__main__":
    main()
