"""A function of tensors as a CUDA graph: recorded once, then replayed without the host launching kernel by kernel."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

WARM_UP = 3
"""Plain calls before recording: libraries choose their kernels and workspaces in them."""


class Graph(Protocol):
    """What can be recorded and replayed; a second implementation makes the buffers' handling testable on a CPU."""

    def record(self, function: Callable[[], Any]) -> None:
        """Record what `function` does, without doing it."""

    def replay(self) -> Any:
        """Do it. Returns what `function` returned, whose tensors every replay writes anew."""


class CudaGraph:
    """`torch.cuda.CUDAGraph`, with a memory pool of its own."""

    def __init__(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.outputs: Any = None

    def record(self, function: Callable[[], Any]) -> None:
        with torch.cuda.graph(self.graph):
            self.outputs = function()

    def replay(self) -> Any:
        self.graph.replay()
        return self.outputs


class Recorded:
    """`function` of a tree of tensors (tuples, named tuples, dicts), recorded at the call after `WARM_UP` plain ones.

    It must have static shapes and must not wait for the device. Each call of a replay overwrites what the call before
    it returned. Inputs of other shapes than those recorded, or with other values that are no tensors, are plain calls.
    """

    def __init__(self, function: Callable[[Any], Any], graph: Callable[[], Graph] = CudaGraph):
        self.function, self._new_graph = function, graph
        self.calls = 0
        self._graph: Graph | None = None
        self._signature: Any = None
        self._inputs: list[Tensor] = []

    @property
    def recorded(self) -> bool:
        return self._graph is not None

    def __call__(self, inputs: Any) -> Any:
        leaves, structure = pytree.tree_flatten(inputs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        signature = structure, [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves]
        self.calls += 1
        if self._graph is None and self.calls > WARM_UP:
            self._signature = signature
            self._inputs = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in tensors]
            fixed = iter(self._inputs)
            held = pytree.tree_unflatten([next(fixed) if isinstance(x, Tensor) else x for x in leaves], structure)
            graph = self._new_graph()
            graph.record(lambda: self.function(held))
            self._graph = graph
        if self._graph is None or signature != self._signature:
            return self.function(inputs)
        torch._foreach_copy_(self._inputs, tensors)
        return self._graph.replay()
