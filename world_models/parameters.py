"""Parameters and buffers of a module as arrays, and back."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

OTHER_MODEL = "Its config.json describes another model."
_NAMED = 20  # of each kind, in a message


def as_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """All parameters and buffers, contiguous, in host memory; those that are there already share it."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in module.state_dict().items()}


@torch.no_grad()
def load_parameters(
    module: nn.Module, values: Mapping[str, np.ndarray | Tensor], where: object,
    remedy: str = OTHER_MODEL, *, shown: Mapping[str, str] | None = None, optional: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """The inverse of `as_arrays`, for arrays or tensors.

    ValueError names every parameter that is missing, unexpected or of another shape, and then nothing is loaded.
    `where` they come from and the `remedy` are part of its message; `shown` has the names to show where they differ.
    Those that begin with one of `optional` may be missing.
    """
    own, name_of = module.state_dict(), shown or {}
    missing = [name for name in own.keys() - values.keys() if not name.startswith(optional)]
    extra = values.keys() - own.keys()
    wrong = [name for name in own.keys() & values.keys() if tuple(values[name].shape) != tuple(own[name].shape)]
    if missing or extra or wrong:
        shapes = (f"{name_of.get(n, n)} {list(values[n].shape)}, not {list(own[n].shape)}" for n in wrong)
        raise ValueError(
            f"{where} does not fit the model; nothing is loaded. "
            f"Missing: {_listed(name_of.get(n, n) for n in missing)}. "
            f"Unexpected: {_listed(name_of.get(n, n) for n in extra)}. Of another shape: {_listed(shapes)}. {remedy}"
        )
    for name, value in values.items():
        own[name].copy_(value if isinstance(value, Tensor) else torch.tensor(value))


def _listed(names: Iterable[str]) -> str:
    first = sorted(names)
    more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
    return ", ".join(first[:_NAMED]) + more if first else "none"
