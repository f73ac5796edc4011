"""Policy snapshots: the acting parameters as one contiguous buffer with a checksum.

Does not import torch, so processes that only forward snapshots stay small.
"""

import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Parameters of one policy version."""

    version: int
    """Increases by one with every snapshot of a run."""
    updates: int
    """Learner updates that its parameters have had."""
    time: float
    """Seconds since the epoch when it was taken."""
    buffer: np.ndarray
    """float32 `[n]`: every parameter flattened, in `named_parameters` order."""
    checksum: int
    """CRC-32 of the buffer."""
    frames: int = 0
    """Environment frames of the run when it was published."""


class SnapshotSource(Protocol):
    """Where actors get policies from."""

    def newest(self, after: int) -> Snapshot | None:
        """The newest snapshot with a version above `after`; None if there is none."""
        ...


def take_snapshot(model: "nn.Module", version: int, updates: int) -> Snapshot:
    """Copy the parameters of `model` (an `ActingModel`) to host memory."""
    flat = np.concatenate([p.detach().float().cpu().numpy().ravel() for p in model.parameters()])
    return make_snapshot(flat, version, updates, time.time())


def make_snapshot(buffer: np.ndarray, version: int, updates: int, taken: float) -> Snapshot:
    """A snapshot of parameters copied at `taken`, seconds since the epoch."""
    return Snapshot(version=version, updates=updates, time=taken, buffer=buffer, checksum=zlib.crc32(buffer.data))


def load_snapshot(model: "nn.Module", snapshot: Snapshot) -> None:
    """Write a snapshot into `model`. Raises ValueError if its size or checksum is wrong."""
    parameters = list(model.parameters())
    expected = sum(p.numel() for p in parameters)
    if snapshot.buffer.size != expected:
        raise ValueError(
            f"Snapshot {snapshot.version} holds {snapshot.buffer.size} numbers, the policy needs {expected}: it comes "
            "from a run with another configuration; use one logdir or replay service per configuration."
        )
    if zlib.crc32(snapshot.buffer.data) != snapshot.checksum:
        raise ValueError(f"Snapshot {snapshot.version} was damaged in transit (checksum mismatch); fetch it again.")
    first = 0
    for p in parameters:
        part = snapshot.buffer[first : first + p.numel()].reshape(p.shape)
        p.detach().copy_(p.new_tensor(part))
        first += p.numel()
