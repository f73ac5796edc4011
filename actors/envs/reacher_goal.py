"""Reacher with a goal: the arm of dm_control's reacher is to take a posture that is given as a picture, in 40 steps.

A Gymnasium environment, the task `gym:actors.envs.reacher_goal:ReacherGoal-v0` (of `ReacherGoalPicture-v0` only `image`
is seen; `ReacherGoalPlaces-v0` draws nothing). The scene, the camera and the physics are the suite's (Tassa et al.
2018, arXiv 1801.00690), but the target is hidden. Legend: N arms, S pixels a side.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs import rendering
from actors.envs.dm_control import VIDEO_SIZE, suite

STEPS, HELD, RADIUS, APART = 40, 5, 0.04, 0.1
"""Steps of an episode; physics steps, of 0.02 s, that an action is held for; metres of elbow and fingertip from the
goal's that count as reached; the least metres between the fingertips of start and goal."""
UPPER, LOWER = 0.12, 0.12
"""Metres from the shoulder to the elbow, and from there to the fingertip."""
WRIST = np.deg2rad(160)
"""Largest angle of the second joint; the first turns freely."""
SIZE = 64
SAMPLES = 4
"""Of a pixel: without them the arm, which is two pixels wide, moves by whole pixels."""
_REACH = UPPER + LOWER + 0.01  # a step of the simulation stretches the arm by rounding


class ReacherGoal(gymnasium.Env):
    """`image` and `goal` uint8 `[S S 3]` show the arm's posture and the one it is to take. `position` and `target`
    float32 `[4]` say it: right and up of the elbow, then of the fingertip, in metres from the shoulder. The action, -1
    to 1, is the torque of shoulder and wrist for 0.1 s; the reward is minus the distance of the fingertip to the goal's
    after it. An episode takes 40 steps from rest; `is_success` in `info`: elbow and fingertip were both within 0.04 m
    of the goal's after any of them. Without `pictures` there is neither of them. CannotDrawError if MuJoCo cannot
    render."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, size: int = SIZE, render_mode: str | None = "rgb_array", pictures: bool = True) -> None:
        picture = spaces.Box(0, 255, (size, size, 3), np.uint8)
        place = spaces.Box(-_REACH, _REACH, (4,), np.float32)
        seen = {"image": picture, "goal": picture} if pictures else {}
        self.observation_space = spaces.Dict({**seen, "position": place, "target": place})
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.size, self.render_mode, self.pictures = size, render_mode, pictures
        self._physics = suite.load("reacher", "easy", task_kwargs={"random": 0}).physics
        quality = self._physics.model.vis.quality
        quality.offsamples, quality.shadowsize = SAMPLES, 0  # shadows take most of the time
        self._physics.named.model.geom_rgba["target", 3] = 0
        self._goal, self._target = picture.low, np.zeros(4, np.float32)
        self._reached = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        super().reset(seed=seed)
        start, goal = (angles[0] for angles in starts_and_goals(1, self.np_random))
        self._pose(goal)
        self._target, self._reached = self._position(), False
        if self.pictures:
            self._goal = self._draw(self.size, self.size)
        self._pose(start)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._physics.set_control(np.clip(np.asarray(action, np.float64), -1, 1))
        self._physics.step(HELD)
        elbow, finger = np.linalg.norm((self._position() - self._target).reshape(2, 2), axis=1)
        self._reached |= bool(max(elbow, finger) <= RADIUS)
        return self._observation(), -float(finger), False, False, {"is_success": self._reached}

    def render(self) -> np.ndarray:
        return self._draw(*VIDEO_SIZE)

    def close(self) -> None:
        self._physics.free()

    def _pose(self, angles: np.ndarray) -> None:
        """At rest."""
        with self._physics.reset_context():
            self._physics.data.qpos[:] = angles

    def _position(self) -> np.ndarray:
        geometry = self._physics.named.data
        return np.concatenate([geometry.xpos["hand", :2], geometry.xpos["finger", :2]]).astype(np.float32)

    def _observation(self) -> dict[str, np.ndarray]:
        places = {"position": self._position(), "target": self._target.copy()}
        if not self.pictures:
            return places
        return {"image": self._draw(self.size, self.size), "goal": self._goal.copy(), **places}

    def _draw(self, height: int, width: int) -> np.ndarray:
        try:
            return self._physics.render(height, width, camera_id="fixed")
        except RuntimeError as error:
            raise rendering.no_renderer() from error


def starts_and_goals(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Angles of shoulder and wrist float64 `[N 2]` each, uniform among pairs of which the fingertips are far enough
    apart."""
    pairs = np.empty((0, 2, 2))
    while len(pairs) < n:
        some = rng.uniform(-1, 1, (2 * n, 2, 2)) * (np.pi, WRIST)
        fingers = places(some)[..., 2:]
        pairs = np.concatenate([pairs, some[np.linalg.norm(fingers[:, 0] - fingers[:, 1], axis=-1) >= APART]])
    return pairs[:n, 0], pairs[:n, 1]


def places(angles: np.ndarray) -> np.ndarray:
    """Elbow and fingertip `[... 4]` of angles of shoulder and wrist `[... 2]`."""
    first, second = angles[..., 0], angles.sum(-1)
    elbow = UPPER * np.stack([np.cos(first), np.sin(first)], -1)
    return np.concatenate([elbow, elbow + LOWER * np.stack([np.cos(second), np.sin(second)], -1)], -1)


def angles_of(positions: np.ndarray) -> np.ndarray:
    """Angles of shoulder and wrist `[... 2]`, from -pi to pi, of elbow and fingertip `[... 4]`."""
    elbow, lower = positions[..., :2], positions[..., 2:] - positions[..., :2]
    first, second = (np.arctan2(part[..., 1], part[..., 0]) for part in (elbow, lower))
    return np.stack([first, _wrapped(second - first)], -1)


def towards(positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Actions float32 `[... 2]` of proportional control of the angles, the shoulder the shorter way round."""
    turns = angles_of(targets) - angles_of(positions)
    turns[..., 0] = _wrapped(turns[..., 0])
    return np.clip(2 * turns, -1, 1).astype(np.float32)


def _wrapped(angles: np.ndarray) -> np.ndarray:
    """The same angles from -pi to pi."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


gymnasium.register("ReacherGoal-v0", "actors.envs.reacher_goal:ReacherGoal", max_episode_steps=STEPS)
gymnasium.register(
    "ReacherGoalPicture-v0", "actors.envs.reacher_goal:ReacherGoal", max_episode_steps=STEPS,
    additional_wrappers=(gymnasium.wrappers.FilterObservation.wrapper_spec(filter_keys=["image"]),),
)  # fmt: skip
gymnasium.register(
    "ReacherGoalPlaces-v0", "actors.envs.reacher_goal:ReacherGoal", max_episode_steps=STEPS, kwargs={"pictures": False}
)
