"""Comparison of what our code computes with the arrays of one file of reference vectors.

Every array of the file must be claimed: read as an input, or compared. An output is never read for anything but its own
comparison, so that a wrong number in the file shows in that array alone.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch


class Kind(NamedTuple):
    """A tolerance class of the vectors' README."""

    tolerance: float
    meaning: str
    strict_zeros: bool = False
    """Where the reference is exactly zero, ours must be too."""
    absolute: bool = False
    """Errors are not divided by the array's magnitude."""


KINDS = {
    "forward": Kind(1e-4, "of the largest magnitude in the array"),
    "gradient": Kind(1e-3, "of the largest magnitude in the tensor"),
    "two_hot": Kind(1e-4, "of sum(p |bin|), as bins reach 4.85e8", strict_zeros=True),
    "norms": Kind(1e-3, "of each norm; zeros show where gradients stop", strict_zeros=True),
    "second_moment": Kind(2e-3, "of the largest magnitude: squares of gradients"),
    "momentum": Kind(1e-3, "of the largest magnitude, sign flips of rounding noise apart"),
    "parameters": Kind(1e-6, "absolute, or one float32 step beyond 8; sign flips of rounding noise apart"),
    "statistics": Kind(4.0, "standard errors"),
    "sampled": Kind(5.0, "standard errors between two samples; there are hundreds of numbers"),
    "activation": Kind(1e-5, "absolute: activations, gradients, parameters", absolute=True),
    "scalar": Kind(1e-6, "absolute: losses", absolute=True),
    "schedule": Kind(1e-9, "of each value"),
    "exact": Kind(0.0, "elements that differ"),
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Outcome for one array."""

    file: str
    name: str
    kind: str
    error: float = float("inf")
    tolerance: float = 0.0
    size: int = 0
    flips: int = 0
    """Elements that moved the other way, their gradient being rounding noise."""
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


class Actual(NamedTuple):
    """What our code computed for one array, and how to judge it."""

    value: np.ndarray
    kind: str
    scale: np.ndarray | None = None
    """Magnitude that errors are relative to, elementwise; by default the largest of the array."""
    noise: np.ndarray | None = None
    """Elements whose gradient is rounding noise, so that the sign of the first update is undetermined."""
    step: float = 0.0
    """Size of one step: a flipped element is off by it once (from zero) or twice."""
    distance: Callable[[np.ndarray], float] | None = None
    """The error of the file's array, where it is no elementwise difference: that of two samples."""


class Check:
    """The arrays of one file, and the comparisons made with them so far."""

    def __init__(self, file: str, arrays: Mapping[str, np.ndarray]):
        self.file, self.arrays = file, arrays
        self.inputs_read: set[str] = set()
        self.actuals: dict[str, Actual] = {}
        self.comparisons: dict[str, Comparison] = {}

    def names(self, prefix: str = "") -> list[str]:
        """What follows `prefix` in the names of arrays; reads nothing."""
        return sorted(name.removeprefix(prefix) for name in self.arrays if name.startswith(prefix))

    def groups(self, prefix: str = "") -> list[str]:
        """First path components behind `prefix`."""
        return sorted({name.split("/")[0] for name in self.names(prefix)})

    def input(self, name: str) -> np.ndarray:
        """One array, read as an input."""
        if name not in self.arrays:
            raise ValueError(f"{self.file} has no array {name!r}, which its schema needs; it may be cut or misnamed.")
        self.inputs_read.add(name)
        return np.asarray(self.arrays[name])

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.input(name)))

    def inputs(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays under `prefix`, keyed by the rest of their names."""
        return {name: self.input(prefix + name) for name in self.names(prefix)}

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name: self.tensor(prefix + name) for name in self.names(prefix)}

    def json(self, name: str = "config") -> dict[str, Any]:
        return json.loads(str(self.input(name)))

    def labels(self, name: str, ours: list[str]) -> list[str]:
        """`ours` in the order of the file's label array, which is compared as a set."""
        theirs = [str(label) for label in np.atleast_1d(self.arrays.get(name, sorted(ours)))]
        ordered = theirs if sorted(theirs) == sorted(ours) else sorted(ours)
        self.compare(name, np.array(ordered), "exact")
        return ordered

    def compare(
        self,
        name: str,
        actual: Any,
        kind: str = "forward",
        *,
        scale: Any = None,
        noise: Any = None,
        step: float = 0.0,
        distance: Callable[[np.ndarray], float] | None = None,
    ) -> None:
        """Record our value of array `name`; a name that the file does not have is passed over."""
        if name not in self.arrays:
            return
        assert name not in self.actuals, f"{name} compared twice"
        if self.arrays[name].dtype.kind in "iubU" and distance is None:
            kind = "exact"
        noise = None if noise is None else as_array(noise)
        scale = None if scale is None else as_array(scale)
        self.actuals[name] = Actual(as_array(actual), kind, scale, noise, step, distance)
        self.comparisons[name] = self.judge(name, self.arrays[name])

    def judge(self, name: str, expected: np.ndarray) -> Comparison:
        actual, expected = self.actuals[name], np.asarray(expected)
        error, flips, note = measure(actual, expected)
        tolerance = KINDS[actual.kind].tolerance
        return Comparison(
            file=self.file, name=name, kind=actual.kind, error=error, tolerance=tolerance,
            size=expected.size, flips=flips, note=note,
        )  # fmt: skip

    def finish(self) -> list[Comparison]:
        """All comparisons, with a failure for every unclaimed array and for too many sign flips."""
        out = list(self.comparisons.values())
        for kind in ("parameters", "momentum"):
            members = [c for c in out if c.kind == kind]
            flips, allowed = sum(c.flips for c in members), max(4, sum(c.size for c in members) // 10_000)
            if flips > allowed:
                note = f"{flips} elements moved the other way, at most {allowed} may"
                out.append(Comparison(file=self.file, name=f"({kind}: sign flips)", kind=kind, note=note))
        for name in sorted(set(self.arrays) - set(self.comparisons) - self.inputs_read):
            out.append(Comparison(file=self.file, name=name, kind="-", note="not covered"))
        return out


def as_array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def measure(actual: Actual, expected: np.ndarray) -> tuple[float, int, str]:
    """Largest error in units of the class, sign flips, and a remark where the arrays cannot be compared."""
    value, kind = actual.value, KINDS[actual.kind]
    if value.shape != expected.shape:
        return float("inf"), 0, f"shape {value.shape}, expected {expected.shape}"
    if _family(value) != _family(expected):
        return float("inf"), 0, f"dtype {value.dtype}, expected {expected.dtype}"
    if actual.kind == "exact":
        return float(np.sum(value != expected)), 0, ""
    if actual.distance is not None:
        return actual.distance(expected.astype(np.float64)), 0, ""
    ours, theirs = value.astype(np.float64), expected.astype(np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf"), 0, "not finite"
    tiny = np.finfo(np.float32).tiny  # XLA flushes smaller numbers to zero
    ours, theirs = (np.where(np.abs(x) < tiny, 0.0, x) for x in (ours, theirs))
    off = np.abs(ours - theirs)
    flipped = np.zeros(off.shape, bool)
    if actual.noise is not None:
        multiple = off / max(actual.step, 1e-300)
        flipped = actual.noise & ((np.abs(multiple - 1) < 0.02) | (np.abs(multiple - 2) < 0.02))
    if actual.scale is not None:
        scale = np.broadcast_to(actual.scale, off.shape).astype(np.float64)
    elif kind.absolute:
        scale = np.ones(off.shape)
    else:
        largest = np.abs(theirs).max(initial=0.0)
        scale = np.full(off.shape, largest or 1.0)
    relative = np.where(off == 0, 0.0, off / np.where(scale > 0, scale, 1e-300))
    if kind.strict_zeros:
        relative = np.where((theirs == 0) & (ours != 0), np.inf, relative)
    return float(np.where(flipped, 0.0, relative).max(initial=0.0)), int(flipped.sum()), ""


def _family(array: np.ndarray) -> str:
    return {"i": "integer", "u": "integer", "U": "text", "b": "bool"}.get(array.dtype.kind, "float")
