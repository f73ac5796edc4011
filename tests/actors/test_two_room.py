"""TwoRoom: the goal is behind a wall, which neither chance nor the straight way gets round."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from actors.config import EnvironmentConfig
from actors.envs import make
from actors.envs.two_room import (
    DOOR,
    LARGEST,
    LOOKS,
    RADIUS,
    STEPS,
    WALL,
    Rooms,
    TwoRoom,
    draw,
    moved,
    problems,
    random_clips,
    towards_door,
)

WALL_PIXELS = 4 * 11  # above the door, whatever the point's size
TASK = "gym:actors.envs.two_room:TwoRoom-v0"


def test_it_is_a_gymnasium_environment() -> None:
    check_env(gymnasium.make("TwoRoom-v0").unwrapped, skip_render_check=False)
    with pytest.raises(ValueError, match=r"look='grey' is not one of standard, colours, sizes\."):
        TwoRoom(look="grey")


def test_an_episode_of_the_task() -> None:
    environment = make(TASK, EnvironmentConfig())
    assert environment.action_space["action"].shape == (2,)
    first = environment.reset(0)
    goal, rooms = first.observation["goal"], first.observation["rooms"]
    place = first.observation["position"][None]
    for step in range(1, STEPS + 1):
        seen = environment.step({"action": np.array([1, -1], np.float32)})
        place = moved(Rooms(rooms[:1], rooms[1:]), place, np.array([[LARGEST, -LARGEST]]))
        np.testing.assert_allclose(seen.observation["position"], place[0], atol=1e-6)
        np.testing.assert_array_equal(seen.observation["goal"], goal)
        np.testing.assert_array_equal(seen.observation["image"], draw(Rooms(rooms[:1], rooms[1:]), place)[0])
        assert seen.reward < 0 and not seen.is_terminal and seen.is_last == (step == STEPS)
    assert not np.array_equal(environment.reset(1).observation["rooms"], rooms)
    environment.close()


@pytest.mark.parametrize(("policy", "least", "most"), [("random", 0.0, 0.02), ("straight", 0.1, 0.5), ("oracle", 1, 1)])
def test_the_straight_way_ends_at_the_wall(policy: str, least: float, most: float) -> None:
    rng = np.random.default_rng(0)
    rooms, places, goals = problems(2000, rng)
    assert ((places[:, 0] < rooms.wall) != (goals[:, 0] < rooms.wall)).all()
    reached = np.zeros(len(goals), bool)
    for _ in range(STEPS):
        aims = towards_door(rooms, places, goals) if policy == "oracle" else goals
        moves = rng.uniform(-LARGEST, LARGEST, goals.shape) if policy == "random" else aims - places
        if policy != "random":  # straight: both axes together
            moves *= np.minimum(1, LARGEST / np.abs(moves).max(1, keepdims=True).clip(1e-9))
        places = moved(rooms, places, moves)
        reached |= np.linalg.norm(places - goals, axis=1) <= RADIUS
    assert least <= reached.mean() <= most


def test_nothing_passes_the_wall_but_through_the_door() -> None:
    rng = np.random.default_rng(0)
    rooms, places, _ = problems(500, rng)
    for _ in range(300):
        before, places = places, moved(rooms, places, rng.uniform(-1, 1, places.shape))
        inside = np.abs(places[:, 0] - rooms.wall) < WALL - 1e-6
        at_door = np.abs(places[:, 1] - rooms.door) <= DOOR + 1e-6
        crossed = (before[:, 0] < rooms.wall) != (places[:, 0] < rooms.wall)
        assert (at_door | ~inside).all()
        assert (np.abs(places[:, 1] - rooms.door) <= DOOR + LARGEST)[crossed].all()
        assert np.abs(places - before).max() <= LARGEST + 1e-6 and places.min() >= 0 and places.max() <= 1
    assert ((places[:, 0] < rooms.wall) != (problems(500, np.random.default_rng(0))[1][:, 0] < rooms.wall)).any()


def test_pictures_show_walls_doors_and_points() -> None:
    rooms = Rooms(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))
    places = np.array([[0.2, 0.8], [0.203, 0.8], [1, 0]], np.float32)
    for name, look in LOOKS.items():
        pictures = draw(rooms, places, 64, look)
        assert (pictures[0] != pictures[1]).any(), name
        assert tuple(pictures[0, 60, 32]) == look.wall and tuple(pictures[0, 18, 32]) == look.ground
        assert tuple(pictures[0, 10, 60]) == look.ground and tuple(pictures[2, 3, 60]) == look.point
        assert (pictures[0, :20] == look.wall).all(-1).sum() == WALL_PIXELS
        points = (np.abs(pictures[0].astype(int) - look.point).max(-1) < 60).sum()
        np.testing.assert_allclose(points, np.pi * (look.radius * 64) ** 2, rtol=0.25)


def test_random_clips_follow_the_dynamics_and_pass_doors() -> None:
    frames, actions, states = random_clips(200, 16, seed=0, size=32)
    assert frames.shape == (200, 16, 32, 32, 3) and actions.shape == (200, 15, 2) and states.shape == (200, 16, 2)
    assert np.abs(actions).max() <= 1 and np.abs(np.diff(states, axis=1)).max() <= LARGEST + 1e-6
    assert not np.array_equal(frames, random_clips(200, 16, seed=1, size=32)[0])
    moves = np.linalg.norm(states[:, -1] - states[:, 0], axis=-1)
    assert moves.mean() > 0.15  # independent moves would stay nearer
