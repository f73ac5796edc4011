"""An update whose operators have next to nothing to compute: what is left of its time is what starting them takes."""

from dataclasses import replace

import numpy as np

from learner.config import LearnerConfig
from learner.cost.counting import Counting, total
from learner.cost.cpu import clocked
from learner.cost.rehearsal import fake_batch
from learner.dreamer_step import DreamerStep
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DreamerConfig, resize
from world_models.space import Space, Spaces

VECTOR = {"vector": Space(dtype=np.dtype(np.float32), shape=(1,))}


class TinyUpdate:
    """One of an agent with the parts of another, in which every width and length is tiny. Making it runs it once, so
    that the process has loaded what an update needs."""

    def __init__(self, model: DreamerConfig, action: Spaces, config: LearnerConfig):
        least = {"deter": 8 * model.rssm.blocks, "hidden": 8, "classes": 4, "depth": 8, "units": 8, "stoch": 4}
        config = replace(config, batch_size=2, batch_length=3, device="cpu", precision="float32", compile=False)
        agent = Dreamer(VECTOR, action, replace(resize(model, **least), imagination_length=2))
        self._step, self._batch = DreamerStep(agent, config), fake_batch(agent, config)
        self.run()

    def run(self) -> None:
        self._step(self._batch)

    def seconds_a_call(self) -> float:
        """Of an operator, whatever it computes."""
        return clocked(self.run, 8) / total(Counting().count(self.run).values()).calls
