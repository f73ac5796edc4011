"""The planners by the names that commands and configurations use."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from world_models.planning.cem import CEM
from world_models.planning.gradient import GradientPlanner
from world_models.planning.icem import ICEM
from world_models.planning.mppi import MPPI
from world_models.planning.plan import Planner
from world_models.planning.predictive_sampling import PredictiveSampling
from world_models.planning.random_shooting import RandomShooting

PLANNERS = {
    "random_shooting": RandomShooting,
    "predictive_sampling": PredictiveSampling,
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "gradient": GradientPlanner,
}


def make_planner(name: str, options: Mapping[str, int]) -> Planner:
    """A planner by its name. ValueError: it has no such option, or not with this value."""
    kind: Any = PLANNERS[name]
    known = [one.name for one in fields(kind)]
    if unknown := sorted(options.keys() - set(known)):
        raise ValueError(f"Planner {name} has no {' and no '.join(unknown)}; it has {', '.join(known)}.")
    options = dict(options)
    if "elites" in known and "samples" in options:  # as many of fewer samples as of the usual number
        share = kind.elites / kind.samples
        options["elites"] = min(options["samples"], max(2, round(share * options["samples"])))
    planner: Planner = kind(**options)
    return planner
