"""A tiny agent over any spaces, and a random batch for it."""

import numpy as np
import torch

from learner.batch import DeviceBatch, to_device
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import (
    DecoderConfig,
    DreamerConfig,
    EncoderConfig,
    HeadConfig,
    PolicyConfig,
    RSSMConfig,
)
from world_models.space import Space, Spaces

VECTOR = Space(dtype=np.dtype(np.float32), shape=(3,))
IMAGE = Space(dtype=np.dtype(np.uint8), shape=(12, 12, 3))
INTEGER = Space(dtype=np.dtype(np.int32), shape=(), classes=4)
SWITCH = Space(dtype=np.dtype(bool), shape=())
CONTINUOUS = Space(dtype=np.dtype(np.float32), shape=(2,), low=-1.0, high=1.0)
SCALAR = Space(dtype=np.dtype(np.float32), shape=(), low=-1.0, high=1.0)
DISCRETE = Space(dtype=np.dtype(np.int32), shape=(), classes=3)
MULTI_DISCRETE = Space(dtype=np.dtype(np.int32), shape=(2,), classes=3)

CONFIG = DreamerConfig(
    rssm=RSSMConfig(deter=8, hidden=6, stoch=3, classes=4, blocks=2, free_nats=0.01),
    encoder=EncoderConfig(depth=2, mults=(1, 2), layers=1, units=6, kernel=3),
    decoder=DecoderConfig(depth=2, mults=(1, 2), layers=1, units=6, kernel=3, blocks=2),
    reward=HeadConfig(units=6, bins=9, out_scale=0.0),
    continuation=HeadConfig(units=6),
    policy=PolicyConfig(layers=1, units=6),
    value=HeadConfig(layers=1, units=6, bins=9, out_scale=0.0),
    imagination_length=3,
)


def build(observation: Spaces, action: Spaces, config: DreamerConfig = CONFIG, seed: int = 0) -> Dreamer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dreamer(observation, action, config)


def random_values(rng: np.random.Generator, spaces: Spaces, *lead: int) -> dict[str, np.ndarray]:
    out = {}
    for key, space in spaces.items():
        shape, high = (*lead, *space.shape), space.classes or 256
        draw = rng.standard_normal(shape) if space.dtype == np.float32 else rng.integers(high, size=shape)
        out[key] = draw.astype(space.dtype)
    return out


def random_batch(agent: Dreamer, rows: int = 2, time: int = 4, seed: int = 0) -> DeviceBatch:
    rng, c = np.random.default_rng(seed), agent.config.rssm
    arrays = random_values(rng, agent.observation_space, rows, 1 + time)
    arrays |= random_values(rng, agent.action_space, rows, 1 + time)
    arrays |= {key: rng.random((rows, 1 + time)) < 0.2 for key in ("is_first", "is_last", "is_terminal")}
    arrays["reward"] = rng.standard_normal((rows, 1 + time)).astype(np.float32)
    arrays["deter"] = np.tanh(rng.standard_normal((rows, c.deter))).astype(np.float16)
    arrays["stoch"] = rng.integers(c.classes, size=(rows, c.stoch)).astype(np.int8)
    return to_device(arrays, agent.observation_space, agent.action_space, c.classes, torch.device("cpu"))
