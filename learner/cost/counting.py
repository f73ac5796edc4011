"""Counts what an update does, operator by operator: calls, floating-point operations, bytes, and memory in use.

It sees every operator that reaches PyTorch's dispatcher, of real tensors as of fake ones, which have shapes alone.
"""

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from world_models.products import ONEDNN
from world_models.stages import watched

FLOPS = flop_registry | {ONEDNN: lambda x, weight, *_, out_val: 2 * out_val.numel() * weight.shape[1]}
"""Formulas of operators; torch has none for oneDNN's product."""
BEFORE = "prepare"
"""The stage of what is done before any begins."""


class Layout(NamedTuple):
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        count = self.dtype.itemsize
        for length in self.shape:
            count *= length
        return count


class Kind(NamedTuple):
    """Calls that do the same work: an operator with arguments of the same layouts."""

    operator: torch._ops.OpOverload
    arguments: tuple[Any, ...]
    """Positional and named ones, tensors as `Layout`."""
    flops: int
    """Of matrix products and convolutions, a multiply-add counted as two; other operators have none."""
    nbytes: int
    """Of the tensors read and written; 0 for a view."""


@dataclass
class Work:
    """What a stage does."""

    calls: int = 0
    """Of operators, views included."""
    kernels: int = 0
    """Calls that compute or move something."""
    flops: int = 0
    nbytes: int = 0
    far_bytes: int = 0
    """Those of `nbytes` that lay in memory untouched while more than a cache held was used."""
    kinds: Counter[Kind] = field(default_factory=Counter)

    def add(self, other: "Work") -> None:
        for name in ("calls", "kernels", "flops", "nbytes", "far_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kinds.update(other.kinds)


def total(stages: Iterable[Work]) -> Work:
    """The sum of stages."""
    whole = Work()
    for stage in stages:
        whole.add(stage)
    return whole


class Memory:
    """Bytes that tensors occupy, now and at most, and which of them a cache of `cache` bytes would still hold."""

    def __init__(self, cache: int):
        self.cache, self.now, self.peak, self._touched = cache, 0, 0, 0
        self._last: dict[int, int] = {}
        self._freed: defaultdict[int, list[int]] = defaultdict(list)

    def use(self, tensors: Iterable[Tensor]) -> int:
        """The bytes of `tensors` that have to come from beyond the cache, in which they are afterwards."""
        used: dict[int, int] = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            name, size = id(storage), storage.nbytes()
            if name not in self._last:
                # An allocator hands out first what was freed last.
                again = self._freed[size]
                self._last[name] = again.pop() if again else -self.cache - 1
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, name, size)
            used[name] = max(used.get(name, 0), min(size, tensor.numel() * tensor.element_size()))
        far = sum(size for name, size in used.items() if self._touched - self._last[name] > self.cache)
        self._touched += sum(used.values())
        self._last.update(dict.fromkeys(used, self._touched))
        return far

    def _free(self, name: int, size: int) -> None:
        self._freed[size].append(self._last.pop(name))
        self.now -= size


class Counting(TorchDispatchMode):
    """While it is active, counts operators by the stage that has begun; `cache`: bytes that stay near."""

    def __init__(self, cache: int = 1 << 20):
        super().__init__()
        self.stages: defaultdict[str, Work] = defaultdict(Work)
        self.memory = Memory(cache)
        self._stage = BEFORE

    def count(self, run: Callable[[], object]) -> dict[str, Work]:
        """What `run` does in each of its stages."""
        self.stages.clear()
        self._begin(BEFORE)
        with self, watched(self._begin):
            run()
        return {name: work for name, work in self.stages.items() if work.calls}

    def _begin(self, stage: str) -> None:
        self._stage = stage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "prim":  # attributes of fake tensors
            return out
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        work = self.stages[self._stage]
        work.calls += 1
        if not _is_view(func, inputs, outputs):
            # What is written in place is read too.
            tensors = inputs + outputs
            formula = FLOPS.get(func.overloadpacket)
            flops = int(formula(*args, **kwargs, out_val=out)) if formula else 0
            nbytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            work.kernels += 1
            work.flops += flops
            work.nbytes += nbytes
            work.far_bytes += self.memory.use(tensors)
            work.kinds[Kind(func, _hashable(tree_map(_layout, (args, kwargs))), flops, nbytes)] += 1
        return out


def _is_view(func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    if func._schema.is_mutable or not inputs:
        return False
    storages = {id(tensor.untyped_storage()) for tensor in inputs}
    return any(id(tensor.untyped_storage()) in storages for tensor in outputs)


def _layout(leaf: Any) -> Any:
    return Layout(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(one)) for key, one in value.items())
    if isinstance(value, list | tuple) and not isinstance(value, Layout):
        return tuple(_hashable(one) for one in value)
    return value
