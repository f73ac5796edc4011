"""DreamerV3's policy for actors: numpy in, numpy out, a recurrent state per environment."""

import numpy as np
import torch

from world_models.distributions import one_hot
from world_models.dreamer.acting import ActingModel, Carry
from world_models.dreamer.draws import draw_actions, mix_seed
from world_models.dreamer.packed.acting import PackedActing
from world_models.dreamer.rssm import State
from world_models.snapshot import Snapshot, load_snapshot

Arrays = dict[str, np.ndarray]


class DreamerPolicy:
    """Acts for N environments; `seed` and the `draw` number given at each step fix every sample.

    `mode=True` takes the mode of each action distribution instead of a sample. On a CPU images are convolved in
    `precision`: float32 or bfloat16.
    """

    def __init__(self, model: ActingModel, seed: int = 0, mode: bool = False, precision: str = "float32"):
        self.model, self.seed, self.mode = model, seed, mode
        self.version = 0
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(self.device)
        self.packed = PackedActing(model, getattr(torch, precision)) if self.device.type == "cpu" else None

    def initial(self, rows: int) -> Carry:
        """The carry before the first step of N environments."""
        return self.model.initial(rows)

    def act(self, carry: Carry, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[Carry, Arrays, Arrays]:
        """One step: observation keys `[N ...]` and `is_first` bool `[N]` in; the next carry, actions `[N ...]` and the
        latents to store out: `deter` float16 `[N D]`, `stoch` int8 `[N S]`, -1 for none."""
        self.generator.manual_seed(mix_seed(self.seed, draw))
        rows, config = len(is_first), self.model.rssm.config
        posterior = torch.rand(rows, config.stoch, generator=self.generator, device=self.device)
        noise = None if self.mode else draw_actions(self.model.action_space, (rows,), self.generator)
        obs = {key: torch.as_tensor(observation[key], device=self.device) for key in self.model.observation_space}
        reset = torch.as_tensor(is_first, device=self.device)
        if self.packed:
            carry, index = self.packed.act(carry, obs, reset, posterior, noise)
        else:
            carry, index, _ = self.model.act(carry, obs, reset, posterior, noise)
        actions = {key: value.cpu().numpy() for key, value in carry.action.items()}
        latents = {
            "deter": carry.state.deter.half().cpu().numpy(),
            "stoch": index.to(torch.int8).cpu().numpy(),
        }
        return carry, actions, latents

    def override(self, actions: Arrays) -> Carry:
        """The carry after a step with `actions` `[N ...]` that were chosen without the model: they and the initial
        state."""
        taken = {key: torch.as_tensor(value, device=self.device) for key, value in actions.items()}
        return self.initial(len(next(iter(actions.values()))))._replace(action=taken)

    @property
    def latents(self) -> Arrays:
        """What is stored with a step, as it is for one without the model: the latents of the initial state."""
        config = self.model.rssm.config
        return {"deter": np.zeros(config.deter, np.float16), "stoch": np.full(config.stoch, -1, np.int8)}

    def update(self, snapshot: Snapshot) -> None:
        """Use the parameters and version of a snapshot."""
        load_snapshot(self.model, snapshot)
        self.version = snapshot.version

    def state(self, carry: Carry) -> Arrays:
        """A carry as arrays, for checkpoints."""
        out = {"deter": carry.state.deter.cpu().numpy(), "stoch": carry.state.stoch.argmax(-1).cpu().numpy(),
               "empty": (carry.state.stoch.sum(-1) == 0).cpu().numpy()}  # fmt: skip
        return out | {f"action/{key}": value.cpu().numpy() for key, value in carry.action.items()}

    def load(self, arrays: Arrays) -> Carry:
        """The inverse of `state`."""
        tensors = {key: torch.as_tensor(value, device=self.device) for key, value in arrays.items()}
        stoch = one_hot(tensors["stoch"].long(), self.model.rssm.config.classes) * ~tensors["empty"][..., None]
        return Carry(State(tensors["deter"], stoch), {key: tensors[f"action/{key}"] for key in self.model.action_space})
