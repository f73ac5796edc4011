"""Loops over public programs alone: random actions drawn beforehand, no checks, one row of every environment a call.

Each function imports its package when it is called, so ImportError says that it is not installed.
"""

import ctypes
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from typing import Any

import numpy as np

ENVIRONMENTS = 16
DRAWN = 128
"""Steps of actions that are drawn beforehand and repeated."""
Loop = Callable[[], object]
"""Steps every environment once."""


def _continuous(shape: tuple[int, ...], dtype: type = np.float64) -> Iterator[np.ndarray]:
    return cycle(np.random.default_rng(0).uniform(-1, 1, (DRAWN, ENVIRONMENTS, *shape)).astype(dtype))


def _discrete(classes: int) -> Iterator[np.ndarray]:
    return cycle(np.random.default_rng(0).integers(classes, size=(DRAWN, ENVIRONMENTS), dtype=np.int32))


def dm_control(domain: str, task: str, pixels: bool = False) -> Loop:
    """The suite's environments one after the other, drawn at 64x64 if `pixels`."""
    from actors.envs.dm_control import suite  # which has chosen the renderer

    environments = [suite.load(domain, task, task_kwargs={"random": i}) for i in range(ENVIRONMENTS)]
    actions = _continuous(environments[0].action_spec().shape)
    for environment in environments:
        environment.reset()

    def step() -> None:
        for environment, action in zip(environments, next(actions), strict=True):
            if environment.step(action).last():
                environment.reset()
            if pixels:
                environment.physics.render(64, 64, camera_id=0)

    return step


def _random(space: Any) -> Iterator[np.ndarray]:
    """Actions of a Gymnasium space of one environment."""
    return _discrete(int(space.n)) if hasattr(space, "n") else _continuous(space.shape, space.dtype.type)


def gymnasium(name: str) -> Loop:
    """Environments of `gymnasium.make` one after the other."""
    import gymnasium as gym

    environments = [gym.make(name) for _ in range(ENVIRONMENTS)]
    actions = _random(environments[0].action_space)
    for i, environment in enumerate(environments):
        environment.reset(seed=i)

    def step() -> None:
        for environment, action in zip(environments, next(actions), strict=True):
            _, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                environment.reset()

    return step


def gymnasium_vector(name: str, mode: str = "sync") -> Loop:
    """Gymnasium's vector environment: `sync`, or `vector_entry_point` for one written in numpy."""
    import gymnasium as gym

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bounds beyond float32
        environment = gym.make_vec(name, num_envs=ENVIRONMENTS, vectorization_mode=mode)
    actions = _random(environment.single_action_space)
    environment.reset(seed=0)
    return lambda: environment.step(next(actions))


def ale(game: str) -> Loop:
    """The emulators alone, four frames a step and the picture of the last one at its full size."""
    import ale_py
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulators = [ale_py.ALEInterface() for _ in range(ENVIRONMENTS)]
    rom = roms.get_rom_path(game)
    assert rom, game
    for i, emulator in enumerate(emulators):
        emulator.setInt("random_seed", i)
        emulator.setInt("frame_skip", 4)
        emulator.setFloat("repeat_action_probability", 0.0)
        emulator.loadROM(rom)
    legal = emulators[0].getMinimalActionSet()
    actions = _discrete(len(legal))

    def step() -> None:
        for emulator, action in zip(emulators, next(actions), strict=True):
            emulator.act(legal[action])
            emulator.getScreenRGB()
            if emulator.game_over():
                emulator.reset_game()

    return step


def ale_vector(game: str) -> Loop:
    """ale-py's vector environment in one thread: four frames a step, the maximum over two, resized to 64x64, colour."""
    from ale_py.vector_env import AtariVectorEnv

    environment = AtariVectorEnv(
        game=game, num_envs=ENVIRONMENTS, num_threads=1, frameskip=4, img_height=64, img_width=64, stack_num=1,
        grayscale=False,
    )  # fmt: skip
    actions = _random(environment.single_action_space)
    environment.reset(seed=0)
    return lambda: environment.step(next(actions))


def envpool(name: str, **options: Any) -> Loop:
    """envpool in one thread."""
    with suppress(OSError):
        ctypes.CDLL("libOpenGL.so.0", mode=ctypes.RTLD_GLOBAL)  # its MuJoCo looks OpenGL up in the whole process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import envpool as package

        environment = package.make_gymnasium(name, num_envs=ENVIRONMENTS, num_threads=1, seed=0, **options)
        actions = _random(environment.action_space)
    environment.reset()
    return lambda: environment.step(next(actions))


def crafter(reward: bool = True) -> Loop:
    """The package's environments one after the other."""
    package = importlib.import_module("crafter")  # it has no types
    environments = [package.Env(reward=reward, seed=i) for i in range(ENVIRONMENTS)]
    actions = _discrete(int(environments[0].action_space.n))
    for environment in environments:
        environment.reset()

    def step() -> None:
        for environment, action in zip(environments, next(actions), strict=True):
            if environment.step(action)[2]:
                environment.reset()

    return step
