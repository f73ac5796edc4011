"""Policy snapshots through Ray's object store: put there once, fetched once per node."""

import threading
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import ray
from ray.exceptions import RayError

from deploy.distributed.coordinator_client import CoordinatorClient
from deploy.distributed.messages import HELD, Answer, Published
from deploy.distributed.remote import Heartbeat
from world_models.snapshot import Snapshot

FETCHING = 60.0  # seconds for one to arrive


def put(snapshot: Snapshot) -> Published:
    """Store the parameters of a snapshot; they stay as long as this process and a reference to them."""
    return Published(snapshot=replace(snapshot, buffer=np.empty(0, np.float32)), buffer=[ray.put(snapshot.buffer)])


class SnapshotFetcher:
    """A `SnapshotSource` that never makes its caller wait: a thread fetches what is offered, only the newest. A damaged
    snapshot is noted, and the next one awaited."""

    def __init__(self, note: Callable[[str], None] = lambda line: None):
        self.note = note
        self._changed = threading.Condition()
        self._offered: Published | None = None
        self._latest = -1  # version that was offered last
        self._here: Snapshot | None = None
        self._thread: threading.Thread | None = None

    def offer(self, published: Published | None) -> None:
        """Fetch this snapshot, unless it is older than one that was offered before."""
        if published is None or published.snapshot.version <= self._latest:
            return
        with self._changed:
            self._latest, self._offered = published.snapshot.version, published
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def newest(self, after: int) -> Snapshot | None:
        return self.wait(after, 0.0)

    def wait(self, after: int, timeout: float) -> Snapshot | None:
        """The newest snapshot if it is above `after` and here within `timeout` seconds."""

        def there() -> Snapshot | None:
            return self._here if self._here is not None and self._here.version > after else None

        with self._changed:
            return self._changed.wait_for(there, timeout) if timeout else there()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._offered is None:
                    self._changed.wait()
                published, self._offered = self._offered, None
            snapshot = self._fetch(published)
            with self._changed:
                if snapshot is not None:
                    self._here = snapshot
                elif self._latest == published.snapshot.version:
                    self._latest -= 1  # it may be offered again
                self._changed.notify_all()

    def _fetch(self, published: Published) -> Snapshot | None:
        version = published.snapshot.version
        try:
            buffer: np.ndarray = ray.get(published.buffer[0], timeout=FETCHING)
        except RayError:  # the learner that stored it is gone, and its next one publishes; or the network is too slow
            return None
        if zlib.crc32(buffer.data) != published.snapshot.checksum:
            self.note(f"Snapshot {version} was damaged in transit and is not used; waiting for the next one.")
            return None
        return replace(published.snapshot, buffer=buffer)


def first_snapshot(coordinator: CoordinatorClient, fetcher: SnapshotFetcher, beat: Heartbeat) -> Snapshot | None:
    """Wait for the first snapshot; None: the run ended before there was one.

    There is no time-out but that of the coordinator (CoordinatorLostError): a learner may wait for a node of the
    cluster as long as it takes, and the supervisor watches it and ends the run if it does not start.
    """
    while True:
        answer: Answer = coordinator.ask("first", HELD)
        if answer.verdict == "stop":
            return None
        fetcher.offer(answer.published)
        if answer.published and (snapshot := fetcher.wait(-1, 1.0)):
            return snapshot
        beat()
