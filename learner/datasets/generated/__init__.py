"""Small datasets made by code from a seed: they need no download, and simple methods do not solve them."""

from collections.abc import Callable, Mapping

from learner.datasets.generated.digits import digits, fresh_digits
from learner.datasets.generated.held import Held
from learner.datasets.generated.motion import fresh_motion, motion

GENERATED: Mapping[str, Callable[[str, int], Held]] = {
    "digits": digits,
    "fresh_digits": fresh_digits,
    "motion": motion,
    "fresh_motion": fresh_motion,
}
"""By name: functions of split (`train`, `test`) and seed."""
