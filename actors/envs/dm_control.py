"""The DeepMind Control Suite: `dmc_walker_walk`, vectors, pixels or both."""

import os
from typing import Any

import numpy as np

from actors.closing import close_outside
from actors.config import EnvironmentConfig
from actors.environment import Step
from actors.envs import rendering, unknown_task
from actors.faults import LARGEST, BrokenEnvironmentError, require_reward
from world_models.space import Space, Spaces

# dm_control chooses its renderer at import.
rendering.choose_backend()
# A process renders from one thread here; dm_control's own rendering threads cause errors at exit.
os.environ.setdefault("DISABLE_RENDER_THREAD_OFFLOADING", "1")
try:
    from dm_control import suite
except Exception as error:  # OpenGL loaders raise many kinds of errors
    raise rendering.no_renderer() from error

VIDEO_SIZE = (240, 320)
_SHORT = {"ball_in_cup": "cup"}  # dmc_cup_catch in the literature
_CAMERAS = {"quadruped": 2}  # the usual camera of domains where it is not 0


def _tasks() -> dict[str, tuple[str, str]]:
    return {f"dmc_{_SHORT.get(domain, domain)}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}


def task_names() -> list[str]:
    """All tasks of the suite."""
    return sorted(_tasks())


def make(task: str, config: EnvironmentConfig) -> "DmControlEnvironment":
    """The environment of one suite task. Raises ValueError if it is unknown, or if pixels cannot be rendered."""
    tasks = _tasks() | {f"dmc_{pair[0]}_{pair[1]}": pair for pair in suite.ALL_TASKS}
    if task not in tasks:
        raise unknown_task(task, list(tasks))
    domain, name = tasks[task]
    return DmControlEnvironment(domain, name, config)


class DmControlEnvironment:
    """A suite task as an Environment.

    One step is `frames_per_step` control steps: rewards are summed, and only the last one is observed. The suite's time
    limits are truncations; episodes last 1000 frames.
    """

    backend = "dm_control"

    def __init__(self, domain: str, task: str, config: EnvironmentConfig) -> None:
        self._name = f"dmc_{domain}_{task}"
        # A new environment per seed would compile the model each time; `reset` reseeds the task instead.
        self.raw = suite.load(domain, task, task_kwargs={"random": 0})
        self.frames_per_step = config.action_repeat
        self._check, self._deferred = config.check_steps, False
        self._camera = config.camera if config.camera >= 0 else _CAMERAS.get(domain, 0)
        self._size = config.image_size if config.image_size != (0, 0) else (64, 64)
        self._vectors = config.observations in ("vectors", "both")
        self._pixels = config.observations in ("pixels", "both")
        if config.fast_rendering:
            quality = self.raw.physics.model.vis.quality
            quality.offsamples = quality.shadowsize = 0
        self.observation_space: Spaces = {}
        if self._vectors:
            for key, spec in self.raw.observation_spec().items():
                self.observation_space[key] = Space(dtype=np.dtype(np.float32), shape=spec.shape or (1,))
        if self._pixels:
            self._draw(self._size)  # fails here rather than in the middle of a run
            self.observation_space["image"] = Space(dtype=np.dtype(np.uint8), shape=(*self._size, 3))
        bounds = self.raw.action_spec()
        self.action_space: Spaces = {
            "action": Space(
                dtype=np.dtype(np.float32),
                shape=bounds.shape,
                low=bounds.minimum.astype(np.float32),
                high=bounds.maximum.astype(np.float32),
            )
        }
        self._open = False
        self._steps = self._seed = 0
        self._newest: dict[str, np.ndarray] = {}

    def reset(self, seed: int) -> Step:
        self._seed, self._steps = seed, 0
        self.raw.task._random = np.random.RandomState(seed)
        time_step = self.raw.reset()
        self._open = True
        return Step(self._observe(time_step.observation), 0.0, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if not self._open:
            raise ValueError(f"{self._name}: step() without an open episode; call reset(seed) first.")
        self._steps += 1
        control = np.asarray(action["action"], np.float64)
        reward = 0.0
        for _ in range(self.frames_per_step):
            time_step = self.raw.step(control)
            reward += time_step.reward or 0.0
            if time_step.last():
                break
        if self._check and not -LARGEST <= reward <= LARGEST:
            require_reward(reward, self._where("reward"))
        last = bool(time_step.last())
        self._open = not last
        # A discount of 0 means that the task ended; at a time limit it is 1.
        return Step(self._observe(time_step.observation), float(reward), last, last and time_step.discount == 0)

    def render(self) -> np.ndarray:
        return self._draw(VIDEO_SIZE)

    def close(self) -> None:
        close_outside(self.raw.close, self._name)

    def _observe(self, vectors: dict[str, Any]) -> dict[str, np.ndarray]:
        self._newest = vectors
        out = vectors if self._deferred else self._float32() if self._vectors else {}
        if self._check and not self._deferred:
            self.check_last()
        return out | {"image": self._draw(self._size)} if self._pixels else out

    def _float32(self) -> dict[str, np.ndarray]:
        with np.errstate(over="ignore"):  # the check comes later
            return {
                key: np.array(value, np.float32).reshape(self.observation_space[key].shape)
                for key, value in self._newest.items()
            }

    def defer_checks(self) -> bool:
        """See DefersChecks."""
        self._deferred = self._check and self._vectors
        return self._deferred

    def check_last(self) -> None:
        """See DefersChecks."""
        for key, value in self._float32().items() if self._vectors else ():
            if not np.isfinite(value).all():
                raise BrokenEnvironmentError(
                    "not finite", self._where(f"observation {key!r}"), "The simulation diverged; report the seed.",
                    "non_finite",
                )  # fmt: skip

    def _draw(self, size: tuple[int, int]) -> np.ndarray:
        try:
            return self.raw.physics.render(*size, camera_id=self._camera)
        except RuntimeError as error:
            raise rendering.no_renderer() from error

    def _where(self, what: str) -> str:
        call = f"step() number {self._steps}" if self._steps else "reset()"
        return f"{self._name}, {call} of the episode with seed {self._seed}, {what}"
