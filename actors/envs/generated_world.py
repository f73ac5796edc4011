"""Worlds that Genie generates: `genie:DIR`, DIR made by `nexus world`.

A world is a checkpoint of Genie with frames to start from and, since a video has none, a reward head that was fitted on
recordings. Legend: M start frames, S pixels a side, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from actors.config import EnvironmentConfig
from actors.envs.gymnasium import GymnasiumEnvironment
from world_models.checkpoint_files import MODEL_CONFIG, read_arrays, read_document
from world_models.dataclass_json import from_json
from world_models.genie.genie import Genie, WorldState
from world_models.genie.reward import RewardHead
from world_models.loading import load_model
from world_models.model_document import read_family

PREFIX = "genie:"
WORLD, STARTS, REWARD = "world.json", "starts.safetensors", "reward.safetensors"
"""Files of a world, beside those of the checkpoint."""
_WORLDS = 4  # kept in memory


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The content of `world.json`."""

    steps: int = 32
    """Steps after which an episode is truncated."""
    discrete: bool = True
    """Whether actions are classes; real ones may be vectors."""
    ends_with_reward: bool = False
    """Whether an episode ends when there is a reward other than 0."""
    data: str = ""
    """Where the start frames come from."""
    model: str = ""
    """The checkpoint that was copied."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1.")


class World(NamedTuple):
    """What the environments of a world share."""

    config: WorldConfig
    model: Genie
    starts: Tensor
    """uint8 `[M S S C]`."""
    reward: RewardHead | None


def load_world(path: Path) -> World:
    """The world in a directory. ValueError: there is none, or its files are damaged."""
    made = (path / WORLD).stat().st_mtime_ns if (path / WORLD).exists() else 0
    return _loaded(path, made)


@lru_cache(_WORLDS)
def _loaded(path: Path, made: int) -> World:
    """A world as it was `made`; 0: there is none."""
    if not made:
        hint = " It holds a model: make a world of it" if (path / MODEL_CONFIG).exists() else " Make one"
        raise ValueError(f"There is no {WORLD} in {path}.{hint} with nexus world RUN --data DATA --out DIR.")
    if (family := read_family(path)).name != "genie":
        raise ValueError(f"{path / MODEL_CONFIG} is of a model of family {family.name!r}; a world needs a Genie.")
    try:
        config = from_json(WorldConfig, read_document(path / WORLD))
    except ValueError as error:
        raise ValueError(f"{path / WORLD}: {error}") from error
    model = load_model(path)
    assert isinstance(model, Genie), f"{path} is of its family"
    starts = torch.tensor(read_arrays(path / STARTS)["starts"])
    head = RewardHead.from_arrays(read_arrays(path / REWARD), path / REWARD) if (path / REWARD).exists() else None
    return World(config, model, starts, head)


def task_names() -> list[str]:
    """None: a task is the name of a directory."""
    return []


def make(task: str, config: EnvironmentConfig) -> GymnasiumEnvironment:
    """The environment of the world in a directory. ValueError: there is none."""
    raw = GeneratedWorld(task.removeprefix(PREFIX))
    environment = GymnasiumEnvironment(gymnasium.wrappers.TimeLimit(raw, raw.world.config.steps), task, config)
    environment.backend = "genie"
    return environment


class GeneratedWorld(gymnasium.Env):
    """An episode begins with one of the start frames and goes on frame by frame, as the model samples them.

    The observation is the newest frame, uint8 `[S S C]`; actions are the model's latent ones, or the real ones it was
    trained with. The reward is the reward head's, 0 without one. A seed determines the start and all samples.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}

    def __init__(self, path: str | Path, render_mode: str | None = "rgb_array") -> None:
        self.world = load_world(Path(path).resolve())
        model, count = self.world.model.config, self.world.model.config.actions
        self.observation_space = spaces.Box(0, 255, (model.size, model.size, model.channels), np.uint8)
        self.action_space: gymnasium.Space = (
            spaces.Discrete(count) if self.world.config.discrete else spaces.Box(-1, 1, (count,), np.float32)
        )
        self.render_mode = render_mode
        self.generator = torch.Generator()
        self.state: WorldState | None = None
        self.ended = False
        self.before = torch.empty(0)
        """The newest frame as the tokenizer gives it back, which is what the reward head knows."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.ended = False
        start = int(self.np_random.integers(len(self.world.starts)))
        self.generator.manual_seed(int(self.np_random.integers(1 << 62)))
        with _frugal():
            self.state = self.world.model.start(self.world.starts[start][None, None])
            self.before = self.world.model.decode(self.state.tokens[:, None])[:, 0]
        return self._image(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.state is not None, "an episode begins with reset"
        if self.ended:
            raise gymnasium.error.ResetNeeded("The episode has ended with its reward; call reset().")
        with _frugal():
            self.state = self.world.model.step(self.state, torch.as_tensor(np.asarray(action))[None], self.generator)
            head = self.world.reward
            reward = float(head.reward(self.before, self.state.frame)[0]) if head is not None else 0.0
            self.before = self.state.frame
        self.ended = self.world.config.ends_with_reward and reward != 0
        return self._image(), reward, self.ended, False, {"is_success": reward > 0} if head is not None else {}

    def render(self) -> np.ndarray:
        image = self._image()
        return np.broadcast_to(image, (*image.shape[:2], 3)).repeat(8, 0).repeat(8, 1)

    def _image(self) -> np.ndarray:
        assert self.state is not None, "an episode begins with reset"
        return self.state.frame[0].numpy().copy()


@contextmanager
def _frugal() -> Iterator[None]:
    """Without gradients and on one thread, in a process that may train with more."""
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)
