"""What replay does for a learner while it learns: batches are sampled, latents written back."""

from collections.abc import Callable
from contextlib import nullcontext

from deploy.distributed.remote import LONGEST_WAIT
from deploy.wiring.stores import Waiting
from replay.prefetch import Prefetch
from replay.store import Sample

BEHIND = 4
"""Batches of latents that may be on their way to replay."""
CLOSING = 10.0  # seconds for the threads that make batches to end


class SampledAhead:
    """A `Learner`'s source: up to `depth` batches ahead, begun with the first one that is asked for, so that none is
    drawn before replay is filled."""

    def __init__(self, sample: Callable[[int], Sample], depth: int, waiting: Waiting = nullcontext):
        """`waiting` is entered while a batch is waited for."""
        self._sample, self._depth, self._waiting = sample, depth, waiting
        self._prefetch: Prefetch[Sample] | None = None

    def __call__(self, number: int) -> Sample:
        if self._prefetch is None:
            self._prefetch = Prefetch(self._sample, number, self._depth, timeout=LONGEST_WAIT)
        with self._waiting():
            return self._prefetch()

    def close(self) -> None:
        """End the threads; a store that they wait for is to be closed first."""
        try:
            if self._prefetch:
                self._prefetch.close(timeout=CLOSING)
        except TimeoutError as error:  # no reason to call what was saved unsaved
            print(error)
