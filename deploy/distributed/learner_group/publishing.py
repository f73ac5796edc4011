"""Snapshots of a learner's policy, made and handed to the coordinator while it learns on."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import nn

from deploy.distributed.coordinator_client import AWAY, CoordinatorClient
from deploy.distributed.snapshots import put
from learner.to_host import ToHost
from replay.errors import NexusError
from world_models.snapshot import make_snapshot

SECONDS = 2 * AWAY  # for one snapshot to be taken by the coordinator


class PublishError(NexusError, ConnectionError):
    """A snapshot could not be published in time."""


class SnapshotPublisher:
    """The caller only copies the parameters; checksum and object store are a thread's work. One at a time, in order.

    What `CoordinatorClient.ask` raises comes with the call after the one that caused it.
    """

    def __init__(self, model: nn.Module, coordinator: CoordinatorClient):
        self.model, self.coordinator = model, coordinator
        self._thread = ThreadPoolExecutor(1, "publish")
        self._pending: Future[None] | None = None

    def begin(self, updates: int) -> None:
        """Publish the parameters as they are now, after that many updates. Waits for the snapshot before it."""
        self.wait()
        flat = torch.cat([p.detach().float().flatten() for p in self.model.parameters()])
        self._pending = self._thread.submit(self._publish, ToHost({"buffer": flat}), updates, time.time())

    def wait(self) -> None:
        """Until the coordinator has what was begun. PublishError: that took too long."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        try:
            pending.result(SECONDS)
        except TimeoutError as error:
            if pending.done():  # somebody else's
                raise
            raise PublishError(
                f"A snapshot of the policy was not published within {SECONDS:g} s; see coordinator and raylet in the "
                "logs of Ray."
            ) from error

    def close(self) -> None:
        """Give up what is not published yet."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _publish(self, copied: ToHost, updates: int, taken: float) -> None:
        self.coordinator.ask("publish", put(make_snapshot(copied.arrays()["buffer"], 0, updates, taken)))
