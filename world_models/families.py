"""The families of world models: what a checkpoint's `config.json` names, and the classes that its model is built from.

Torch-free: classes stand as `module:name` and are imported when they are used.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from world_models.dataclass_json import from_json
from world_models.space import Spaces


class UnknownModelError(ValueError):
    """A family or format that this version does not know; the files themselves may be whole."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of world models."""

    name: str
    format: int
    """The newest format of its checkpoints; raise it whenever earlier versions cannot read what this one writes."""
    config_class: str
    """Its frozen dataclass, whose `family` is `name`."""
    model_class: str
    """The whole model, called with observation spaces, action spaces (empty if it knows no actions), configuration."""
    acting_class: str = ""
    """The part of the model that acts, called with the same; empty if the family has no policy."""
    policy_class: str = ""
    """Acts with an `acting_class`: called with one, a seed, and whether to take modes in place of samples."""

    @property
    def acts(self) -> bool:
        return bool(self.acting_class)

    def config(self, fields: Mapping[str, Any]) -> Any:
        """The configuration that `to_json` wrote. ValueError names a field that does not fit."""
        return from_json(pkgutil.resolve_name(self.config_class), fields)

    def build(self, observation: Spaces, action: Spaces, config: Any) -> Any:
        """A fresh model (`torch.nn.Module`)."""
        return pkgutil.resolve_name(self.model_class)(observation, action, config)

    def build_acting(self, observation: Spaces, action: Spaces, config: Any) -> Any:
        """The acting part of a fresh model (`torch.nn.Module`)."""
        return pkgutil.resolve_name(self.acting_class)(observation, action, config)

    def policy(self, acting: Any, seed: int, mode: bool) -> Any:
        """What acts with `acting`, which `build_acting` made."""
        return pkgutil.resolve_name(self.policy_class)(acting, seed, mode)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="dreamer",
            format=1,
            config_class="world_models.dreamer.config:DreamerConfig",
            model_class="world_models.dreamer.agent:Dreamer",
            acting_class="world_models.dreamer.acting:ActingModel",
            policy_class="world_models.dreamer.policy:DreamerPolicy",
        ),
    )
}


def family_of(config: Any) -> Family:
    """The family that a configuration is of."""
    return FAMILIES[config.family]


def family_in(fields: Any) -> Family:
    """The family that a `config.json` names; UnknownModelError if this version does not read it, or not its format.

    The first checkpoints name neither: they hold a DreamerV3 in its first format.
    """
    name, number = fields.get("family", "dreamer"), fields.get("format", 1)
    if name not in FAMILIES:
        raise UnknownModelError(
            f"model family {name!r} is unknown; this version of Nexus knows {', '.join(sorted(FAMILIES))}. Upgrade "
            "Nexus, or train again."
        )
    family = FAMILIES[name]
    if number > family.format:
        raise UnknownModelError(
            f"format {number} of model family {name!r} is newer than format {family.format}, the newest that this "
            "version of Nexus reads. Upgrade Nexus, or train again."
        )
    return family
