"""What a world generates from the first frames of clips, beside the truth.

Legend: B clips of a batch, T frames, K frames that are generated, A numbers of an action.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie


class Rollout(NamedTuple):
    """The last K frames of clips, uint8 `[B K S S C]`."""

    truth: Tensor
    generated: Tensor
    """After the frames before them, with the actions of the clip."""
    random: Tensor
    """The same with random actions, and the same draws otherwise."""
    copied: Tensor
    """The last frame before them."""


@torch.no_grad()
def roll_out(
    model: Genie,
    frames: UInt8[Tensor, "B T S S C"],
    actions: Int[Tensor, "B T-1"] | Float[Tensor, "B T-1 A"],
    steps: int,
    generator: torch.Generator,
    sampling: Sampling | None = None,
) -> Rollout:
    """Generate the last `steps` frames of clips from those before. Random latent actions are uniform; random real ones
    are those of other transitions."""
    context, truth = frames[:, :-steps], frames[:, -steps:]
    start = model.start(context, actions[:, : context.shape[1] - 1])
    asked = actions[:, -steps:]
    random = reordered(asked, generator) if asked.is_floating_point() else _uniform(asked, model, generator)

    def follow(chosen: Tensor) -> Tensor:
        state, out = start, []
        for action in chosen.unbind(1):
            state = model.step(state, action, generator, sampling)
            out.append(state.frame)
        return torch.stack(out, 1)

    draws = generator.get_state()
    generated = follow(asked)
    generator.set_state(draws)
    return Rollout(truth, generated, follow(random), context[:, -1:].expand_as(truth))


def reordered(actions: Tensor, generator: torch.Generator) -> Tensor:
    """Actions `[B K ...]` in another order, over all clips and transitions."""
    flat = actions.flatten(0, 1)
    order = torch.randperm(len(flat), generator=generator, device=generator.device).to(flat.device)
    return flat[order].view_as(actions)


def _uniform(like: Tensor, model: Genie, generator: torch.Generator) -> Int[Tensor, "B K"]:
    return torch.randint(model.config.actions, like.shape, generator=generator, device=like.device)
