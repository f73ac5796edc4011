"""The processes that learn together, each with its part of every batch."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import numpy as np
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
        dist.init_process_group(_backend(), rank=rank, world_size=size, timeout=PATIENCE)
        return cls(rank, size, int(environment.get("LOCAL_RANK", rank)))

    @classmethod
    def meet(cls, store: dist.Store, rank: int, size: int) -> "Processes":
        """Meet the others of this machine, which have the same `store`; within PATIENCE."""
        dist.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=PATIENCE)
        return cls(rank, size, rank)

    @property
    def first(self) -> bool:
        """Whether this one writes logs and checkpoints."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that are this process's. ValueError: it cannot be shared equally."""
        if batch_size % self.size:
            raise ValueError(f"training.batch_size={batch_size} is no multiple of the {self.size} processes.")
        return self.rows(batch_size)

    def rows(self, count: int) -> slice:
        """This process's of as many rows, which can be shared equally."""
        part = count // self.size
        assert part * self.size == count, f"{count} rows for {self.size} processes"
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

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors of one dtype and device their mean over all processes, in one exchange."""
        if self.size == 1 or not tensors:
            return
        bucket = torch.cat([one.flatten() for one in tensors])
        dist.all_reduce(bucket)
        bucket /= self.size
        parts = bucket.split([one.numel() for one in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(one) for part, one in zip(parts, tensors, strict=True)])

    def gather(self, part: Tensor) -> Tensor:
        """Rows `[n ...]` of every process as `[size * n ...]`, in the order of the processes."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    def gather_array(self, part: np.ndarray) -> np.ndarray:
        """The same for an array `[n ...]` of any dtype."""
        if self.size == 1:
            return part
        raw = torch.from_numpy(np.frombuffer(np.ascontiguousarray(part).tobytes(), np.uint8).copy())
        return self.gather(raw).numpy().view(part.dtype).reshape(-1, *part.shape[1:])

    def largest(self, number: float) -> float:
        """The largest of the numbers that the processes have."""
        if self.size == 1:
            return number
        numbers = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return float(numbers)

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have in the first process."""
        if self.size > 1:
            for one in tensors:
                dist.broadcast(one, 0)

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


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
