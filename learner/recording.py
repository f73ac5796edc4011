"""A function of tensors as a CUDA graph: recorded once, then replayed without the host launching kernel by kernel."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from replay.errors import NexusError

WARM_UP = 3
"""Plain calls before recording: libraries choose their kernels and workspaces in them."""


class Graph(Protocol):
    """What can be recorded and replayed; a second implementation makes the buffers' handling testable on a CPU."""

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Do it plainly, as is needed before recording."""

    def record(self, function: Callable[[], Any]) -> None:
        """Record what `function` does, without doing it."""

    def replay(self) -> Any:
        """Do it. Returns what `function` returned, whose tensors every replay writes anew."""


class CudaGraph:
    """`torch.cuda.CUDAGraph`, with a memory pool of its own."""

    def __init__(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.side = torch.cuda.Stream()
        self.outputs: Any = None

    def warm_up(self, function: Callable[[], Any]) -> Any:
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            outputs = function()
        torch.cuda.current_stream().wait_stream(self.side)
        return outputs

    def record(self, function: Callable[[], Any]) -> None:
        # Other threads of a learner may copy from the device meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = function()

    def replay(self) -> Any:
        self.graph.replay()
        return self.outputs


class RecordingError(NexusError):
    """The update could not be recorded."""


class Recorded:
    """`function` of a tree of tensors (tuples, named tuples, dicts), recorded at the call after `WARM_UP` plain ones.

    It must have static shapes and must not wait for the device. Each call of a replay overwrites what the call before
    it returned. Inputs of other shapes than those recorded, or with other values that are no tensors, are plain calls.
    """

    def __init__(self, function: Callable[[Any], Any], graph: Callable[[], Graph] = CudaGraph):
        self.function, self._graph = function, graph()
        self.calls = 0
        self.recorded = False
        self._signature: Any = None
        self._inputs: list[Tensor] = []

    def __call__(self, inputs: Any) -> Any:
        """RecordingError: `function` does what cannot be recorded, or there is too little memory."""
        leaves, structure = pytree.tree_flatten(inputs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        signature = structure, [(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves]
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._graph.warm_up(lambda: self.function(inputs))
        if not self.recorded:
            self._signature = signature
            self._inputs = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in tensors]
            fixed = iter(self._inputs)
            held = pytree.tree_unflatten([next(fixed) if isinstance(x, Tensor) else x for x in leaves], structure)
            try:
                self._graph.record(lambda: self.function(held))
            except RuntimeError as error:
                raise RecordingError(
                    f"The update cannot be recorded as a CUDA graph ({error}); the same command with "
                    "--learner.cuda-graph False makes plain updates."
                ) from error
            self.recorded = True
        if signature != self._signature:
            return self.function(inputs)
        torch._foreach_copy_(self._inputs, tensors)
        return self._graph.replay()
