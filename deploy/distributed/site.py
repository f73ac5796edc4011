"""Where the processes of a run are: on this machine, or on the nodes of a Ray cluster. Torch-free."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ray.actor import ActorHandle

from deploy.distributed.learner_program import LearnerHandle, start_learner
from deploy.distributed.ray_cluster import lost_part, object_store_bytes, start_local
from deploy.wiring.config import RunConfig

Role = Literal["coordinator", "shard", "actor", "evaluator"]
LITTLE = 0.0001  # CPUs of Ray's, so that any number of processes is placed: the operating system shares the cores


class Site(ABC):
    """A Ray instance that this process has joined, and where in it each process of a run belongs."""

    address: str
    namespace: str
    directory: str
    """Where the user's environment modules are, as `enter` takes it."""

    def settle(self, waits: Callable[[str], None]) -> None:
        """Find a place for the run, before anything is started; `waits` is called with what is waited for.

        ValueError: there is no room for the learner, or its nodes do not see the run directory.
        """
        return None

    def settled(self, handles: Sequence[ActorHandle]) -> None:
        """All processes have been started, those of `handles` somewhere."""
        return None

    @abstractmethod
    def options(self, role: Role) -> dict[str, Any]:
        """Ray's options for the place and the resources of a process, as `remote.start` takes them."""

    @abstractmethod
    def start_learner(self, checkpoint: str, given: str) -> LearnerHandle:
        """Start the learner with a checkpoint (see `learner_process`) and its standard input."""

    def awaits(self, handle: ActorHandle) -> str:
        """What keeps a process from being started at all; empty if nothing does."""
        return ""

    def host(self, node: str) -> str:
        """The name of the node with this id; empty if there is only one."""
        return ""

    @abstractmethod
    def lost(self) -> str:
        """A sentence about the part of Ray whose end is the run's; empty if all is well."""


class LocalSite(Site):
    """A Ray instance of this machine, started for one run."""

    def __init__(self, config: RunConfig, logdir: Path, namespace: str):
        self.logdir, self.namespace, self.directory = logdir, namespace, os.getcwd()
        self.address = start_local(namespace, object_store_bytes(config.model))

    def options(self, role: Role) -> dict[str, Any]:
        return {"cpus": LITTLE}

    def start_learner(self, checkpoint: str, given: str) -> LearnerHandle:
        return start_learner(None, str(self.logdir), self.address, self.namespace, checkpoint, given)

    def lost(self) -> str:
        part = lost_part()
        return f"Ray's {part} has exited" if part else ""
