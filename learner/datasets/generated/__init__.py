"""Small datasets made by code from a seed: they need no download, and simple methods do not solve them."""

from collections.abc import Callable, Mapping

from learner.datasets.generated.digits import digits
from learner.datasets.generated.held import Held
from learner.datasets.generated.motion import motion

GENERATED: Mapping[str, Callable[[str, int], Held]] = {"digits": digits, "motion": motion}
"""By name: functions of split (`train`, `test`) and seed."""
