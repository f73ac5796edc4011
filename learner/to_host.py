"""Tensors on their way to the host, for which nobody waits until they are asked for."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class ToHost:
    """Copies to pinned memory, begun behind the work that the device already has; on a CPU, the tensors themselves.

    What was enqueued before may be overwritten by work that is enqueued later: the copies are made in between.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._done: torch.cuda.Event | None = None
        devices = {tensor.device for tensor in tensors.values() if tensor.is_cuda}
        self._held = {key: self._begun(tensor) for key, tensor in tensors.items()}
        for device in devices:
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(device))

    @staticmethod
    def _begun(tensor: Tensor) -> Tensor:
        if not tensor.is_cuda:
            return tensor
        return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Waits for the copies alone."""
        if self._done is not None:
            self._done.synchronize()
        return {key: value.numpy() for key, value in self._held.items()}
