"""A batch that is a part of a larger one: what looks across the batch has to see the other parts, too."""

from collections.abc import Callable

from torch import Tensor

Join = Callable[[Tensor], Tensor]
"""`[n ...]` of this part to `[m n ...]` of all m parts, in their order; every part joins the same things in turn."""


def alone(part: Tensor) -> Tensor:
    """The only part."""
    return part
