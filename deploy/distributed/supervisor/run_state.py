"""What `status.json` says of a run, gathered from what its supervisor knows."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deploy.distributed.messages import News
from deploy.distributed.supervisor.children import Children
from deploy.distributed.supervisor.environment_faults import failure_counts
from deploy.stored.run_status import write_status
from deploy.wiring.config import RunConfig

EVERY = 1.0  # seconds between two writes


class RunState:
    """Writes `status.json` about once a second, and whenever the state changes."""

    show: Callable[[dict[str, Any]], object] = staticmethod(lambda status: None)
    """Called with everything that is written."""

    def __init__(self, config: RunConfig, logdir: Path):
        self._logdir, self._began, self._written = logdir, time.time(), 0.0
        self._head = {
            "run": str(logdir), "task": config.task, "mode": config.mode, "nexus": version("nexus-worlds"),
            "supervisor": {"process": os.getpid(), "host": platform.node()},
        }  # fmt: skip
        self._state = "starting"
        self._body: dict[str, Any] = {}
        self.set("starting")

    def set(self, state: str, reason: str = "") -> None:
        """Change the state: starting, waiting for a `reason`, filling, training, saving, ended, or failed for one."""
        self._state = state
        if reason:
            self._body["reason"] = reason
        self._write()

    def update(
        self, config: RunConfig, news: News, children: Children, saved: int, requests: list[Any],
        autoscale: dict[str, Any],
    ) -> None:  # fmt: skip
        """Take in what is new."""
        assert children.fleet and children.shards
        state = self._state if self._state == "saving" else "training" if news.updates else "filling"
        if state == self._state != "saving" and time.monotonic() - self._written < EVERY:
            return
        self._state = state
        self._body = {
            "frames": news.frames, "frames_planned": config.frames, "steps": news.steps, "updates": news.updates,
            "train_ratio": config.learner.train_ratio,
            "snapshot": {
                "version": news.version, "lag_updates": round(news.lag, 3), "lag_seconds": round(news.lag_seconds, 3),
            },
            "actors": children.fleet.status(news), "autoscale": autoscale, "limiter": news.waiting,
            "processes": {
                name: {"process": process, "node": news.nodes.get(name, ""), "seconds_since_sign":
                       round(news.last_seen.get(name, 0.0), 3)}
                for name, process in news.processes.items()
            },
            "replay": {"shards": children.shards.each, "down": sorted(children.shards.down)},
            "restarts": dict(children.restarts.counts), "failures": failure_counts(news.counters),
            "quarantined": {str(index): reason for index, reason in news.state.quarantined.items()},
            "checkpoint": saved if saved >= 0 else None, "requests": requests,
        }  # fmt: skip
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        times = {"started": round(self._began, 3), "time": round(time.time(), 3)}
        status = {"state": self._state, **self._head, **times, **self._body}
        write_status(self._logdir, status)
        self.show(status)
