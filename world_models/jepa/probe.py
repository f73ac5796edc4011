"""Attentive probe: a classifier that pools the tokens of a frozen encoder by attention (V-JEPA 2, section 5).

Legend: B batch, N tokens, D width, Q queries.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from world_models.vit import INIT_STD, MLP, Block, initialize, run_blocks

PROBE_EPS = 1e-5  # the official probe keeps PyTorch's default, unlike the encoders


class CrossAttention(nn.Module):
    """Queries attend to tokens; the official one has no output projection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)

    def forward(self, queries: Float[Tensor, "B Q D"], x: Float[Tensor, "B N D"]) -> Float[Tensor, "B Q D"]:
        query = self.q(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B H Q D/H]
        key, value = self.kv(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class CrossAttentionBlock(nn.Module):
    """`q + attention(q, norm(x))`, then `q + mlp(norm(q))`."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=PROBE_EPS)
        self.xattn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=PROBE_EPS)
        self.mlp = MLP(width, round(width * mlp_ratio))

    def forward(self, queries: Float[Tensor, "B Q D"], x: Float[Tensor, "B N D"]) -> Float[Tensor, "B Q D"]:
        queries = queries + self.xattn(queries, self.norm1(x))
        return queries + self.mlp(self.norm2(queries))


class AttentivePooler(nn.Module):
    """One learnt query over tokens that pass through `depth - 1` self-attention blocks first."""

    def __init__(self, width: int, heads: int, depth: int, mlp_ratio: float):
        super().__init__()
        self.query_tokens = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=INIT_STD))
        self.cross_attention_block = CrossAttentionBlock(width, heads, mlp_ratio)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, PROBE_EPS) for _ in range(depth - 1))
        initialize(self, self.blocks)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B D"]:
        x = run_blocks(self.blocks, x)
        return self.cross_attention_block(self.query_tokens.expand(len(x), -1, -1), x)[:, 0]


class AttentiveProbe(nn.Module):
    """Class logits from the tokens of an encoder; the published probes have depth 4 and 16 heads."""

    def __init__(self, width: int, classes: int, heads: int = 16, depth: int = 4, mlp_ratio: float = 4.0):
        super().__init__()
        if depth < 1 or width % heads:
            raise ValueError(
                f"A probe needs depth={depth} of at least 1, and heads={heads} that divide the width of {width}."
            )
        self.pooler = AttentivePooler(width, heads, depth, mlp_ratio)
        self.linear = nn.Linear(width, classes)
        initialize(self.linear)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B classes"]:
        return self.linear(self.pooler(tokens))
