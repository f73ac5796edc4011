"""What all players share."""

from collections.abc import Sequence

import numpy as np

from deploy.monitor.questions import QuestionError
from deploy.play.recordings import Recording
from deploy.play.world import World
from world_models.genie.dynamics import Sampling
from world_models.genie.genie import Genie


class Game:
    """A model, and what its worlds begin with. Each world has draws of its own."""

    def __init__(self, name: str, model: Genie, recordings: Sequence[Recording], sampling: Sampling, seed: int) -> None:
        self.name, self.model, self.recordings, self.sampling = name, model, recordings, sampling
        self._seeds = np.random.default_rng(seed)

    def begin(self, recording: int, frame: int) -> World:
        """A world that begins at a frame of a recording. QuestionError: there is none."""
        if not (0 <= recording < len(self.recordings) and 0 <= frame < len(self.recordings[recording].frames)):
            raise QuestionError(f"There is no frame {frame} in a recording {recording}.")
        seed = int(self._seeds.integers(2**31))
        return World(self.model, self.recordings[recording], frame, self.sampling, seed)
