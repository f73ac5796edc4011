"""One filtering step of the RSSM.

Latents are computed class by class, `[N C S]`: elementwise work then runs along the longer axis of memory.
Legend: N rows, D deter, S latents, C classes, Z = C * S, A action width, E tokens, H hidden, G blocks, P = D / G.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from world_models.dreamer.packed.dense import PackedLinear, PackedMLP, norm_silu_
from world_models.dreamer.rssm import RSSM, State
from world_models.layers import BlockLinear


class PackedBlocks:
    """A copy of a `BlockLinear`."""

    def __init__(self, linear: BlockLinear):
        own, common = linear.split()
        self.blocks, self.own = linear.blocks, own.contiguous()
        self.bias: Tensor = linear.bias
        self.common = common.contiguous() if len(common) else None

    def by_block(self, x: Float[Tensor, "N I"], shared: Float[Tensor, "N J"]) -> Float[Tensor, "G N Q"]:
        """The output with the block axis first; `shared` goes to every block, if the layer takes it."""
        blocks = x.view(len(x), self.blocks, -1).transpose(0, 1)  # [G N I/G]
        if self.common is None:
            return torch.baddbmm(self.bias.view(self.blocks, 1, -1), blocks, self.own)
        dense = torch.addmm(self.bias, shared, self.common).view(len(x), self.blocks, -1).transpose(0, 1)
        return dense.add_(torch.bmm(blocks, self.own))

    def __call__(self, x: Float[Tensor, "N I"], shared: Float[Tensor, "N J"]) -> Float[Tensor, "N O"]:
        return self.by_block(x, shared).transpose(0, 1).reshape(len(x), -1)


class PackedRSSM:
    """A copy of what an `RSSM` filters with."""

    def __init__(self, rssm: RSSM):
        c = self.config = rssm.config
        inputs = (rssm.deter_in, rssm.stoch_in, rssm.action_in)
        self.inputs = [PackedLinear(dense.linear) for dense in inputs]
        self.inputs[1].weight = by_class(self.inputs[1].weight, c.stoch)
        self.input_gain = torch.stack([dense.norm.weight for dense in inputs])  # [3 H]
        self.dynamics = [(PackedBlocks(layer.linear), layer.norm.weight) for layer in rssm.dynamics_layers()]
        self.uniform = (torch.arange(1, c.classes + 1) * (c.unimix / c.classes))[:, None]  # [C 1], cumulative
        self.uniform[-1] = torch.inf
        self.gru = PackedBlocks(rssm.gru)
        # The update gate is sigmoid(u - 1).
        self.gru.bias = (rssm.gru.bias.view(c.blocks, 3, -1) - torch.tensor([[0.0], [0.0], [1.0]])).flatten()
        self.posterior_mlp = PackedMLP(rssm.posterior_mlp)
        self.logits = PackedLinear(rssm.posterior_out)
        self.logits.weight = by_class(self.logits.weight.t(), c.stoch).t().contiguous()
        self.logits.bias = by_class(self.logits.bias[:, None], c.stoch)[:, 0]

    def observe(
        self,
        state: State,
        tokens: Float[Tensor, "N E"],
        action: Float[Tensor, "N A"],
        reset: Bool[Tensor, " N"],
        draw: Float[Tensor, "N S"],
    ) -> tuple[State, Float[Tensor, "N Z"], Int[Tensor, "N S"]]:
        """The next state, its latents by class, and their indices; see `RSSM.observe_step`."""
        deter, stoch = state.deter, state.stoch.transpose(1, 2).reshape(len(reset), -1)
        if reset.any():
            keep = (~reset).float()[:, None]
            deter, stoch, action = deter * keep, stoch * keep, action * keep
        deter = self._core(deter, stoch, action)
        logits = self.logits(self.posterior_mlp(torch.cat([deter, tokens], -1)))
        stoch, index = self._sample(logits, draw)
        return State(deter, stoch.transpose(1, 2)), stoch.flatten(1), index

    def _core(
        self, deter: Float[Tensor, "N D"], stoch: Float[Tensor, "N Z"], action: Float[Tensor, "N A"]
    ) -> Float[Tensor, "N D"]:
        rows, blocks = len(deter), self.config.blocks
        action = action.clamp(-1, 1)  # a / max(1, |a|)
        shared = deter.new_empty(rows, *self.input_gain.shape)  # [N 3 H]
        for i, (linear, x) in enumerate(zip(self.inputs, (deter, stoch, action), strict=True)):
            torch.addmm(linear.bias, x, linear.weight, out=shared[:, i])
        shared = norm_silu_(shared, self.input_gain).view(rows, -1)
        x = deter
        for layer, gain in self.dynamics:
            x = norm_silu_(layer(x, shared), gain)
        gates = self.gru.by_block(x, shared).view(blocks, rows, 3, -1).transpose(0, 1)  # [N G 3 P]
        reset, candidate, update = gates.unbind(2)
        new = torch.sigmoid(reset).mul_(candidate).tanh_()
        return torch.lerp(deter.view(rows, blocks, -1), new, torch.sigmoid(update)).view(rows, -1)

    def _sample(
        self, logits: Float[Tensor, "N Z"], draw: Float[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "N C S"], Int[Tensor, "N S"]]:
        """One-hot latents and their indices by inverting the cumulative distribution at a uniform draw.

        `pick_class` normalises once more; the class differs only where the draw is within 1e-6 of its bound.
        """
        rows, (classes, stoch) = len(draw), (self.config.classes, self.config.stoch)
        cumulative = torch.softmax(logits.view(rows, classes, stoch), 1).cumsum_(1)
        cumulative = torch.add(self.uniform, cumulative, alpha=1 - self.config.unimix)
        # After a row of ones: 1 for every class before the one drawn, 0 from there on. The last is never before.
        before = torch.ones(rows, classes + 1, stoch)
        rest = before[:, 1:]
        torch.le(cumulative, draw.unsqueeze(1), out=rest)
        return before[:, :-1] - rest, rest.sum(1).to(torch.int8)


def by_class(weight: Tensor, stoch: int) -> Tensor:
    """Rows `[S * C ...]` in the order `[C * S ...]`."""
    return weight.unflatten(0, (stoch, -1)).transpose(0, 1).flatten(0, 1)
