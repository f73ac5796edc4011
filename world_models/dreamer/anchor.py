"""A penalty for leaving an older copy of the world model: its latents keep their meaning while the model learns on.

Not part of DreamerV3. What is learned of new data moves all weights, also those that old data needs; the KL of the
current latents from those of a frozen copy, as in learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282),
holds them where the copy and the data do not disagree enough.

Legend: B batch, T time, S latents, C classes.
"""

import copy

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from world_models.distributions import categorical_kl
from world_models.dreamer.config import AnchorConfig
from world_models.dreamer.encoder import Encoder
from world_models.dreamer.rssm import RSSM, Sequence, State


class Anchor(nn.Module):
    """Encoder and RSSM as they were some updates ago. They have no gradient, and no part in acting."""

    def __init__(self, encoder: Encoder, rssm: RSSM, config: AnchorConfig):
        super().__init__()
        self.config = config
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.rssm = copy.deepcopy(rssm).requires_grad_(False)

    def due(self, updates: int) -> bool:
        """Whether the copy is to be renewed before the update after `updates`: always before the first one."""
        return updates % self.config.every == 0 if self.config.every else updates == 0

    @torch.no_grad()
    def renew(self, encoder: Encoder, rssm: RSSM) -> None:
        """Become a copy of these."""
        for own, newer in ((self.encoder, encoder), (self.rssm, rssm)):
            torch._foreach_copy_(list(own.state_dict().values()), list(newer.state_dict().values()))

    def losses(
        self,
        batch: dict[str, Tensor],
        start: State,
        action: Float[Tensor, "B T A"],
        reset: Bool[Tensor, "B T"],
        draw: Shaped[Tensor, "B T S"],
        sequence: Sequence,
        prior: Float[Tensor, "B T S C"],
    ) -> tuple[Float[Tensor, "B T"], dict[str, Float[Tensor, ""]]]:
        """`weight * (KL[old posterior || posterior] + KL[old prior || prior])` per step, in nats, summed over the
        latents; and the mean of each KL.

        The copy filters the same observations from the same state, with the same draws, as the model has done with
        result `sequence` and `prior` logits. Gradients reach the model alone.
        """
        with torch.no_grad():
            old = self.rssm.observe(start, self.encoder(batch), action, reset, draw)
            before = [self.rssm.log_probs(logits) for logits in (old.posterior_logits, self.rssm.prior(old.deter))]
        now = [self.rssm.log_probs(logits) for logits in (sequence.posterior_logits, prior)]
        posterior, predicted = (categorical_kl(a, b).sum(-1) for a, b in zip(before, now, strict=True))
        found = {"posterior_kl": posterior.detach().mean(), "prior_kl": predicted.detach().mean()}
        return self.config.weight * (posterior + predicted), found
