"""The families of world models, as named in a checkpoint's `config.json`, and the classes that make up each.

Torch-free: classes are given as `module:name` and imported on use.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from world_models.dataclass_json import from_json
from world_models.space import Spaces


class UnknownModelError(ValueError):
    """A model family or format that this version of Nexus cannot read; the files may be intact."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of world models."""

    name: str
    format: int
    """Format of its checkpoints; raise it when earlier versions can no longer read them."""
    config_class: str
    """The configuration, a frozen dataclass whose `family` is `name`."""
    model_class: str
    """The whole model, called with observation spaces, action spaces (empty if it takes no actions), configuration."""
    from_spaces: bool = True
    """Whether the model is called so, or with its configuration alone, which then has all sizes."""
    acting_class: str = ""
    """The part of the model that acts, called with the same arguments; empty if the family has no policy."""
    policy_class: str = ""
    """The policy, called with the acting part, a seed, and whether to take modes instead of samples."""

    plans: bool = False
    """Whether planners can use the model."""
    planning_class: str = ""
    """The model as planners see it, called with the whole model; empty if it is itself a `PlanningModel`."""

    @property
    def acts(self) -> bool:
        return bool(self.acting_class)

    def config(self, fields: Mapping[str, Any]) -> Any:
        """The configuration from its `to_json` form. ValueError names a field that does not fit."""
        return from_json(pkgutil.resolve_name(self.config_class), fields)

    def build(self, observation: Spaces, action: Spaces, config: Any) -> Any:
        """A fresh model (`torch.nn.Module`)."""
        model = pkgutil.resolve_name(self.model_class)
        return model(observation, action, config) if self.from_spaces else model(config)

    def build_acting(self, observation: Spaces, action: Spaces, config: Any) -> Any:
        """The acting part of a fresh model (`torch.nn.Module`)."""
        return pkgutil.resolve_name(self.acting_class)(observation, action, config)

    def policy(self, acting: Any, seed: int, mode: bool) -> Any:
        """A policy that acts with `acting`, made by `build_acting`."""
        return pkgutil.resolve_name(self.policy_class)(acting, seed, mode)

    def planning(self, model: Any, **options: Any) -> Any:
        """A model made by `build` as a `PlanningModel`; `options` are those of its `planning_class`."""
        return pkgutil.resolve_name(self.planning_class)(model, **options) if self.planning_class else model


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
            plans=True,
            planning_class="world_models.dreamer.planning:DreamerPlanning",
        ),
        Family(
            name="simple",
            format=1,
            config_class="world_models.simple.config:SimpleWorldModelConfig",
            model_class="world_models.simple.world_model:SimpleWorldModel",
            from_spaces=False,
            plans=True,
        ),
        Family(
            name="ijepa",
            format=1,
            config_class="world_models.jepa.config:IJEPAConfig",
            model_class="world_models.jepa.ijepa:IJEPA",
            from_spaces=False,
        ),
        Family(
            name="vjepa2",
            format=1,
            config_class="world_models.jepa.config:VJEPA2Config",
            model_class="world_models.jepa.vjepa2:VJEPA2",
            from_spaces=False,
        ),
        Family(
            name="vjepa2_ac",
            format=1,
            config_class="world_models.jepa.config:VJEPA2ACConfig",
            model_class="world_models.jepa.vjepa2_ac:VJEPA2AC",
            from_spaces=False,
            plans=True,
            planning_class="world_models.jepa.planning:VJEPA2ACPlanning",
        ),
        Family(
            name="genie_tokenizer",
            format=1,
            config_class="world_models.genie.config:TokenizerConfig",
            model_class="world_models.genie.tokenizer:VideoTokenizer",
            from_spaces=False,
        ),
        Family(
            name="genie_latent_action",
            format=1,
            config_class="world_models.genie.config:LatentActionConfig",
            model_class="world_models.genie.latent_action:LatentActionModel",
            from_spaces=False,
        ),
        Family(
            name="genie",
            format=1,
            config_class="world_models.genie.config:GenieConfig",
            model_class="world_models.genie.genie:Genie",
            from_spaces=False,
            plans=True,
            planning_class="world_models.genie.planning:GeniePlanning",
        ),
        Family(
            name="latent_world",
            format=1,
            config_class="world_models.latent.config:LatentWorldConfig",
            model_class="world_models.latent.latent_world:LatentWorld",
            from_spaces=False,
            plans=True,
            planning_class="world_models.latent.planning:LatentPlanning",
        ),
    )
}


def family_of(config: Any) -> Family:
    """The family of a configuration."""
    return FAMILIES[config.family]


def family_in(fields: Any) -> Family:
    """The family named in a `config.json`; UnknownModelError if the family or its format is unknown.

    Checkpoints from before these keys hold a DreamerV3 in format 1.
    """
    name, number = fields.get("family", "dreamer"), fields.get("format", 1)
    if not isinstance(name, str) or name not in FAMILIES:
        raise UnknownModelError(
            f"model family {name!r} is unknown; this version of Nexus knows {', '.join(sorted(FAMILIES))}. Upgrade "
            "Nexus, or train again."
        )
    family = FAMILIES[name]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UnknownModelError(
            f"format {number!r} of model family {name!r} is not a whole number from 1, so this version of Nexus cannot "
            "read it. Upgrade Nexus, or train again."
        )
    if number > family.format:
        raise UnknownModelError(
            f"format {number} of model family {name!r} is newer than format {family.format}, the newest that this "
            "version of Nexus reads. Upgrade Nexus, or train again."
        )
    return family
