"""Real actions for latent ones, from a few labelled transitions (arXiv 2402.15391, section 3.3).

Legend: N transitions, K latent actions, A real ones.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class ActionAdapter:
    """How often each latent action was seen beside each real one.

    The paper draws from the real actions seen beside a latent one; here the most frequent one is taken, since the rarer
    ones are mistakes of the latent action model.
    """

    def __init__(self, counts: Float[Tensor, "K A"]):
        self.counts = counts

    @classmethod
    def fit(cls, latent: Int[Tensor, " N"], real: Int[Tensor, " N"], latents: int, reals: int) -> "ActionAdapter":
        """From labelled transitions. ValueError: there are none."""
        if not len(latent):
            raise ValueError("Real actions can be found only from labelled transitions, and there are none.")
        pairs = torch.bincount(latent * reals + real, minlength=latents * reals)
        return cls(pairs.view(latents, reals).float())

    @property
    def table(self) -> Int[Tensor, " K"]:
        """The real action of each latent one; of those never seen, the most frequent of all."""
        whole = self.counts.sum(0, keepdim=True)
        return torch.where(self.counts.any(1), self.counts.argmax(1), whole.argmax(1))

    def __call__(self, latent: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Real actions."""
        return self.table[latent]
