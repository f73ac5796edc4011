"""DreamerV3's policy as actors use it: numpy in, numpy out, a recurrent state per environment."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actors.native_actions import native_action
from actors.native_observations import flat_observation
from world_models.checkpoint_files import (
    MANIFEST,
    DamagedCheckpointError,
    find_model,
    read_arrays,
    read_document,
    verify,
    whole_beside,
)
from world_models.dataclass_json import from_json
from world_models.distributions import one_hot
from world_models.dreamer.acting import ActingModel, Carry
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.draws import draw_actions, mix_seed
from world_models.dreamer.rssm import State
from world_models.snapshot import Snapshot, load_snapshot
from world_models.space import Space

Arrays = dict[str, np.ndarray]


class DreamerPolicy:
    """Acts for N environments; `seed` and the `draw` number given at each step fix every sample.

    `mode=True` takes each action distribution's mode in place of a sample.
    """

    def __init__(self, model: ActingModel, seed: int = 0, mode: bool = False):
        self.model, self.seed, self.mode = model, seed, mode
        self.version = 0
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(self.device)

    def initial(self, rows: int) -> Carry:
        """State before the first step of N environments."""
        return self.model.initial(rows)

    def act(self, carry: Carry, observation: Arrays, is_first: np.ndarray, draw: int) -> tuple[Carry, Arrays, Arrays]:
        """Observation keys `[N ...]`, `is_first` bool `[N]` to the next carry, actions `[N ...]` and the latents to
        store: `deter` float16 `[N D]`, `stoch` int8 `[N S]`."""
        self.generator.manual_seed(mix_seed(self.seed, draw))
        rows, config = len(is_first), self.model.rssm.config
        posterior = torch.rand(rows, config.stoch, generator=self.generator, device=self.device)
        noise = None if self.mode else draw_actions(self.model.action_space, (rows,), self.generator)
        obs = {key: torch.as_tensor(observation[key], device=self.device) for key in self.model.observation_space}
        reset = torch.as_tensor(is_first, device=self.device)
        carry, index, _ = self.model.act(carry, obs, reset, posterior, noise)
        actions = {key: value.cpu().numpy() for key, value in carry.action.items()}
        latents = {
            "deter": carry.state.deter.half().cpu().numpy(),
            "stoch": index.to(torch.int8).cpu().numpy(),
        }
        return carry, actions, latents

    def override(self, carry: Carry, actions: Arrays) -> Carry:
        """The carry as if `actions` had been sampled."""
        return Carry(carry.state, {key: torch.as_tensor(value, device=self.device) for key, value in actions.items()})

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot's parameters and version."""
        load_snapshot(self.model, snapshot)
        self.version = snapshot.version

    def state(self, carry: Carry) -> Arrays:
        """A carry as arrays, for checkpoints."""
        out = {"deter": carry.state.deter.cpu().numpy(), "stoch": carry.state.stoch.argmax(-1).cpu().numpy(),
               "empty": (carry.state.stoch.sum(-1) == 0).cpu().numpy()}  # fmt: skip
        return out | {f"action/{key}": value.cpu().numpy() for key, value in carry.action.items()}

    def restore(self, arrays: Arrays) -> Carry:
        """The carry that `state` wrote."""
        tensors = {key: torch.as_tensor(value, device=self.device) for key, value in arrays.items()}
        stoch = one_hot(tensors["stoch"].long(), self.model.rssm.config.classes) * ~tensors["empty"][..., None]
        return Carry(State(tensors["deter"], stoch), {key: tensors[f"action/{key}"] for key in self.model.action_space})


class LoadedPolicy:
    """A trained policy for one environment: call it with an observation, get an action. `reset` begins an episode."""

    def __init__(self, policy: DreamerPolicy):
        self.policy = policy
        self._single = {key: _one_of_a_stack(space) for key, space in policy.model.observation_space.items()}
        self.reset()

    def reset(self) -> None:
        """Forget the episode so far."""
        self.carry, self.first, self.steps = self.policy.initial(1), True, 0
        spaces = self.policy.model.observation_space
        self._frames: dict[str, list[np.ndarray]] = {k: [] for k, s in spaces.items() if (s.native or {}).get("stack")}

    def __call__(self, observation: Any, raw: bool = False) -> Any:
        """One observation, just as the environment's own `reset` and `step` give it (or a dict of keys `a/b`), to the
        action that its own `step` takes; `raw=True`: to the network's, a dict, in [-1, 1] and unclipped."""
        flat = flat_observation(self._single, observation)
        rows = {key: self._stacked(key, value)[None] for key, value in flat.items()}
        self.carry, actions, _ = self.policy.act(self.carry, rows, np.array([self.first]), self.steps)
        self.first, self.steps = False, self.steps + 1
        single = {key: value[0] for key, value in actions.items()}
        return single if raw else native_action(self.policy.model.action_space, single)

    def _stacked(self, key: str, value: np.ndarray) -> np.ndarray:
        """The newest images of the episode, where the policy was trained on several at a time."""
        if key not in self._frames:
            return value
        frames, space = self._frames[key], self.policy.model.observation_space[key]
        frames[:] = [*frames[1:], value] if frames else [value] * (space.native or {})["stack"]
        return np.concatenate(frames, -1)


def _one_of_a_stack(space: Space) -> Space:
    count = (space.native or {}).get("stack", 1)
    return replace(space, shape=(*space.shape[:-1], space.shape[-1] // count)) if count > 1 else space


def load_policy(path: str | Path, device: str = "cpu", mode: bool = False, seed: int = 0) -> LoadedPolicy:
    """Load the policy of a checkpoint directory (`model.safetensors`, `config.json`), or of a run directory: its best
    checkpoint where there is one, else the newest. ValueError names what is missing, damaged or does not fit."""
    folder = find_model(Path(path))
    try:
        if (folder / MANIFEST).exists():
            verify(folder, ("config.json", "model.safetensors"))
        fields, weights = read_document(folder / "config.json"), read_arrays(folder / "model.safetensors")
    except DamagedCheckpointError as error:
        other = whole_beside(folder)
        remedy = f"Name a whole one: {other}" if other else "No other checkpoint beside it is whole."
        raise DamagedCheckpointError(f"{error} {remedy}") from error
    try:
        observation, action = (
            {key: Space.from_json(space) for key, space in fields[name].items()} for name in ("observation", "action")
        )
        config = from_json(DreamerConfig, fields["model"])
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not that of a policy trained here ({error!r}).") from error
    model = ActingModel(observation, action, config)
    wanted = model.state_dict().keys()
    if missing := sorted(wanted - weights.keys()):
        raise ValueError(f"{folder} lacks the parameters {missing}; it is not a DreamerV3 checkpoint of this version.")
    model.load_state_dict({key: torch.tensor(weights[key]) for key in wanted})
    return LoadedPolicy(DreamerPolicy(model.to(device).eval(), seed=seed, mode=mode))
