"""The objective of each family of models."""

import pkgutil
from typing import Any

from learner.pretrain.objective import Objective

OBJECTIVES = {
    "ijepa": "learner.pretrain.jepa_objectives:IJEPAObjective",
    "vjepa2": "learner.pretrain.jepa_objectives:VJEPA2Objective",
    "vjepa2_ac": "learner.pretrain.jepa_objectives:VJEPA2ACObjective",
    "genie_tokenizer": "learner.pretrain.genie_objectives:TokenizerObjective",
    "genie_latent_action": "learner.pretrain.genie_objectives:LatentActionObjective",
    "genie": "learner.pretrain.genie_objectives:DynamicsObjective",
    "latent_world": "learner.pretrain.latent_objective:LatentObjective",
}


def objective(config: Any) -> Objective:
    """The objective of a fresh model of this configuration."""
    made: Objective = pkgutil.resolve_name(OBJECTIVES[config.family])(config)
    return made
