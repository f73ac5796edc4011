"""The planners by the names that commands and configurations use."""

from world_models.planning.cem import CEM
from world_models.planning.gradient import GradientPlanner
from world_models.planning.icem import ICEM
from world_models.planning.mppi import MPPI
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
