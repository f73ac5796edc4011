"""Action sequences as vectors that planners can sample, average and keep within bounds."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from world_models.distributions import one_hot, pick_class
from world_models.space import Spaces


class _Part(NamedTuple):
    """Where one key of a dict action lies in the vector."""

    key: str
    place: slice
    shape: tuple[int, ...]
    classes: int
    """0: continuous."""


class ActionLayout:
    """The keys of a dict action in one vector `[A]`, as `concat_dict` lays them out: alphabetical, continuous values
    within `low` and `high`, discrete ones one-hot.

    A mean of such vectors holds the mean of each continuous value and the frequency of each class, so that one tensor
    describes a Gaussian and categorical distributions at once. A bound that is infinite counts as -1 or 1.
    """

    def __init__(self, spaces: Spaces, device: torch.device | None = None):
        if not spaces:
            raise ValueError("This world model takes no actions, so there is nothing to plan; use one that does.")
        self.device = device or torch.device("cpu")
        self.parts: list[_Part] = []
        low: list[np.ndarray] = []
        high: list[np.ndarray] = []
        begin = 0
        for key, space in sorted(spaces.items()):
            place = slice(begin, begin := begin + space.width)
            self.parts.append(_Part(key, place, space.shape, space.classes))
            for side, sides, open_end in ((space.low, low, -1.0), (space.high, high, 1.0)):
                value = np.asarray(float(open_end > 0) if space.discrete else side, np.float32)
                value = np.where(np.isfinite(value), value, open_end)
                sides.append(np.broadcast_to(value.reshape(-1), space.width))
        self.width = begin
        self.low, self.high = (torch.tensor(np.concatenate(side), device=self.device) for side in (low, high))
        self.half = (self.high - self.low) / 2
        self.middle = (self.low + self.high) / 2
        for part in self.parts:
            if part.classes:
                self.middle[part.place] = 1 / part.classes

    @property
    def continuous(self) -> bool:
        """Whether no key is discrete."""
        return not any(part.classes for part in self.parts)

    def require_continuous(self, planner: str) -> None:
        """ValueError if a key is discrete."""
        if discrete := [part.key for part in self.parts if part.classes]:
            raise ValueError(
                f"{planner} plans continuous actions, but {', '.join(discrete)} is discrete; use cem, mppi, "
                "predictive_sampling or random_shooting."
            )

    def center(self, problems: int, horizon: int) -> Float[Tensor, "P H A"]:
        """The middle of the bounds, and every class equally likely."""
        return self.middle.expand(problems, horizon, -1)

    def uniform(self, *lead: int, generator: torch.Generator) -> Float[Tensor, "... A"]:
        """Uniform actions: any value within the bounds, any class."""
        draws = torch.rand(*lead, self.width, generator=generator, device=self.device)
        actions = self.low + (self.high - self.low) * draws
        for part in self._discrete():
            index = (draws[..., part.place].unflatten(-1, (-1, part.classes))[..., 0] * part.classes).long()
            actions[..., part.place] = one_hot(index.clamp_max(part.classes - 1), part.classes).flatten(-2)
        return actions

    def sample(
        self, mean: Float[Tensor, "P H A"], noise: Float[Tensor, "P S H A"], uniform: float, generator: torch.Generator
    ) -> Float[Tensor, "P S H A"]:
        """Actions around a mean: continuous ones shifted by `noise` and clipped, classes drawn by their frequency,
        into which `uniform` of the uniform distribution is mixed."""
        actions = torch.minimum(torch.maximum(mean[:, None] + noise, self.low), self.high)
        for part in self._discrete():
            probs = mean[..., part.place].unflatten(-1, (-1, part.classes))[:, None]
            probs = ((1 - uniform) * probs + uniform / part.classes).expand(-1, noise.shape[1], -1, -1, -1)
            draws = torch.rand(probs.shape[:-1], generator=generator, device=self.device)
            actions[..., part.place] = one_hot(pick_class(probs, draws), part.classes).flatten(-2)
        return actions

    def nearest(self, mean: Float[Tensor, "... A"]) -> Float[Tensor, "... A"]:
        """The action nearest to a mean: continuous values clipped, of each discrete one the most frequent class."""
        actions = torch.minimum(torch.maximum(mean, self.low), self.high)
        for part in self._discrete():
            index = mean[..., part.place].unflatten(-1, (-1, part.classes)).argmax(-1)
            actions[..., part.place] = one_hot(index, part.classes).flatten(-2)
        return actions

    def by_key(self, actions: Float[Tensor, "N A"]) -> dict[str, Tensor]:
        """Actions as the actors take them: continuous values mapped from the bounds to [-1, 1], classes as int32."""
        unit = (actions - self.low) / (self.high - self.low) * 2 - 1
        out = {}
        for key, place, shape, classes in self.parts:
            values = actions[:, place].unflatten(-1, (-1, classes)).argmax(-1).int() if classes else unit[:, place]
            out[key] = values.reshape(len(actions), *shape)
        return out

    def vector(self, actions: dict[str, Tensor]) -> Float[Tensor, "N A"]:
        """The inverse of `by_key`."""
        parts = []
        for key, place, _, classes in self.parts:
            value = actions[key].flatten(1) if actions[key].ndim > 1 else actions[key][:, None]
            inside = self.low[place] + (value.float() + 1) / 2 * (self.high - self.low)[place] if not classes else None
            parts.append(one_hot(value.long(), classes).flatten(1) if inside is None else inside)
        return torch.cat(parts, -1)

    def _discrete(self) -> list[_Part]:
        return [part for part in self.parts if part.classes]
