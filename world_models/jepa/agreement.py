"""Agreement of two views of an image or clip: a contrastive loss that I-JEPA and V-JEPA 2 do not have, and the shifts
that make views.

Legend: B batch, V views, O others, T frames, S pixels a side, C channels, D width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

VIEWS = 2
AGREEMENT = "agreement"
"""Name of the loss."""
_SMALLEST = 1e-4


def draw_shifts(batch_size: int, most: int, generator: torch.Generator) -> Int[Tensor, "V B 2"]:
    """How far each view of each image or clip moves down and to the right, in pixels: -most to most, equally likely."""
    return torch.randint(-most, most + 1, (VIEWS, batch_size, 2), generator=generator)


def shifted(frames: Shaped[Tensor, "B T S S C"], shifts: Int[Tensor, "V B 2"]) -> Shaped[Tensor, "VB T S S C"]:
    """View by view, the frames moved by `shifts`; what comes in from outside is 0, black before normalisation."""
    rows, columns = (torch.arange(size, device=frames.device) for size in frames.shape[2:4])
    down, right = shifts.flatten(0, 1).unbind(-1)  # [VB]
    y, x = rows - down[:, None], columns - right[:, None]  # [VB S]: the places that the pixels come from
    inside = ((y >= 0) & (y < len(rows)))[:, :, None] & ((x >= 0) & (x < len(columns)))[:, None]  # [VB S S]
    image = torch.arange(len(frames), device=frames.device).repeat(len(shifts))[:, None, None]
    moved = frames.movedim(1, 3)[image, y.clamp(0, len(rows) - 1)[:, :, None], x.clamp(0, len(columns) - 1)[:, None]]
    return (moved * inside[..., None, None]).movedim(3, 1)


def agreement(
    means: Float[Tensor, "V B D"], temperature: float, others: Float[Tensor, "O D"] | None = None
) -> Float[Tensor, " B"]:
    """NT-Xent of SimCLR (Chen et al. 2020, arXiv 2002.05709, eq. 1), the mean over an image's two views: by the cosine
    of their features, each view is to tell the other one of its image from all views of the batch, and from `others`.

    In place of a projection, features are standardised over the batch: what all images share, such as places, says
    nothing. Between processes nothing is shared: each compares its own images.
    """
    x = means.float().flatten(0, 1)
    views = len(x)
    x = x if others is None else torch.cat([x, others.float()])
    x = (x - x.mean(0)) / (x.var(0, correction=0) + _SMALLEST**2).sqrt()
    x = F.normalize(x, dim=-1)
    with torch.autocast(x.device.type, enabled=False):  # under which products are of bfloat16
        likeness = x[:views] @ x.T / temperature  # [VB VB+O]
    itself = torch.eye(views, len(x), dtype=torch.bool, device=x.device)
    other = torch.arange(views, device=x.device).roll(means.shape[1])
    loss = F.cross_entropy(likeness.masked_fill(itself, -torch.inf), other, reduction="none")
    return loss.unflatten(0, (VIEWS, -1)).mean(0)
