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
from world_models.genie.st_transformer import Past, STTransformer, initialize, positions, with_room
from world_models.vit import INIT_STD

COPY = 10.0
"""Logit with which a fresh model predicts that a token stays as it was."""


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
        self.embed = nn.Embedding(codes + 1, width)  # the last stands for a masked token, and for none
        self.before = nn.Linear(width, width, bias=False)
        self.positions = positions(self.tokens, width)
        self.action = None if config.conditioning == "none" else nn.Linear(actions, width)
        self.first = nn.Parameter(torch.empty(width))  # in place of an action before the first frame
        self.transformer = STTransformer(config.transformer, grid, extra=int(config.conditioning == "prepend"))
        self.to_embedding = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(codes))
        self.stay = nn.Linear(width, 1)
        initialize(self)
        for layer in (self.to_embedding, self.stay):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.stay.bias, COPY)
        nn.init.trunc_normal_(self.first, std=INIT_STD)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        if self.action is not None:
            nn.init.normal_(self.action.weight)  # as strong as a token, or else it is long ignored

    def losses(
        self, tokens: Int[Tensor, "B T N"], actions: Float[Tensor, "B K A"], masked: Bool[Tensor, "B T N"]
    ) -> dict[str, Tensor]:
        """`cross_entropy` of the masked tokens, `[B]`."""
        x, earlier = self._clip(tokens, actions, masked)
        found = F.cross_entropy(self._logits(x[masked], earlier[masked]).float(), tokens[masked], reduction="none")
        clip = torch.arange(len(tokens), device=tokens.device)[:, None, None].expand_as(tokens)[masked]
        sums = torch.zeros(len(tokens), device=tokens.device).index_add(0, clip, found)
        return {"cross_entropy": sums / masked.sum((1, 2)).clamp_min(1)}

    def forward(
        self, tokens: Int[Tensor, "B T N"], actions: Float[Tensor, "B K A"], masked: Bool[Tensor, "B T N"]
    ) -> Float[Tensor, "B T N codes"]:
        """Logits of every token of whole clips, some of which are masked."""
        return self._logits(*self._clip(tokens, actions, masked))

    def extend(
        self,
        tokens: Int[Tensor, "B T N"],
        before: Int[Tensor, "B N"] | None,
        conditions: Float[Tensor, "B T D"],
        past: Past | None,
        time: int,
        fill: bool = False,
    ) -> tuple[Float[Tensor, "B T N codes"], Past]:
        """Logits of frames that follow `time` earlier ones, the last of which has the tokens `before`, and the keys and
        values of all. `fill`: the past has room for them."""
        earlier = self._earlier(tokens, before)
        x, seen = self.transformer.extend(self._inputs(tokens, earlier, conditions), past, time, fill)
        return self._logits(x[:, :, -self.tokens :], earlier), seen

    def conditions(self, actions: Float[Tensor, "B K A"]) -> Float[Tensor, "B K+1 D"]:
        """What stands for the actions that led to each of K + 1 frames; none led to the first."""
        return torch.cat([self.first.expand(len(actions), 1, -1), self._acted(actions)], 1)

    @torch.no_grad()
    def sample(
        self,
        before: Int[Tensor, "B N"],
        action: Float[Tensor, "B A"],
        past: Past,
        time: int,
        sampling: Sampling,
        generator: torch.Generator | None = None,
    ) -> tuple[Int[Tensor, "B N"], Past]:
        """Tokens of frame number `time`, which follows the tokens `before`, and the keys and values of all frames, it
        included.

        After step s of S, the `cos(pi s / 2 S)` least likely of the sampled tokens are masked again.
        """
        condition, room = self._acted(action[:, None]), with_room(past)
        tokens = torch.full((len(action), self.tokens), self.codes, device=action.device)
        for step in range(1, sampling.steps + 1):
            logits, _ = self.extend(tokens[:, None], before, condition, room, time, fill=True)
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
        _, seen = self.extend(tokens[:, None], before, condition, room, time, fill=True)
        return tokens, seen

    def _acted(self, actions: Float[Tensor, "B K A"]) -> Float[Tensor, "B K D"]:
        return self.first.expand(*actions.shape[:2], -1) if self.action is None else self.action(actions)

    def _clip(
        self, tokens: Int[Tensor, "B T N"], actions: Float[Tensor, "B K A"], masked: Bool[Tensor, "B T N"]
    ) -> tuple[Float[Tensor, "B T N D"], Int[Tensor, "B T N"]]:
        """The transformer's output for whole clips, and the tokens of the frame before each."""
        earlier, conditions = self._earlier(tokens, None), self.conditions(actions)
        x = self.transformer(self._inputs(tokens.masked_fill(masked, self.codes), earlier, conditions))
        return x[:, :, -self.tokens :], earlier

    def _earlier(self, tokens: Int[Tensor, "B T N"], before: Int[Tensor, "B N"] | None) -> Int[Tensor, "B T N"]:
        """The tokens of the frame before each of T frames."""
        if before is None:
            before = torch.full_like(tokens[:, 0], self.codes)
        return torch.cat([before[:, None], tokens[:, :-1]], 1)

    def _inputs(
        self, tokens: Int[Tensor, "B T N"], earlier: Int[Tensor, "B T N"], conditions: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B T M D"]:
        """What the transformer sees of frames. Each token comes with the one before it, whole as it is when a frame is
        sampled; in the paper, attention over time has to find it, and in training it is often masked."""
        x = self.embed.embedding_dim**0.5 * (self.embed(tokens) + self.before(self.embed(earlier))) + self.positions
        conditions = conditions[:, :, None].to(x.dtype)
        return torch.cat([conditions, x], 2) if self.config.conditioning == "prepend" else x + conditions

    def _logits(self, x: Float[Tensor, "... D"], earlier: Int[Tensor, "..."]) -> Float[Tensor, "... codes"]:
        """A fresh model copies the last frame, and what is learnt is what changes. The published model learns to copy
        as well; both then predict the same. Weights are tied to the embeddings."""
        logits = F.linear(self.to_embedding(x), self.embed.weight[: self.codes], self.bias)
        known = (earlier < self.codes)[..., None]
        stay = (self.stay(x) * known).to(logits.dtype)
        return logits.scatter_add(-1, earlier.clamp_max(self.codes - 1)[..., None], stay)


def _draw(log_p: Float[Tensor, "B N K"], temperature: float, generator: torch.Generator | None) -> Int[Tensor, "B N"]:
    """A token from each distribution, by its cumulative sums: one random number a token, not one a code."""
    if not temperature:
        return log_p.argmax(-1)
    sums = ((log_p - log_p.amax(-1, keepdim=True)) / temperature).softmax(-1).cumsum(-1)
    drawn = torch.rand(*log_p.shape[:-1], 1, generator=generator, device=log_p.device) * sums[..., -1:]
    return torch.searchsorted(sums, drawn, right=True)[..., 0].clamp_max(log_p.shape[-1] - 1)
