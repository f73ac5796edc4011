"""Atari games on ale-py's emulator, in the protocol of DreamerV3: `atari_pong`, `atari_jamesbond`.

Each environment has an emulator of its own, and `VectorEnvironment` steps them. In CPU time per step that is about a
tenth more than ale-py's vector environment, and as much as envpool: the emulator takes most of it, and the resizing
here makes up for the Python around it. Both of the others lack parts of the protocol: an episode that begins by itself
has no seed, so it cannot be restored (a seeded one takes ale-py 0.15 s to begin), and neither resizes as DreamerV3.
"""

from pathlib import Path

import ale_py
import numpy as np
from ale_py import roms

from actors.config import EnvironmentConfig
from actors.environment import Step
from actors.envs import unknown_task
from actors.envs.atari.resampling import resampler
from world_models.space import Space, Spaces

PREFIX = "atari_"
LUMA = np.array([77, 150, 29], np.float32) / 256
"""0.299, 0.587, 0.114 of red, green and blue, in fractions whose sums are exact: the same gray on every machine."""
NOOP = ale_py.Action.NOOP

# Otherwise it greets on standard error for every environment.
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def _rom(game: str) -> Path | None:
    """The file of a game; None for those of two players only (combat, joust, maze_craze, warlords), which end the
    process when they are loaded."""
    path = roms.get_rom_path(game)
    return path if path and ale_py.ALEInterface.isSupportedROM(path) else None


def task_names() -> list[str]:
    """All games that ale-py has a ROM for."""
    return sorted(f"{PREFIX}{game}" for game in roms.get_all_rom_ids() if _rom(game))


def make(task: str, config: EnvironmentConfig) -> "AtariEnvironment":
    """The environment of one game. Raises ValueError if there is none of this name."""
    game = task.removeprefix(PREFIX)
    game = "jamesbond" if game == "james_bond" else game
    if game not in roms.get_all_rom_ids() or not (rom := _rom(game)):
        raise unknown_task(task, task_names())
    return AtariEnvironment(game, rom, config)


class AtariEnvironment:
    """A game as an Environment.

    One step is `frames_per_step` frames with the same action: rewards are summed, and the image is the maximum over the
    last two frames, since many games draw their objects in turns. An episode begins with a random number of no-ops that
    do not count as frames of it. Its seed determines that number, and which actions stick.
    """

    backend = "ale-py"

    def __init__(self, game: str, rom: Path, config: EnvironmentConfig) -> None:
        self._name = f"{PREFIX}{game}"
        self._options = config.atari
        self.frames_per_step = config.action_repeat
        self.terminal_goes_on = config.atari.life_loss == "discount"
        self.raw = ale_py.ALEInterface()
        # The emulator's own generator is seeded only when it loads a ROM, which takes 0.1 s: `_act` repeats actions.
        self.raw.setFloat("repeat_action_probability", 0.0)
        self.raw.loadROM(rom)
        every = self._options.actions == "full"
        self.actions = self.raw.getLegalActionSet() if every else self.raw.getMinimalActionSet()
        """What each class of the action does; `name` is its meaning, such as RIGHTFIRE."""
        self.raw.reset_game()
        # Not all games are the same after every reset: some keep the highest score, others a counter.
        self._beginning = self.raw.cloneState(include_rng=True)
        self._first_frame = self.raw.getScreenRGB()  # the state does not contain it
        height, width = self._first_frame.shape[:2]
        size = config.image_size if config.image_size != (0, 0) else (height, width)
        self._resize = resampler((height, width), size, self._options.resize) if size != (height, width) else None
        self._newer, self._older, self._seen = (np.empty((height, width, 3), np.uint8) for _ in range(3))
        channels = 1 if self._options.color == "gray" else 3
        self.observation_space: Spaces = {"image": Space(dtype=np.dtype(np.uint8), shape=(*size, channels))}
        self.action_space: Spaces = {"action": Space(dtype=np.dtype(np.int32), shape=(), classes=len(self.actions))}
        self._rng = np.random.default_rng(0)
        self._action = NOOP
        self._lives = self._length = 0
        self._open = False

    def reset(self, seed: int) -> Step:
        self._rng = np.random.default_rng(seed)
        self._begin()
        for _ in range(self._rng.integers(self._options.noops + 1)):
            self._act(NOOP)
            self._look()
            if self.raw.game_over():
                self._begin()
        self._lives, self._length, self._open = self.raw.lives(), 0, True
        return Step({"image": self._image()}, 0.0, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        if not self._open:
            raise ValueError(f"{self._name}: step() without an open episode; call reset(seed) first.")
        wanted = self.actions[int(action["action"])]
        reward, terminal, last = 0.0, False, False
        for left in range(self.frames_per_step - 1, -1, -1):
            reward += self._act(wanted)
            self._length += 1
            lives, lost = self.raw.lives(), False
            if lives != self._lives:
                lost = 0 < lives < self._lives and self._options.life_loss != "none"
                self._lives = lives
            over = self.raw.game_over()
            terminal = over or lost
            last = over or lost and not self.terminal_goes_on or self._length >= self._options.frame_limit
            if left < 2 or terminal or last:
                self._look()
            if terminal or last:
                break
        self._open = not last
        return Step({"image": self._image()}, float(reward), last, terminal)

    def render(self) -> np.ndarray:
        return self._seen.copy()

    def close(self) -> None:
        self._open = False

    def _begin(self) -> None:
        """Bring the game back to its beginning, whatever came before."""
        self.raw.reset_game()  # resets what the state lacks, such as the lives that Q*bert last had
        self.raw.restoreState(self._beginning)
        self._newer[:] = self._older[:] = self._first_frame
        self._action = NOOP

    def _act(self, action: ale_py.Action) -> int:
        """Advance one frame; returns its reward. The action of the frame before stays with probability `sticky`."""
        if not self._options.sticky or self._rng.random() >= self._options.sticky:
            self._action = action
        return self.raw.act(self._action)

    def _look(self) -> None:
        """Remember the current frame as the newer of two."""
        self._newer, self._older = self._older, self._newer
        self.raw.getScreenRGB(self._newer)

    def _image(self) -> np.ndarray:
        np.maximum(self._newer, self._older, out=self._seen)
        image = self._resize(self._seen) if self._resize else self._seen.copy()
        if self._options.color == "gray":
            return (image.astype(np.float32) @ LUMA).astype(np.uint8)[..., None]
        return image
