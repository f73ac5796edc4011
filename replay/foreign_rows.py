"""Converts rows written by other programs to a schema; errors name the key, what was found and what is expected.

Other programs have their own names and types: one-hot actions, float64 rewards, `discount` for `is_terminal`, no
`is_last`. There are also two conventions for a row's action: the official DreamerV3 and Nexus store the action chosen
*after* the row's observation, zero in the last row; DreamerV2 and its ports store the action that *led to* the row,
zero in the first. Legend: n rows, K classes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from replay.step import Field, Rows, Schema

IGNORED = re.compile(
    r"discount|stepid|consec|reset|seed|id|terminal|logprob|log_.*|log/.*|dyn/.*|enc/.*|dec/.*|dep/.*|policy_.*"
)
"""Keys of other programs that say nothing about the environment; everything else that is unknown is an error."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How foreign rows are read. `actions`: the keys of the schema that are actions, needed if actions led to their row
    (`leading`). `rename` maps their names to ours, `ignore` drops keys."""

    schema: Schema
    actions: frozenset[str] = frozenset()
    leading: bool = False
    rename: Mapping[str, str] | None = None
    ignore: frozenset[str] = frozenset()

    def fit(self, arrays: Mapping[str, np.ndarray], where: str, ends: bool = True) -> Rows:
        """Rows with the schema's fields; `ends`: the last row ends an episode if no key says otherwise."""
        given = {(self.rename or {}).get(key, key): value for key, value in arrays.items()}
        n = self._length(given, where)
        unknown = [key for key in given if key not in self.schema.all and not self._ignored(key)]
        if unknown:
            raise ValueError(
                f"{where}: key {unknown[0]!r} ({_describe(given[unknown[0]])}) is not among the keys of this replay: "
                f"{sorted(self.schema.fields)}; name it with --rename {unknown[0]}=OURS, or --ignore {unknown[0]}."
            )
        given |= _flags(given, n, where, ends)
        out: Rows = {}
        for key, field in self.schema.fields.items():
            if key not in given and key == "version":
                out[key] = np.zeros(n, field.dtype)
                continue
            if key not in given:
                raise ValueError(
                    f"{where}: key {key!r} is missing; this replay wants {_want(field)}, the file has "
                    f"{sorted(arrays)}. If it has another name there: --rename THEIRS={key}."
                )
            out[key] = convert(given[key], field, key, where)
        if self.leading:
            for key in self.actions:
                out[key] = _chosen(out[key], out["is_last"])
        return out

    def _ignored(self, key: str) -> bool:
        return key in self.ignore or IGNORED.fullmatch(key) is not None

    def _length(self, given: Mapping[str, np.ndarray], where: str) -> int:
        if "reward" not in given or given["reward"].ndim < 1 or not len(given["reward"]):
            what = f"{_describe(given['reward'])}, not one a step" if "reward" in given else "missing"
            raise ValueError(f"{where}: key 'reward' is {what}; the file has {sorted(given)}.")
        n = len(given["reward"])
        for key, value in given.items():
            if key in self.schema.fields and (value.ndim < 1 or len(value) != n):
                raise ValueError(
                    f"{where}: key {key!r} is {_describe(value)}, 'reward' has {n} rows; every key needs one row a "
                    "step, the first observation included."
                )
        return n


def looks_leading(actions: Iterable[np.ndarray]) -> bool:
    """Whether the actions `[n, ...]` of whole episodes led to their rows: the first is zero in every episode, the last
    non-zero in at least one."""
    some = False
    for action in actions:
        if len(action) and np.any(action[0]):
            return False
        some |= len(action) > 1 and bool(np.any(action[-1]))
    return some


def convert(value: np.ndarray, field: Field, key: str, where: str) -> np.ndarray:
    """`[n, ...]` in the field's dtype and shape. Raises ValueError if that would lose information."""
    wanted = (len(value), *field.shape)
    if _one_hot(value, field):
        value = value.argmax(-1)
    if value.shape != wanted and _squeezed(value.shape) == _squeezed(wanted):
        value = value.reshape(wanted)
    if value.shape != wanted:
        raise ValueError(f"{where}: key {key!r} is {_describe(value)}, this replay wants {_want(field)}.")
    if value.dtype == field.dtype:
        return value
    with np.errstate(over="ignore", invalid="ignore"):
        out = value.astype(field.dtype)
    if not _kept(value, out):
        raise ValueError(
            f"{where}: key {key!r} is {_describe(value)} with values from {value.min():g} to {value.max():g}, this "
            f"replay wants {_want(field)}, which cannot hold them; convert the file."
        )
    return out


def _kept(value: np.ndarray, out: np.ndarray) -> bool:
    """Whether a conversion changed nothing except by rounding floats."""
    if value.dtype.kind not in "biuf" or out.dtype.kind not in "biuf":
        return False
    if value.dtype.kind == "f" and out.dtype.kind == "f":
        return bool((np.isfinite(value) == np.isfinite(out)).all())
    if value.dtype.kind == "u" and value.ndim >= 3 and out.dtype.kind == "f":
        return False  # an image: 0..255 or 0..1?
    return bool((value == out).all())


def _one_hot(value: np.ndarray, field: Field) -> bool:
    """Whether `[n, ..., K]` is one-hot or all zeros (class 0) where the field has class indices `[n, ...]`."""
    if field.dtype.kind not in "iu" or field.dtype == np.uint8 or value.ndim != 2 + len(field.shape):
        return False
    if value.shape[1:-1] != field.shape or value.shape[-1] < 2 or value.dtype.kind not in "biuf":
        return False
    return bool(((value == 0) | (value == 1)).all() and (value.sum(-1) <= 1).all())


def _flags(given: Mapping[str, np.ndarray], n: int, where: str, ends: bool) -> Rows:
    """The flags that the rows lack, derived from those that they have."""
    out: Rows = {}
    if "is_first" not in given:
        out["is_first"] = np.arange(n) == 0
    first = np.asarray(given.get("is_first", out.get("is_first")), bool).reshape(n)
    if "is_last" not in given:
        out["is_last"] = np.append(first[1:], ends)[:n]
    if "is_terminal" not in given:
        if "discount" in given:
            last = np.asarray(given.get("is_last", out.get("is_last")), bool).reshape(n)
            out["is_terminal"] = last & (np.asarray(given["discount"]).reshape(n) == 0)
        elif "terminal" in given:
            out["is_terminal"] = np.asarray(given["terminal"]).reshape(n) != 0
        else:
            raise ValueError(
                f"{where}: neither 'is_terminal' nor 'discount' is there, so nothing says whether episodes ended or "
                f"were cut off; the file has {sorted(given)}. Add 'is_terminal', one bool a step."
            )
    return out


def _chosen(action: np.ndarray, is_last: np.ndarray) -> np.ndarray:
    """The action chosen after each row, from actions that led to rows; zero after a last row."""
    out = np.zeros_like(action)
    out[:-1] = action[1:]
    out[is_last] = 0
    return out


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + tuple(n for n in shape[1:] if n != 1)


def _describe(value: np.ndarray) -> str:
    return f"{value.dtype} {list(value.shape)}"


def _want(field: Field) -> str:
    return f"{field.dtype} {['n', *field.shape]}".replace("'n'", "n")
