"""One environment of envpool as an Environment."""

import numpy as np

from actors.environment import Step
from actors.envs import gymnasium_spaces
from actors.envs.envpool.simulation import Simulation
from actors.episode_metrics import as_number
from actors.faults import BrokenEnvironmentError, require_reward
from actors.pool import PoolStep


class EnvpoolEnvironment:
    """A simulation of one, with the raw bounds of its actions (see NormalizeActions).

    envpool takes a seed only when it makes an environment, so every `reset` makes another: slow for a model that is
    compiled first (a tenth of a second for most of MuJoCo's), but a seed determines the episode.
    """

    backend = "envpool"

    def __init__(self, simulation: Simulation, task: str, check: bool) -> None:
        self._simulation, self._task = simulation, task
        self._check, self._deferred = check, False
        self.observation_space, self.action_space = simulation.observation_space, simulation.action_space
        self.frames_per_step = simulation.frames_per_step
        self._decode = gymnasium_spaces.decoder(simulation.native_actions, simulation.actions)
        self._open = False
        self._seed = self._steps = 0
        self._newest: dict[str, np.ndarray] = {}

    def reset(self, seed: int) -> Step:
        self._seed, self._steps = seed, 0
        answer = self._simulation.begin([seed])
        self._open = True
        return self._one(answer)._replace(reward=0.0)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if not self._open:
            raise ValueError(f"{self._task}: step() without an open episode; call reset(seed) first.")
        self._steps += 1
        actions = np.asarray(self._decode(action), self._simulation.action_dtype)[None]
        step = self._one(self._simulation.step(actions, np.zeros(1, bool)))
        self._open = not step.is_last
        return step

    def render(self) -> np.ndarray:
        return self._simulation.render(0)

    def close(self) -> None:
        self._simulation.close()

    def defer_checks(self) -> bool:
        """See DefersChecks."""
        self._deferred = self._check
        return self._deferred

    def check_last(self) -> None:
        """See DefersChecks."""
        for key, value in self._newest.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise BrokenEnvironmentError(
                    "not finite", f"{self._where()}, observation {key!r}", "The simulation diverged; report the seed.",
                    "non_finite",
                )  # fmt: skip

    def _one(self, answer: PoolStep) -> Step:
        self._newest = {key: value[0] for key, value in answer.observation.items()}
        reward = float(answer.reward[0])
        if self._check:
            require_reward(reward, f"{self._where()}, reward")
            if not self._deferred:
                self.check_last()
        info = {name: as_number(values[0]) for name, values in answer.infos.items()}
        last, terminal = bool(answer.is_last[0]), bool(answer.is_terminal[0])
        return Step(self._newest, reward, last, terminal, [info] if info else ())

    def _where(self) -> str:
        call = f"step() number {self._steps}" if self._steps else "reset()"
        return f"{self._task}, {call} of the episode with seed {self._seed}"
