"""Lets the number of actors of a run follow its scaling policy. Torch-free."""

import math
import time
from collections.abc import Callable
from typing import Any

import psutil

from deploy.distributed.messages import LEARNER, News
from deploy.distributed.supervisor.fleet_children import FleetChildren
from deploy.distributed.supervisor.scaling_policy import ScalingPolicy, Sight
from deploy.wiring.config import RunConfig


class Autoscaler:
    """Looks at the fleet whenever the supervisor does, and has it scaled while it is `on`."""

    def __init__(self, config: RunConfig, fleet: FleetChildren, scale: Callable[[int, str], object]):
        """`scale(actors, reason)` changes the number of actors."""
        self._config, self._fleet, self._scale = config, fleet, scale
        self.on = config.actor.autoscale.on
        self.policy = ScalingPolicy(config.actor.autoscale, fleet.fleet.most)

    def turn(self, on: bool) -> None:
        """Turn it on or off."""
        self.on = on
        self.policy.restart()

    def attend(self, news: News) -> None:
        """Scale the fleet if it is time for it."""
        if self.on and (decision := self.policy.look(self._sight(news))):
            self._scale(decision.actors, decision.reason)

    def status(self) -> dict[str, Any]:
        """For `status.json`."""
        return {"on": self.on, "least": self.policy.least, "most": self.policy.most,
                "says": self.policy.says if self.on else ""}  # fmt: skip

    def _sight(self, news: News) -> Sight:
        acting, settled, obstacle = self._fleet.at_work(news)
        max_lag = self._config.actor.max_lag
        if 0 < max_lag <= news.lag:
            obstacle = f"the acting policies are {news.lag:.0f} updates behind (actor.max_lag={max_lag})"
        return Sight(
            time=time.monotonic(),
            asked=self._fleet.target,
            acting=acting,
            settled=settled and news.updates > 0 and LEARNER in news.last_seen,
            insert_waited=news.waiting["insert_waited_seconds"],
            sample_waited=news.waiting["sample_waited_seconds"],
            idle_cpus=_idle_cpus() if self._config.mode == "local" else math.inf,
            obstacle=obstacle,
        )


def _idle_cpus() -> float:
    """Seconds for which CPUs of this machine had nothing to do, all of them together."""
    times = psutil.cpu_times()
    return float(times.idle + getattr(times, "iowait", 0.0))
