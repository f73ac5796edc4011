"""How a family of models is pretrained: what a batch becomes, what is drawn for it, what its losses compare with.

Legend: B batch (all processes together), T frames, S pixels a side, C channels, D width.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""The keys of a dataset's examples, each `[B ...]`."""


class Objective(Protocol):
    """A model and what its pretraining needs."""

    @property
    def model(self) -> nn.Module:
        """Calling it with `inputs` gives its losses, each `[B]`; their sum is minimised."""
        ...

    averages: bool
    """It has a target encoder, the exponential moving average of its encoder."""

    @property
    def apart(self) -> tuple[str, ...]:
        """Names of losses that `trivial_loss` has no counterpart of, such as those that spread features."""
        ...

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """The masks of a whole batch, on the CPU."""
        ...

    def inputs(self, batch: Batch, drawn: Any, rows: slice) -> tuple[Any, ...]:
        """What the model is called with for `rows` of the whole batch, which are all that `batch` has."""
        ...

    def trivial_loss(self, batch: Batch) -> Float[Tensor, " B"]:
        """The loss of a prediction that needs no training."""
        ...

    def represent(self, frames: UInt8[Tensor, "B T S S C"]) -> Float[Tensor, "B D"] | None:
        """The mean of the target encoder's tokens; None if the encoder is not trained."""
        ...

    def measures(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """What else is measured of the model, on held-out batches."""
        ...
