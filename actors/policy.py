"""Trained policies, loaded from checkpoints to act in one environment."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from actors.native_actions import native_action
from actors.native_observations import flat_observation
from actors.trivial_policies import Policy
from world_models.checkpoint_files import (
    MANIFEST,
    MODEL_CONFIG,
    WEIGHTS,
    DamagedCheckpointError,
    find_model,
    intact_beside,
    read_arrays,
    verify,
)
from world_models.families import FAMILIES
from world_models.model_document import read_model_document
from world_models.parameters import load_parameters
from world_models.space import Space


class ModelPolicy(Policy, Protocol):
    """A policy whose model has the `observation_space` and `action_space` it was trained on."""

    model: Any


class LoadedPolicy:
    """A trained policy for one environment: call it with an observation to get an action; `reset` starts an episode."""

    def __init__(self, policy: ModelPolicy):
        self.policy = policy
        self._single = {key: _one_of_a_stack(space) for key, space in policy.model.observation_space.items()}
        self.reset()

    def reset(self) -> None:
        """Start a new episode."""
        self.carry, self.first, self.steps = self.policy.initial(1), True, 0
        spaces = self.policy.model.observation_space
        self._frames: dict[str, list[np.ndarray]] = {k: [] for k, s in spaces.items() if (s.native or {}).get("stack")}

    def __call__(self, observation: Any, raw: bool = False) -> Any:
        """The action for one observation, in the formats of the environment's own `reset` and `step`.

        The observation may also be a flat dict with keys such as `a/b`. With `raw=True` the action is the network's
        own: a dict, continuous values unclipped and scaled to [-1, 1].
        """
        flat = flat_observation(self._single, observation)
        rows = {key: self._stacked(key, value)[None] for key, value in flat.items()}
        self.carry, actions, _ = self.policy.act(self.carry, rows, np.array([self.first]), self.steps)
        self.first, self.steps = False, self.steps + 1
        single = {key: value[0] for key, value in actions.items()}
        return single if raw else native_action(self.policy.model.action_space, single)

    def _stacked(self, key: str, value: np.ndarray) -> np.ndarray:
        """The episode's newest frames, if the policy was trained on stacked frames."""
        if key not in self._frames:
            return value
        frames, space = self._frames[key], self.policy.model.observation_space[key]
        frames[:] = [*frames[1:], value] if frames else [value] * (space.native or {})["stack"]
        return np.concatenate(frames, -1)


def _one_of_a_stack(space: Space) -> Space:
    count = (space.native or {}).get("stack", 1)
    return replace(space, shape=(*space.shape[:-1], space.shape[-1] // count)) if count > 1 else space


def load_policy(path: str | Path, device: str = "cpu", mode: bool = False, seed: int = 0) -> LoadedPolicy:
    """Load a policy from a checkpoint directory (`model.safetensors`, `config.json`), or from the best checkpoint of a
    run directory, or else its newest.

    `mode` takes the mode of each action distribution instead of a sample; `seed` fixes the samples. ValueError names
    what is missing, damaged or unknown, or the family of a model that has no policy.
    """
    folder = find_model(Path(path))
    try:
        if (folder / MANIFEST).exists():
            verify(folder, (MODEL_CONFIG, WEIGHTS))
        document, weights = read_model_document(folder), read_arrays(folder / WEIGHTS)
    except DamagedCheckpointError as error:
        other = intact_beside(folder)
        remedy = f"Load an intact one: {other}" if other else "No other checkpoint of this run is intact."
        raise DamagedCheckpointError(f"{error} {remedy}") from error
    family = document.family
    if not family.acts:
        able = ", ".join(sorted(name for name, other in FAMILIES.items() if other.acts))
        raise ValueError(
            f"{folder} holds a model of family {family.name!r}, which has no policy. Load a checkpoint of a family "
            f"that acts: {able}."
        )
    model = family.build_acting(document.observation, document.action, document.config)
    parts = {name for name, _ in model.named_children()}
    acting = {key: value for key, value in weights.items() if key.partition(".")[0] in parts}
    load_parameters(model, acting, folder / WEIGHTS, "Another version of Nexus may have written it.")
    return LoadedPolicy(family.policy(model.to(device).eval(), seed, mode))
