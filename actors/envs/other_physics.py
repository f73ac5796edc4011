"""CartPole and Pendulum with another pole, to try what a model of the usual ones is worth there.

The tasks `gym:actors.envs.other_physics:LongPole-v0`, a pole three times as long and as heavy, and
`gym:actors.envs.other_physics:HeavyPendulum-v0`, a pendulum of half as much mass again. Observations, actions, rewards
and time limits are those of Gymnasium's CartPole-v1 and Pendulum-v1.
"""

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv


class CartPole(CartPoleEnv):
    """CartPole with a pole of this half length in metres and this mass in kilograms; usually 0.5 and 0.1."""

    def __init__(self, length: float = 0.5, mass: float = 0.1, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.length, self.masspole = length, mass
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length


class Pendulum(PendulumEnv):
    """Pendulum with this length in metres and this mass in kilograms; usually 1 and 1."""

    def __init__(self, length: float = 1.0, mass: float = 1.0, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.l, self.m = length, mass


gymnasium.register(
    "LongPole-v0", "actors.envs.other_physics:CartPole", max_episode_steps=500, kwargs={"length": 1.5, "mass": 0.3}
)
gymnasium.register(
    "HeavyPendulum-v0", "actors.envs.other_physics:Pendulum", max_episode_steps=200, kwargs={"mass": 1.5}
)
