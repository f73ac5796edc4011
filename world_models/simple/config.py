"""Configuration of the simple world model. Torch-free."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from world_models.dataclass_json import from_json


@dataclass(frozen=True, kw_only=True)
class SimpleWorldModelConfig:
    """Sizes, losses and optimiser of a `SimpleWorldModel`."""

    family: ClassVar[str] = "simple"

    obs_dim: int
    """Width of a flat observation."""
    action_dim: int
    """Width of an action; a discrete one is given one-hot."""
    latent_dim: int = 32
    """Width of a latent state."""
    hidden_dim: int = 128
    """Units of the hidden layers."""
    layers: int = 2
    """Hidden layers of each part."""
    stochastic: bool = False
    """Gaussian latents: encoder and dynamics give a mean and a standard deviation."""
    free_nats: float = 0.0
    """KL of Gaussian latents below this many nats is not penalised."""
    reward_heads: int = 1
    """Reward predictors that differ in their initial weights; several tell planners where they disagree."""
    action_low: tuple[float, ...] = (-1.0,)
    """Least action: one number for all dimensions, or one for each."""
    action_high: tuple[float, ...] = (1.0,)
    """Greatest action."""
    lr: float = 3e-3
    """Learning rate of Adam."""
    clip: float = 10.0
    """Largest norm of a gradient."""
    latent_scale: float = 1.0
    """Weight of the latent loss."""
    reconstruction_scale: float = 1.0
    """Weight of the reconstruction loss."""
    reward_scale: float = 1.0
    """Weight of the reward loss."""

    def __post_init__(self) -> None:
        for name in ("obs_dim", "action_dim", "latent_dim", "hidden_dim", "layers", "reward_heads", "lr", "clip"):
            if (value := getattr(self, name)) <= 0:
                raise ValueError(f"SimpleWorldModel {name}={value} must be positive; raise it.")
        for name in ("free_nats", "latent_scale", "reconstruction_scale", "reward_scale"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"SimpleWorldModel {name}={value} must not be negative; 0 turns it off.")
        for name in ("action_low", "action_high"):
            if (count := len(getattr(self, name))) not in (1, self.action_dim):
                raise ValueError(
                    f"SimpleWorldModel {name} has {count} numbers for action_dim={self.action_dim}; give one number, "
                    "or one for each dimension."
                )
        low, high = self.bounds
        for dimension, (least, most) in enumerate(zip(low, high, strict=True)):
            if not least < most:
                raise ValueError(
                    f"SimpleWorldModel action_low={least} must be below action_high={most} (dimension {dimension})."
                )

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Least and greatest action of every dimension."""
        return tuple(  # type: ignore[return-value]
            side if len(side) == self.action_dim else side * self.action_dim
            for side in (self.action_low, self.action_high)
        )


def as_config(config: Any) -> SimpleWorldModelConfig:
    """The configuration from a dict, or from any dataclass with the same fields; what is left out has its default.

    ValueError names a field that is missing, unknown or does not fit.
    """
    if isinstance(config, SimpleWorldModelConfig):
        return config
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not isinstance(config, Mapping):
        raise ValueError(
            f"SimpleWorldModel takes a dict or a dataclass, not {type(config).__name__}; e.g. "
            "{'obs_dim': 3, 'action_dim': 1, 'latent_dim': 32, 'hidden_dim': 128}."
        )
    if missing := [name for name in ("obs_dim", "action_dim") if name not in config]:
        raise ValueError(f"SimpleWorldModel needs {' and '.join(missing)}; it has {', '.join(config) or 'nothing'}.")
    fields = {name: _plain(value) for name, value in config.items()}
    for name in {"action_low", "action_high"} & fields.keys():
        side = fields[name] if isinstance(fields[name], list) else [fields[name]]
        fields[name] = [float(value) if isinstance(value, int) else value for value in side]
    return from_json(SimpleWorldModelConfig, fields)


def _plain(value: Any) -> Any:
    """A number or array of numpy or torch as plain Python values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
