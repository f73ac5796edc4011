"""The processes that share a pretraining run, each with its part of every batch."""

import os
from collections.abc import Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(minutes=30)
"""How long one process waits for the others, for instance while the first one measures or saves."""


class Processes:
    """This process among `size`, number `rank`. One alone needs no network."""

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0):
        self.rank, self.size, self.local_rank = rank, size, local_rank

    @classmethod
    def join(cls, environment: Mapping[str, str] = os.environ) -> "Processes":
        """Meet the others named by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun sets them;
        alone without them. ValueError: some are missing."""
        size = int(environment.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        if missing := {"RANK", "MASTER_ADDR", "MASTER_PORT"} - environment.keys():
            raise ValueError(f"WORLD_SIZE={size} without {', '.join(sorted(missing))}; start all with torchrun.")
        rank = int(environment["RANK"])
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
        return cls(rank, size, int(environment.get("LOCAL_RANK", rank)))

    @property
    def first(self) -> bool:
        """Whether this one writes logs and checkpoints."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that are this process's. ValueError: it cannot be shared equally."""
        if batch_size % self.size:
            raise ValueError(f"training.batch_size={batch_size} is no multiple of the {self.size} processes.")
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model` with gradients averaged over all processes, and its parameters taken from the first."""
        if self.size == 1:
            return model
        # The same parameters take part in every update, among them not those of unused mask tokens.
        return DistributedDataParallel(model, broadcast_buffers=False, static_graph=True)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.size == 1:
            return values
        dist.all_reduce(values)
        return values / self.size

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def from_first(self, number: int) -> int:
        """The number that the first process has."""
        if self.size == 1:
            return number
        numbers = torch.tensor(number)
        dist.broadcast(numbers, 0)
        return int(numbers)

    def close(self) -> None:
        """Leave the others."""
        if self.size > 1:
            dist.destroy_process_group()
