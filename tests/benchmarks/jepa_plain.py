"""Plain PyTorch programs of I-JEPA, V-JEPA 2 and V-JEPA 2-AC, as the papers read: what the benchmark compares with.

Convolutions embed patches, every block computes its own rotations axis by axis, every mask starts from the pixels, a
rollout runs over the whole sequence again, the encoder sees every frame twice, the average is a loop over parameters.
Legend: B batch, N tokens, D width.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotated(x: Tensor, position: Tensor) -> Tensor:
    """One axis; `x [B H N d]`, `position` broadcast to `[B H N]`."""
    d = x.shape[-1]
    angle = position[..., None] * 10000.0 ** -(torch.arange(d // 2) / (d / 2))
    cos, sin = angle.cos().repeat(1, 1, 1, 2), angle.sin().repeat(1, 1, 1, 2)
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack([-second, first], -1).flatten(-2) * sin


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, places: Sequence[Tensor] | None = None, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if places is not None:
            share = 2 * (q.shape[-1] // 3 // 2)
            cut = [share, share, share, q.shape[-1] - 3 * share]
            turned = []
            for value in (q, k):
                *axes, rest = value.split(cut, -1)
                axes = [rotated(axis, place) for axis, place in zip(axes, places, strict=True)]
                turned.append(torch.cat([*axes, rest], -1))
            q, k = turned
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = x + self.proj(y)
        return x + self.mlp(self.norm2(x))


def places_of(ids: Tensor, grid: int) -> list[Tensor]:
    ids = ids[:, None] if ids.ndim == 2 else ids[None, None]
    return [x.float() for x in (ids // grid**2, ids // grid % grid, ids % grid)]


def take(x: Tensor, ids: Tensor) -> Tensor:
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[-1]))


class Encoder(nn.Module):
    def __init__(self, grid: int, patch: int, width: int, depth: int, heads: int, video: bool):
        super().__init__()
        self.grid = grid
        if video:
            self.embed: nn.Module = nn.Conv3d(3, width, (2, patch, patch), (2, patch, patch))
        else:
            self.embed = nn.Conv2d(3, width, patch, patch)
            self.register_buffer("positions", torch.randn(1, grid * grid, width))
        self.video = video
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        if not self.video:
            x = x + self.get_buffer("positions")
        ids = torch.arange(x.shape[1])
        if kept is not None:
            x, ids = take(x, kept), kept
        for block in self.blocks:
            x = block(x, places_of(ids, self.grid) if self.video else None)
        return self.norm(x)


class Predictor(nn.Module):
    def __init__(self, grid: int, width: int, inner: int, depth: int, heads: int, video: bool):
        super().__init__()
        self.grid, self.video = grid, video
        self.enter, self.leave = nn.Linear(width, inner), nn.Linear(inner, width)
        self.token = nn.Parameter(torch.zeros(1, 1, inner))
        self.register_buffer("positions", torch.randn(1, grid * grid, inner))
        self.blocks = nn.ModuleList(Block(inner, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(inner, eps=1e-6)

    def forward(self, context: Tensor, context_ids: Tensor, target_ids: Tensor) -> Tensor:
        x, queries = self.enter(context), self.token.expand(*target_ids.shape, -1)
        ids = torch.cat([context_ids, target_ids], 1)
        x = torch.cat([x, queries], 1)
        if not self.video:
            x = x + take(self.get_buffer("positions").expand(len(x), -1, -1), ids)
        for block in self.blocks:
            x = block(x, places_of(ids, self.grid) if self.video else None)
        return self.leave(self.norm(x[:, context_ids.shape[1] :]))


class Pretraining(nn.Module):
    """I-JEPA or V-JEPA 2 with a given encoder, or with two of another library (`encode`)."""

    def __init__(self, encoder: nn.Module, predictor: Predictor, masked_after: bool):
        super().__init__()
        self.encoder, self.predictor, self.masked_after = encoder, predictor, masked_after
        self.target = copy.deepcopy(encoder).requires_grad_(False)
        self.optimizer = torch.optim.AdamW([*encoder.parameters(), *predictor.parameters()], 1e-4, weight_decay=0.04)

    def context(self, x: Tensor, ids: Tensor) -> Tensor:
        """A library without masks encodes everything and keeps some of it."""
        return take(self.encoder(x), ids) if self.masked_after else self.encoder(x, ids)

    def image_step(self, images: Tensor, context: Tensor, targets: Tensor) -> None:
        """`context [1 B K]`, `targets [M B N]`."""
        with torch.no_grad():
            whole = self.target(images)
            whole = F.layer_norm(whole, whole.shape[-1:])
            goal = torch.cat([take(whole, ids) for ids in targets])
        x = self.context(images, context[0])
        repeated = x.repeat(len(targets), 1, 1), context[0].repeat(len(targets), 1), targets.flatten(0, 1)
        self.update(F.smooth_l1_loss(self.predictor(*repeated), goal))

    def clip_step(self, clips: Tensor, masks: Sequence[tuple[Tensor, Tensor]]) -> None:
        with torch.no_grad():
            whole = self.target(clips)
            whole = F.layer_norm(whole, whole.shape[-1:])
        losses = []
        for context, target in masks:
            prediction = self.predictor(self.context(clips, context), context, target)
            losses.append((prediction - take(whole, target)).abs().mean())
        self.update(sum(losses) / len(losses))

    def update(self, loss: Tensor | float) -> None:
        self.optimizer.zero_grad()
        torch.as_tensor(loss).backward()
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
                slow.mul_(0.999).add_(fast, alpha=0.001)


class ActionConditioned(nn.Module):
    """V-JEPA 2-AC with actions and states of 7 numbers."""

    def __init__(self, encoder: Encoder, width: int, inner: int, depth: int, heads: int):
        super().__init__()
        self.encoder, self.grid = encoder.requires_grad_(False), encoder.grid
        self.enter, self.leave = nn.Linear(width, inner), nn.Linear(inner, width)
        self.action, self.state = nn.Linear(7, inner), nn.Linear(7, inner)
        self.blocks = nn.ModuleList(Block(inner, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(inner, eps=1e-6)
        trained = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, 1e-4, weight_decay=0.04)

    @torch.no_grad()
    def encode(self, clips: Tensor) -> Tensor:
        """`[B 3 T H W]` to `[B T*N D]`, each frame alone as a clip of two."""
        frames = clips.transpose(1, 2).flatten(0, 1)[:, :, None].repeat(1, 1, 2, 1, 1)
        x = self.encoder(frames)
        return F.layer_norm(x, x.shape[-1:]).unflatten(0, (len(clips), -1)).flatten(1, 2)

    def predict(self, latents: Tensor, actions: Tensor, states: Tensor) -> Tensor:
        """Each frame's successor, from the frames `[B T*N D]` up to it."""
        frames, patches = actions.shape[1], self.grid**2
        x = self.enter(latents).unflatten(1, (frames, patches))
        x = torch.cat([self.action(actions)[:, :, None], self.state(states)[:, :, None], x], 2).flatten(1, 2)
        frame = torch.arange(frames).repeat_interleave(patches + 2)
        ids = torch.cat([torch.zeros(2, dtype=torch.int64), torch.arange(patches)]).repeat(frames)
        places = [x[None, None].float() for x in (frame, ids // self.grid, ids % self.grid)]
        for block in self.blocks:
            x = block(x, places, frame[:, None] >= frame)
        x = self.leave(self.norm(x.unflatten(1, (frames, -1))[:, :, 2:].flatten(1, 2)))
        return F.layer_norm(x, x.shape[-1:])

    def step(self, clips: Tensor, actions: Tensor, states: Tensor) -> None:
        latents, patches = self.encode(clips), self.grid**2
        forced = self.predict(latents[:, :-patches], actions, states[:, :-1])
        both = torch.cat([latents[:, :patches], forced[:, :patches]], 1)
        second = self.predict(both, actions[:, :2], states[:, :2])[:, patches:]
        rollout = torch.cat([forced[:, :patches], second], 1)
        loss = (forced - latents[:, patches:]).abs().mean()
        loss = loss + (rollout - latents[:, patches : 3 * patches]).abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def energy(self, frame: Tensor, goal: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Costs of plans `[S H 7]`: for each, frame and goal are encoded and the sequence runs from its start anew at
        every step."""
        samples, horizon = actions.shape[:2]
        clips, goals = (x[None, :, None].expand(samples, -1, -1, -1, -1) for x in (frame, goal))
        states = state.expand(samples, 1, 7)
        latents = self.encode(clips)
        for step in range(1, horizon + 1):
            latents = torch.cat([self.encode(clips), latents[:, self.grid**2 :]], 1)
            following = self.predict(latents, actions[:, :step], states)[:, -(self.grid**2) :]
            latents = torch.cat([latents, following], 1)
            states = torch.cat([states, states[:, -1:] + actions[:, step - 1 : step]], 1)
        return (latents[:, -(self.grid**2) :] - self.encode(goals)).abs().mean((1, 2))
