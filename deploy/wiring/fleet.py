"""Which environments each worker of a run steps. Free of torch and Ray."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from replay.keys import SLOTS


class Share(NamedTuple):
    """The environments of one worker."""

    indices: list[int]
    """Numbers of the environments across the run; they determine the seeds."""
    slots: list[int]
    """Their places in the streams' names: consecutive over all workers, so streams spread evenly over the shards."""


class Assignment(NamedTuple):
    """What a worker is given at the start of its life."""

    incarnation: int
    """Never used before, so its streams and seeds are new."""
    share: Share
    random_steps: int
    """Steps with random actions that are left to it."""


@dataclass(frozen=True)
class Fleet:
    """Divides `environments` among `actors` workers at the start. Further workers have as many as the largest of these
    each, and numbers of their own: no two workers ever share an environment."""

    environments: int
    actors: int

    def share(self, worker: int) -> Share:
        """The environments of worker number `worker`. ValueError if there are more than streams can name."""
        slots = range(self.total(worker), self.total(worker + 1))
        indices = range(worker, self.environments, self.actors) if worker < self.actors else slots
        return Share(list(indices), list(slots))

    def shares(self, workers: int) -> Iterator[Share]:
        """The shares of the first `workers` workers."""
        return (self.share(worker) for worker in range(workers))

    def total(self, workers: int) -> int:
        """Environments of the first `workers` workers together. ValueError as `share`."""
        least, more = divmod(self.environments, self.actors)  # the first `more` workers have one more
        if workers <= self.actors:
            total = workers * least + min(workers, more)
        else:
            total = self.environments + (workers - self.actors) * self.each
        if total > SLOTS:
            raise ValueError(
                f"Worker {workers - 1} would have environment {total - 1}; replay can name {SLOTS}. "
                f"Use at most {self.most} actors of {self.each} environments."
            )
        return total

    @property
    def each(self) -> int:
        """Environments of every worker that is added later."""
        return -(-self.environments // self.actors)

    @property
    def most(self) -> int:
        """The largest number of workers."""
        return self.actors + (SLOTS - self.environments) // self.each
