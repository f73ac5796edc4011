"""Dynamics: tokens of the next frame from those of earlier frames and an action (arXiv 2402.15391, section 2.1).

MaskGIT (Chang et al. 2022, arXiv 2202.04200) over the tokens of a frame, causal over frames.

Legend: B batch, T frames, N tokens of a frame, K codes, A numbers of an action (one-hot if discrete), D width.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from world_models.genie.config import DynamicsConfig
from world_models.genie.st_transformer import Past, STTransformer, initialize, positions
from world_models.vit import INIT_STD


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a frame's tokens are sampled."""

    steps: int = 25
    """Steps of MaskGIT."""
    temperature: float = 1.0
    """Temperature of the tokens; 0 takes the likeliest ones."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.temperature >= 0:
            raise ValueError(f"steps={self.steps} must be at least 1, temperature={self.temperature} not below 0.")


class Dynamics(nn.Module):
    """ST-transformer over tokens, some of which are masked."""

    def __init__(self, config: DynamicsConfig, codes: int, grid: int, actions: int):
        super().__init__()
        self.config, self.codes, self.tokens = config, codes, grid**2
        width = config.transformer.width
        self.embed = nn.Embedding(codes + 1, width)  # the last is the mask
        self.positions = positions(self.tokens, width)
        self.action = nn.Linear(actions, width)
        self.first = nn.Parameter(torch.empty(width))  # in place of an action before the first frame
        self.transformer = STTransformer(config.transformer, grid, extra=int(config.conditioning == "prepend"))
        self.to_code = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(codes))
        initialize(self)
        nn.init.trunc_normal_(self.first, std=INIT_STD)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        nn.init.normal_(self.action.weight)  # as strong as a token, or else it is long ignored

    def losses(
        self, tokens: Int[Tensor, "B T N"], actions: Float[Tensor, "B K A"], masked: Bool[Tensor, "B T N"]
    ) -> dict[str, Tensor]:
        """`cross_entropy` of the masked tokens, `[B]`."""
        x = self.transformer(self._inputs(tokens.masked_fill(masked, self.codes), self.conditions(actions)))
        found = F.cross_entropy(self._logits(x[:, :, -self.tokens :][masked]).float(), tokens[masked], reduction="none")
        clip = torch.arange(len(tokens), device=tokens.device)[:, None, None].expand_as(tokens)[masked]
        sums = torch.zeros(len(tokens), device=tokens.device).index_add(0, clip, found)
        return {"cross_entropy": sums / masked.sum((1, 2)).clamp_min(1)}

    def forward(self, tokens: Int[Tensor, "B T N"], actions: Float[Tensor, "B T-1 A"]) -> Float[Tensor, "B T N codes"]:
        """Logits of every token of whole clips, some of which are masked."""
        x = self.transformer(self._inputs(tokens, self.conditions(actions)))
        return self._logits(x[:, :, -self.tokens :])

    def extend(
        self, tokens: Int[Tensor, "B T N"], conditions: Float[Tensor, "B T D"], past: Past | None, time: int
    ) -> tuple[Float[Tensor, "B T N K"], Past]:
        """Logits of frames that follow `time` earlier ones, and the keys and values of all."""
        x, seen = self.transformer.extend(self._inputs(tokens, conditions), past, time)
        return self._logits(x[:, :, -self.tokens :]), seen

    def conditions(self, actions: Float[Tensor, "B K A"]) -> Float[Tensor, "B K+1 D"]:
        """What stands for the actions that led to each of K + 1 frames; none led to the first."""
        return torch.cat([self.first.expand(len(actions), 1, -1), self.action(actions)], 1)

    @torch.no_grad()
    def sample(
        self,
        action: Float[Tensor, "B A"],
        past: Past,
        time: int,
        sampling: Sampling,
        generator: torch.Generator | None = None,
    ) -> tuple[Int[Tensor, "B N"], Past]:
        """Tokens of frame number `time` and the keys and values of all frames, it included.

        After step s of S, the `cos(pi s / 2 S)` least likely of the sampled tokens are masked again.
        """
        condition = self.action(action)[:, None]
        tokens = torch.full((len(action), self.tokens), self.codes, device=action.device)
        for step in range(1, sampling.steps + 1):
            logits, _ = self.extend(tokens[:, None], condition, past, time)
            log_p = logits[:, 0].float().log_softmax(-1)
            sampled = _draw(log_p, sampling.temperature, generator)
            masked = tokens == self.codes
            sure = log_p.gather(-1, sampled[..., None])[..., 0].masked_fill(~masked, math.inf)
            tokens = torch.where(masked, sampled, tokens)
            left = int(self.tokens * math.cos(math.pi * step / (2 * sampling.steps)))
            if step == sampling.steps or not left:
                break
            again = sure.topk(left, largest=False).indices
            tokens = tokens.scatter(1, again, self.codes)
        _, seen = self.extend(tokens[:, None], condition, past, time)
        return tokens, seen

    def _inputs(self, tokens: Int[Tensor, "B T N"], conditions: Float[Tensor, "B T D"]) -> Float[Tensor, "B T M D"]:
        x = self.embed(tokens) * self.embed.embedding_dim**0.5 + self.positions
        conditions = conditions[:, :, None].to(x.dtype)
        return torch.cat([conditions, x], 2) if self.config.conditioning == "prepend" else x + conditions

    def _logits(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... codes"]:
        """Tied to the embeddings: most tokens are those of the frame before, and to copy is learnt once for all codes.
        The published model has a layer of its own."""
        return F.linear(self.to_code(x), self.embed.weight[: self.codes], self.bias)


def _draw(log_p: Float[Tensor, "B N K"], temperature: float, generator: torch.Generator | None) -> Int[Tensor, "B N"]:
    """A token from each distribution: the largest of `log p / temperature` plus Gumbel noise."""
    if not temperature:
        return log_p.argmax(-1)
    noise = torch.rand(log_p.shape, generator=generator, device=log_p.device).clamp_min(1e-20).log().neg().log().neg()
    return (log_p / temperature + noise).argmax(-1)
