"""What planners return, what they continue from, and what they have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from world_models.planning.actions import ActionLayout

Evaluate = Callable[[Tensor], Tensor]
"""The costs `[P S]` of action sequences `[P S H A]`: S of each of P problems, the least is the best."""


class Warm(NamedTuple):
    """Where the next plan begins: the mean of a distribution over actions, and sequences worth a second look."""

    mean: Float[Tensor, "P H A"]
    elites: Float[Tensor, "P K H A"]
    """K may be 0."""


class Plan(NamedTuple):
    """The result of planning P problems."""

    actions: Float[Tensor, "P H A"]
    cost: Float[Tensor, " P"]
    """What the planner expects of them."""
    warm: Warm


@runtime_checkable
class Planner(Protocol):
    """Searches sequences of `horizon` actions."""

    @property
    def horizon(self) -> int: ...

    def plan(
        self, evaluate: Evaluate, layout: ActionLayout, problems: int, generator: torch.Generator,
        warm: Warm | None = None,
    ) -> Plan:  # fmt: skip
        """Plan all problems at once, from `warm` if there was a plan before."""
        ...


@dataclass(frozen=True, kw_only=True)
class SamplingPlanner:
    """What planners that sample sequences have in common: a `Planner` whose `search` is its own."""

    horizon: int = 12
    """Steps planned ahead."""
    samples: int = 512
    """Sequences tried at once for each problem."""

    @torch.inference_mode()
    def plan(
        self, evaluate: Evaluate, layout: ActionLayout, problems: int, generator: torch.Generator,
        warm: Warm | None = None,
    ) -> Plan:  # fmt: skip
        """Search from the plan before, if there is one. ValueError: the planner has no use for such actions."""
        return self.search(evaluate, layout, generator, warm or cold(layout, problems, self.horizon))

    def search(self, evaluate: Evaluate, layout: ActionLayout, generator: torch.Generator, start: Warm) -> Plan:
        """Plan all problems at once, from `start`."""
        raise NotImplementedError


def cold(layout: ActionLayout, problems: int, horizon: int) -> Warm:
    """The beginning without an earlier plan: the middle of the bounds, every class equally likely."""
    return Warm(layout.center(problems, horizon), torch.empty(problems, 0, horizon, layout.width, device=layout.device))


def shift(warm: Warm) -> Warm:
    """The beginning of the next plan when the first action has been taken; the last one is repeated (receding
    horizon)."""
    return Warm(*(torch.cat([part[..., 1:, :], part[..., -1:, :]], -2) for part in warm))


def restart(warm: Warm, rows: Bool[Tensor, " P"], layout: ActionLayout) -> Warm:
    """`warm`, but cold in the problems `rows`: a new episode has nothing to do with the last one."""
    first, mean = rows[:, None, None], layout.center(*warm.mean.shape[:2])
    return Warm(torch.where(first, mean, warm.mean), torch.where(first[:, None], layout.middle, warm.elites))


def lowest(cost: Float[Tensor, "P S"], actions: Float[Tensor, "P S H A"], count: int) -> Float[Tensor, "P count H A"]:
    """The `count` sequences of least cost of each problem, best first."""
    index = cost.topk(count, 1, largest=False).indices
    return actions.gather(1, index[:, :, None, None].expand(-1, -1, *actions.shape[2:]))


def require_settings(
    planner: object, *, counts: Sequence[str] = (), positive: Sequence[str] = (), shares: Sequence[str] = ()
) -> None:
    """ValueError if a field that counts something is below 1, one that must be positive is not, or one that is a share
    lies outside [0, 1]."""
    kind = type(planner).__name__
    for name in counts:
        if (value := getattr(planner, name)) < 1:
            raise ValueError(f"{kind} {name}={value} must be at least 1; raise it.")
    for name in positive:
        if not (value := getattr(planner, name)) > 0:
            raise ValueError(f"{kind} {name}={value} must be positive; raise it.")
    for name in shares:
        if not 0 <= (value := getattr(planner, name)) <= 1:
            raise ValueError(f"{kind} {name}={value} must lie in [0, 1].")


def require_elites(planner: object, elites: int, samples: int, least: int = 1) -> None:
    """ValueError if there are too few elites, or more than samples."""
    if not least <= elites <= samples:
        raise ValueError(
            f"{type(planner).__name__} elites={elites} must lie between {least} and samples={samples}; a tenth is "
            "usual."
        )
