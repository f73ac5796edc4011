"""An actor of ours as a loop: environments, policy and writes to a store in memory, and where its time goes."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deploy.wiring.build import build_actor
from deploy.wiring.config import RunConfig
from deploy.wiring.fleet import Assignment, Fleet
from deploy.wiring.presets import apply
from deploy.wiring.task import replay_schema, spaces_of
from replay.memory.memory_store import MemoryStore
from tests.benchmarks.actors_raw import ENVIRONMENTS
from world_models.dreamer.acting import ActingModel

KEPT = 4096
"""Steps that the store holds: it is soon full, so what is measured includes making room."""
ENDLESS = 1 << 60


def children_seconds() -> float:
    """CPU seconds of this process's living descendants and their threads, from the scheduler's own counters."""
    import psutil

    nanoseconds = 0
    for child in psutil.Process().children(recursive=True):
        for file in Path(f"/proc/{child.pid}/task").glob("*/schedstat"):
            nanoseconds += int(file.read_text().split()[0])
    return nanoseconds / 1e9


class Ours:
    """The actor that a worker of a run builds for `task`, in CPU seconds `spent` on `env`, `inference` and `write`.

    `size` is that of the policy; empty for random actions, with which no network is called.
    """

    def __init__(self, task: str, preset: str, size: str = "", isolation: str = "none"):
        config = apply(RunConfig(task=task, mode="local"), preset, size or "size1m")
        actor = replace(config.actor, actors=1, environments=ENVIRONMENTS, isolation=isolation)  # type: ignore[arg-type]
        self.config = replace(config, actor=actor)
        spaces = spaces_of(self.config)
        torch.manual_seed(0)
        model = ActingModel(*spaces, self.config.model)
        learner = self.config.learner
        store = MemoryStore(replay_schema(*spaces, self.config.model), length=learner.batch_length + 1, capacity=KEPT)
        assignment = Assignment(0, Fleet(ENVIRONMENTS, 1).share(0), 0 if size else ENDLESS)
        self.actor = build_actor(self.config, model, store, assignment)
        self.backend = self.actor.environments.backend
        self.spent = {"env": 0.0, "inference": 0.0, "write": 0.0, "all": 0.0}

    def split(self, calls: int) -> None:
        """Step that often and count in `spent` where the time goes: in steps of their own, since asking for CPU seconds
        takes as long as a third of a step of CartPole."""
        parts = (
            (self.actor.environments, "step", "env"), (self.actor.policy, "act", "inference"),
            (self.actor.writer, "add", "write"),
        )  # fmt: skip
        for owner, name, part in parts:
            self._time(owner, name, part)
        began = time.process_time()
        for _ in range(calls):
            self()
        self.spent["all"] += time.process_time() - began
        for owner, name, _ in parts:
            delattr(owner, name)

    def _time(self, owner: Any, name: str, part: str) -> None:
        """Have a method count its CPU seconds."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return method(*arguments)
            finally:
                self.spent[part] += time.process_time() - began

        setattr(owner, name, timed)

    def __call__(self) -> None:
        self.actor.step()

    def close(self) -> None:
        self.actor.environments.close()
