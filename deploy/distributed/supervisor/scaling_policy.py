"""How many actors a run should have, judged by who waits for whom. Free of torch and Ray."""

import math
from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from actors.config import AutoscaleConfig

BAND = 0.25  # how far the number of actors may be off before it is changed, and what is kept in reserve
PARTS = 3  # of the time, each judged by itself, before another that confirms them
LEAST_BUSY = 0.05  # share of the time that a side is taken to work at least, however much it waits


class Sight(NamedTuple):
    """What is known of the fleet at one moment."""

    time: float
    """Seconds, of a clock that never goes back."""
    asked: int
    """Actors that there should be."""
    acting: int
    settled: bool
    """The learner works, and no actor is just starting or ending."""
    insert_waited: float
    """Seconds for which the limiter has let actors wait, all of them together."""
    sample_waited: float
    """The same for the learner."""
    idle_cpus: float = math.inf
    """Seconds for which CPUs of this machine had nothing to do, all of them together; inf: it does not matter."""
    obstacle: str = ""
    """What speaks against more actors; empty if nothing does."""


class Decision(NamedTuple):
    """Another number of actors, and why."""

    actors: int
    reason: str


def shares(first: Sight, last: Sight) -> tuple[float, float]:
    """The shares of their time that the actors and the learner wait between two looks at the same fleet."""
    seconds = last.time - first.time
    actors = (last.insert_waited - first.insert_waited) / seconds / last.acting
    return min(1.0, actors), min(1.0, (last.sample_waited - first.sample_waited) / seconds)


def wanted(acting: int, actors_wait: float, learner_waits: float) -> float:
    """Actors that would just keep the learner busy, if `acting` of them wait for the share `actors_wait` of their time
    while the learner waits for `learner_waits` of its own: (1 - actors_wait) * acting of them do the work that it takes
    in 1 - learner_waits of its time."""
    busy = [max(LEAST_BUSY, 1.0 - share) for share in (actors_wait, learner_waits)]
    return acting * busy[0] / busy[1]


class ScalingPolicy:
    """Decides by who has waited in the last `patience` seconds. After a change it waits until the fleet has settled,
    and `cooldown` seconds longer.

    It adds actors if more than BAND of those it has are lacking, and at most doubles their number; it removes those
    that exceed the need and a reserve of BAND. A window of three quarters of `patience` is judged in three parts, all
    of which must agree, so that a single checkpoint or report of the learner changes nothing; they must agree for the
    last quarter too, by when a sudden change fills the whole window. Under a constant load it comes to rest: what it
    adds lies within the reserve, and what it leaves exceeds the need."""

    def __init__(self, config: AutoscaleConfig, most: int):
        """`most`: actors that are possible at all."""
        self.config, self._window = config, config.patience * PARTS / (PARTS + 1)
        self.least, self.most = min(config.least, most), min(config.most, most)
        self.says = ""
        """How it sees the fleet now, in words."""
        self._seen: list[Sight] = []
        self._quiet_until: float | None = None  # None: the fleet has not settled yet since the last change
        self._shown_since: float | None = None  # None: nothing speaks for a change

    def restart(self) -> None:
        """Forget what was seen, and let the fleet settle first."""
        self._forget()
        self._quiet_until = None

    def _forget(self) -> None:
        self._seen.clear()
        self._shown_since = None

    def look(self, sight: Sight) -> Decision | None:
        """Take in what is to be seen now; returns a change if it is time for one."""
        decision = self._look(sight)
        if decision:
            self.restart()
            self.says = f"{sight.asked} -> {decision.actors} actors: {decision.reason}"
        return decision

    def _look(self, sight: Sight) -> Decision | None:
        if (within := min(max(sight.asked, self.least), self.most)) != sight.asked:
            return Decision(within, f"there are to be {self.least} to {self.most}")
        if not sight.settled or not sight.acting or self._broken(sight):
            self._forget()
            self.says = "waiting until the learner and all actors are at work"
            return None
        if self._quiet_until is None:
            self._quiet_until = sight.time + self.config.cooldown
        if sight.time < self._quiet_until:
            self.says = "waiting for the last change to take effect"
            return None
        self._seen.append(sight)
        if sight.time - self._seen[0].time < self._window:
            self.says = "measuring who waits"
            return None
        while len(self._seen) > PARTS + 1 and sight.time - self._seen[1].time >= self._window:
            del self._seen[0]
        if (decision := self._judge()) is None:
            self._shown_since = None
            return None
        if self._shown_since is None:
            self._shown_since = sight.time
        return decision if sight.time - self._shown_since >= self.config.patience - self._window else None

    def _broken(self, sight: Sight) -> bool:
        """Whether counts began anew or the fleet is another one since the last look."""
        if not self._seen:
            return False
        last = self._seen[-1]
        again = sight.insert_waited < last.insert_waited or sight.sample_waited < last.sample_waited
        return again or (sight.asked, sight.acting) != (last.asked, last.acting)

    def _judge(self) -> Decision | None:
        first, last = self._seen[0], self._seen[-1]
        actors_wait, learner_waits = shares(first, last)
        self.says = f"the learner waits {learner_waits:.0%} of its time, actors {actors_wait:.0%}"
        parts = self._parts()
        if any(one.time == other.time for one, other in pairwise(parts)):  # a look that took long
            return None
        needs = [wanted(last.acting, *shares(*pair)) for pair in pairwise(parts)]
        if min(needs) > last.acting * (1 + BAND):
            actors = min(math.ceil(min(needs)), 2 * last.acting, self.most)
            if obstacle := self._obstacle(first, last, actors):
                self.says += f"; no actor is added: {obstacle}"
                return None
            return Decision(actors, f"the learner waits for data {learner_waits:.0%} of its time")
        actors = max(math.ceil(max(needs) * (1 + BAND)), self.least)
        if actors < last.acting:
            return Decision(actors, f"actors wait for the learner {actors_wait:.0%} of their time")
        return None

    def _parts(self) -> list[Sight]:
        """The looks at the bounds of the parts of the time, each the last one until then."""
        first, last = self._seen[0], self._seen[-1]
        times = [one.time for one in self._seen]
        bounds = (first.time + (last.time - first.time) * i / PARTS for i in range(PARTS))
        return [self._seen[bisect_right(times, bound) - 1] for bound in bounds] + [last]

    def _obstacle(self, first: Sight, last: Sight, actors: int) -> str:
        """Why there may not be so many actors; empty if there may."""
        if last.asked >= self.most:
            return f"the limit is {self.most}"
        idle = (last.idle_cpus - first.idle_cpus) / (last.time - first.time) if math.isfinite(last.idle_cpus) else None
        if idle is not None and idle < self.config.free_cpus:
            return f"{idle:.1f} CPUs are idle (actor.autoscale.free_cpus={self.config.free_cpus:g})"
        return last.obstacle or (f"{last.asked} are asked for already" if actors <= last.asked else "")
