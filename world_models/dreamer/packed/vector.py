"""A dict observation or action as one vector per row."""

import torch
from jaxtyping import Float
from torch import Tensor

from world_models.layers import concat_dict
from world_models.space import Spaces


def join(spaces: Spaces, values: dict[str, Tensor], squash: bool = False) -> Float[Tensor, "N width"]:
    """`concat_dict` with a short way for the usual case: one continuous key that is available everywhere."""
    if len(spaces) == 1:
        ((key, space),) = spaces.items()
        value = values[key]
        if not space.discrete and value.dtype == torch.float32 and bool(value.amin() > -torch.inf):
            flat = value.reshape(len(value), -1)
            return torch.abs(flat).log1p_().copysign_(flat) if squash else flat
    return concat_dict(spaces, values, squash)
