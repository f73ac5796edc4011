"""Plain PyTorch programs of Genie's three models, as the paper reads: what the benchmark compares with.

`nn.MultiheadAttention` in space and in time under a mask, learnt positions of places and frames, a codebook of
parameters with both losses of VQ, `torch.optim.AdamW`. Sizes are those of the configurations.
Legend: B batch, T frames, N tokens of a frame, D width, P pixels of a patch.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.genie.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    TokenizerConfig,
    TransformerConfig,
)


def pictures_to_patches(frames: Tensor, patch: int) -> Tensor:
    """uint8 `[B T S S C]` to `[B T N P]`."""
    b, t, size, _, channels = frames.shape
    grid = size // patch
    x = (frames.float() / 255).reshape(b, t, grid, patch, grid, patch, channels)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, grid * grid, patch * patch * channels)


class Block(nn.Module):
    def __init__(self, c: TransformerConfig):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c.width) for _ in range(3))
        self.space, self.time = (nn.MultiheadAttention(c.width, c.heads, batch_first=True) for _ in range(2))
        hidden = round(c.width * c.mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(c.width, hidden), nn.GELU(), nn.Linear(hidden, c.width))

    def forward(self, x: Tensor) -> Tensor:
        b, t, n, d = x.shape
        y = self.norms[0](x).reshape(b * t, n, d)
        x = x + self.space(y, y, y, need_weights=False)[0].reshape(b, t, n, d)
        y = self.norms[1](x).transpose(1, 2).reshape(b * n, t, d)
        causal = nn.Transformer.generate_square_subsequent_mask(t)
        y = self.time(y, y, y, attn_mask=causal, is_causal=True, need_weights=False)[0]
        x = x + y.reshape(b, n, t, d).transpose(1, 2)
        return x + self.mlp(self.norms[2](x))


class Stack(nn.Module):
    """Blocks with learnt positions of `tokens` places and `frames` frames."""

    def __init__(self, c: TransformerConfig, inputs: int, outputs: int, tokens: int, frames: int):
        super().__init__()
        self.enter: nn.Module = nn.Linear(inputs, c.width)
        self.leave, self.norm = nn.Linear(c.width, outputs), nn.LayerNorm(c.width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, c.width))
        self.moments = nn.Parameter(0.02 * torch.randn(frames, 1, c.width))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        """`first`: a token in front of those of each frame, `[B T D]`."""
        x = self.enter(x) + self.places
        if first is not None:
            x = torch.cat([first[:, :, None], x], 2)
        x = x + self.moments[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.leave(self.norm(x))


class Codebook(nn.Module):
    def __init__(self, c: QuantizerConfig):
        super().__init__()
        self.beta, self.codes = c.beta, nn.Parameter(F.normalize(torch.randn(c.codes, c.width), dim=-1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, codes = F.normalize(x, dim=-1), F.normalize(self.codes, dim=-1)
        ids = torch.cdist(z.reshape(-1, z.shape[-1]), codes).argmin(-1).reshape(z.shape[:-1])
        chosen = codes[ids]
        loss = (z.detach() - chosen).square().mean() + self.beta * (z - chosen.detach()).square().mean()
        return z + (chosen - z).detach(), ids, loss


class Tokenizer(nn.Module):
    def __init__(self, c: TokenizerConfig):
        super().__init__()
        self.patch, tokens, pixels = c.patch, c.grid**2, c.patch**2 * c.channels
        self.encoder = Stack(c.encoder, pixels, c.quantizer.width, tokens, c.frames)
        self.codebook = Codebook(c.quantizer)
        self.decoder = Stack(c.decoder, c.quantizer.width, pixels, tokens, c.frames)

    def loss(self, frames: Tensor) -> Tensor:
        x = pictures_to_patches(frames, self.patch)
        values, _, loss = self.codebook(self.encoder(x))
        return (self.decoder(values) - x).square().mean() + loss

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        return self.codebook(self.encoder(pictures_to_patches(frames, self.patch)))[1]


class Neighbours(nn.Module):
    """A linear layer, and a convolution over the grid of its outputs."""

    def __init__(self, inputs: int, width: int, grid: int):
        super().__init__()
        self.grid, self.linear, self.near = grid, nn.Linear(inputs, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        b, t, n, d = x.shape
        near = self.near(x.transpose(2, 3).reshape(b * t, d, self.grid, self.grid))
        return x + near.reshape(b, t, d, n).transpose(2, 3)


class LatentActions(nn.Module):
    """Every action is tried on every pair of frames; one that does well is learnt, and the encoder learns which."""

    def __init__(self, c: LatentActionConfig):
        super().__init__()
        self.config, tokens, pixels = c, c.grid**2, c.patch**2 * c.channels
        self.encoder = Stack(c.encoder, 2 * pixels, c.actions, tokens, c.frames)
        self.encoder.enter = Neighbours(2 * pixels, c.encoder.width, c.grid)
        self.actions = nn.Embedding(c.actions, pixels)
        self.decoder = Stack(c.decoder, pixels, pixels, tokens, c.frames)

    def scores(self, x: Tensor) -> Tensor:
        return self.encoder(torch.cat([x[:, :-1], x[:, 1:]], -1)).mean(2)

    def errors(self, x: Tensor, actions: Tensor) -> Tensor:
        predicted = self.decoder(x[:, :-1] + self.actions(actions)[:, :, None])
        return (predicted - x[:, 1:]).square().mean((2, 3))

    def loss(self, frames: Tensor, noise: Tensor) -> Tensor:
        x, count = pictures_to_patches(frames, self.config.patch), self.config.actions
        with torch.no_grad():
            tried = [self.errors(x, torch.full(noise.shape, action)) for action in range(count)]
            error = torch.stack(tried, -1)
            posterior = (-error / (self.config.temperature * error.amin(-1).mean())).softmax(-1)
        actions = (posterior.cumsum(-1) < noise[..., None]).sum(-1).clamp_max(count - 1)
        told = -(posterior * self.scores(x).log_softmax(-1)).sum(-1)
        return self.errors(x, actions).mean() + told.mean()

    @torch.no_grad()
    def infer(self, frames: Tensor) -> Tensor:
        return self.scores(pictures_to_patches(frames, self.config.patch)).argmax(-1)


class Dynamics(nn.Module):
    """With the tokenizer and the latent action model, whose codes it predicts and takes."""

    def __init__(self, c: DynamicsConfig, tokenizer: Tokenizer, actions: LatentActions):
        super().__init__()
        self.tokenizer, self.latent, width = tokenizer, actions, c.transformer.width
        codes, (places, frames) = len(tokenizer.codebook.codes), (tokenizer.encoder.places, tokenizer.encoder.moments)
        self.embed = nn.Embedding(codes + 1, width)
        self.action = nn.Embedding(actions.config.actions + 1, width)
        self.stack = Stack(c.transformer, width, width, len(places), len(frames))
        self.stack.enter = nn.Identity()
        self.before, self.stay = nn.Linear(width, width, bias=False), nn.Linear(width, 1)
        self.bias = nn.Parameter(torch.zeros(codes))

    def logits(self, tokens: Tensor, earlier: Tensor, actions: Tensor) -> Tensor:
        """`earlier [B T N]`: the tokens of the frame before; `actions [B T-1]`. Before the first frame is neither."""
        actions = F.pad(actions + 1, (1, 0))
        x = self.stack(self.embed(tokens) + self.before(self.embed(earlier)), self.action(actions))[:, :, 1:]
        copied = F.one_hot(earlier, self.embed.num_embeddings)[..., :-1] * self.stay(x)
        return F.linear(x, self.embed.weight[:-1], self.bias) + copied

    def loss(self, frames: Tensor, masked: Tensor) -> Tensor:
        tokens, actions = self.tokenizer.encode(frames), self.latent.infer(frames)
        none = self.embed.num_embeddings - 1
        earlier = torch.cat([torch.full_like(tokens[:, :1], none), tokens[:, :-1]], 1)
        logits = self.logits(tokens.masked_fill(masked, none), earlier, actions)
        return F.cross_entropy(logits[masked], tokens[masked])

    def trained(self) -> list[nn.Parameter]:
        parts = (self.embed, self.action, self.stack, self.before, self.stay)
        return [*(p for part in parts for p in part.parameters()), self.bias]


def step(loss: Callable[..., Tensor], parameters: list[nn.Parameter], *inputs: Tensor) -> Callable[[], None]:
    """One update."""
    optimizer = torch.optim.AdamW(parameters, 1e-4, weight_decay=1e-4)

    def update(compute: Callable[[], Tensor]) -> None:
        optimizer.zero_grad()
        compute().backward()
        optimizer.step()

    return partial(update, partial(loss, *inputs))
