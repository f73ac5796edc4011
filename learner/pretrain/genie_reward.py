"""Fits a reward head for a world of Genie's to recordings with rewards.

Legend: N transitions, B of them in a batch, S pixels a side, C channels.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learner.adamw import AdamW
from learner.datasets.batches import Batches
from learner.datasets.dataset import Dataset
from learner.schedules import Schedule
from world_models.frames import with_channels
from world_models.genie.genie import Genie
from world_models.genie.reward import RewardHead

_AT_ONCE = 64


class Transitions(NamedTuple):
    """Frames uint8 `[N 2 S S C]`, as the tokenizer gives them back, and the rewards between them, float32 `[N]`."""

    frames: Tensor
    rewards: Tensor


@torch.no_grad()
def transitions(genie: Genie, dataset: Dataset, count: int, seed: int) -> Transitions:
    """`count` transitions of clips of two frames. ValueError: they have no rewards."""
    batches = Batches(dataset, size=_AT_ONCE, seed=seed, threads=0)
    frames, rewards = [], []
    for number in range(-(-count // _AT_ONCE)):
        batch = batches.batch(number)
        if "rewards" not in batch:
            raise ValueError(f"{dataset.describe()} has no rewards; name recordings that have them.")
        pixels = with_channels(torch.as_tensor(batch["frames"]), genie.config.channels, "model.channels")
        frames.append(genie.decode(genie.encode(pixels)))
        rewards.append(torch.as_tensor(batch["rewards"], dtype=torch.float32)[:, 0])
    return Transitions(torch.cat(frames)[:count], torch.cat(rewards)[:count])


def fit_reward(data: Transitions, updates: int, seed: int, batch_size: int = 64) -> RewardHead:
    """A reward head. ValueError: all rewards are the same.

    Half of a batch is drawn uniformly, half so that every reward is equally frequent: most frames have none.
    """
    count = len(data.rewards)
    if len(data.rewards.unique()) < 2:
        raise ValueError(
            f"Of {count:,} transitions all have the reward {float(data.rewards[0]):g}, so there is nothing to learn; "
            "name recordings of an agent that is rewarded at times."
        )
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    head = RewardHead.for_rewards(data.rewards.numpy(), data.frames.shape[-1])
    classes = (data.rewards[:, None] - head.values).abs().argmin(-1).numpy()
    share = 1 / np.bincount(classes)[classes]
    share = 0.5 * share / share.sum() + 0.5 / count
    schedule = Schedule(kind="cosine", start=1e-4, top=1e-3, end=1e-5, warmup=updates // 20)
    optimizer = AdamW(head.named_parameters())
    for update in range(1, updates + 1):
        rows = rng.choice(count, batch_size, p=share)
        frames = data.frames[rows]
        loss = head.losses(frames[:, 0], frames[:, 1], data.rewards[rows])["cross_entropy"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(schedule.at(update, updates), 1e-4)
    return head.eval()


def measure_reward(head: RewardHead, data: Transitions) -> dict[str, float]:
    """`accuracy`, and of transitions with another reward than the commonest the `recall` and `precision`."""
    found = torch.cat([head.reward(*frames.unbind(1)) for frames in data.frames.split(_AT_ONCE)])
    true = head.values[(data.rewards[:, None] - head.values).abs().argmin(-1)]
    common = true.mode().values
    right, rare, said = found == true, true != common, found != common
    out = {"accuracy": right.float().mean().item()}
    if rare.any():
        out["recall"] = (right & rare).sum().item() / int(rare.sum())
    if said.any():
        out["precision"] = (right & said).sum().item() / int(said.sum())
    return out
