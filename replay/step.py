"""The keys of a step: the schema that every row is checked against once, where it enters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np

Rows = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a step: `shape` is that of a single step."""

    dtype: np.dtype
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.dtype.hasobject:
            raise ValueError(f"A replay field cannot hold Python objects, got dtype {self.dtype}; use a numeric dtype.")

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


_ALIGNMENT = 8  # the stride is a multiple of these bytes: every element is aligned in a view


def packed(fields: Mapping[str, Field]) -> np.dtype:
    """The dtype of a packed row of all fields: widest elements first, so all are aligned without padding between."""
    names = sorted(fields, key=lambda key: (-fields[key].dtype.alignment, key))
    offsets = np.cumsum([0, *(fields[key].nbytes for key in names)])
    return np.dtype(
        {
            "names": names,
            "formats": [(fields[key].dtype, fields[key].shape) for key in names],
            "offsets": offsets[:-1].tolist(),
            "itemsize": -(-int(offsets[-1]) // _ALIGNMENT) * _ALIGNMENT,
        }
    )


FLAGS = ("reward", "is_first", "is_last", "is_terminal")
"""Keys that an environment returns besides its observation."""
RESERVED: Mapping[str, Field] = {
    "reward": Field(dtype=np.dtype(np.float32)),
    "is_first": Field(dtype=np.dtype(np.bool_)),
    "is_last": Field(dtype=np.dtype(np.bool_)),
    "is_terminal": Field(dtype=np.dtype(np.bool_)),
    "version": Field(dtype=np.dtype(np.int32)),  # the policy snapshot that chose the row's action
}


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The keys of a step: `fields` never change once written; `latents` are refreshed by the learner."""

    fields: Mapping[str, Field]
    latents: Mapping[str, Field]
    row_dtype: np.dtype = dataclass_field(init=False, repr=False, compare=False)
    """A packed row: numpy structured dtype of `fields`."""
    latent_dtype: np.dtype = dataclass_field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", dict(self.fields))
        object.__setattr__(self, "latents", dict(self.latents))
        twice = sorted(set(self.fields) & set(self.latents))
        if twice:
            raise ValueError(f"Keys {twice} are both fields and latents; a key is one or the other: rename one.")
        if not self.fields:
            raise ValueError("A replay schema needs at least one field, got none; name the observation keys.")
        object.__setattr__(self, "row_dtype", packed(self.fields))
        object.__setattr__(self, "latent_dtype", packed(self.latents))

    @classmethod
    def transitions(cls, *groups: Mapping[str, Field], latents: Mapping[str, Field] | None = None) -> "Schema":
        """Observation and action groups plus the reserved keys; ValueError if two groups share a key."""
        fields: dict[str, Field] = dict(RESERVED)
        for group in groups:
            taken = sorted(set(fields) & set(group))
            if taken:
                raise ValueError(f"Replay keys {taken} occur twice; rename them ({sorted(RESERVED)} are reserved).")
            fields |= group
        return cls(fields=fields, latents=latents or {})

    @property
    def all(self) -> dict[str, Field]:
        return {**self.fields, **self.latents}

    @property
    def nbytes(self) -> int:
        """Bytes of one stored step: its packed row and its latents."""
        return self.row_dtype.itemsize + self.latent_dtype.itemsize

    def check(self, rows: Mapping[str, Any]) -> tuple[Rows, int]:
        """Rows `[n, ...]` as arrays and n; ValueError names the key, and what was got and expected."""
        return check_rows(self.all, rows)

    def to_json(self) -> dict[str, dict[str, list[Any]]]:
        return {
            part: {key: [field.dtype.str, list(field.shape)] for key, field in sorted(getattr(self, part).items())}
            for part in ("fields", "latents")
        }

    @classmethod
    def from_json(cls, parts: Mapping[str, Mapping[str, Any]]) -> "Schema":
        return cls(
            **{
                part: {key: Field(dtype=np.dtype(dtype), shape=tuple(shape)) for key, (dtype, shape) in keys.items()}
                for part, keys in parts.items()
            }
        )


def check_rows(expected: Mapping[str, Field], rows: Mapping[str, Any], leading: int = 1) -> tuple[Rows, int]:
    """Rows as arrays, checked to have the same `leading` axes followed by their field's shape; and the length of the
    first axis. ValueError."""
    if rows.keys() != expected.keys():
        raise ValueError(f"Replay keys differ: {_difference(expected, rows)}. The keys are {sorted(expected)}.")
    out: Rows = {}
    lead: tuple[int, ...] | None = None
    for key, field in expected.items():
        value = rows[key]
        if type(value) is not np.ndarray:
            value = np.asarray(value)
        dtype, shape = value.dtype, value.shape
        lead = shape[:leading] if lead is None else lead
        if dtype is not field.dtype and dtype != field.dtype or shape != lead + field.shape:
            raise ValueError(
                f"Replay key {key!r}: got {value.dtype} {list(value.shape)}, expected {field.dtype} "
                f"{list(lead or ('n',) * leading)} + {list(field.shape)}; convert it where the row is made."
            )
        out[key] = value
    if lead is None or len(lead) != leading:
        raise ValueError(f"Replay rows need {leading} leading axes, got {lead}; stack single steps first.")
    return out, lead[0]


def row_count(rows: Mapping[str, np.ndarray]) -> int:
    """The n of checked rows `[n, ...]`."""
    return len(next(iter(rows.values())))


def _difference(expected: Iterable[str], got: Iterable[str]) -> str:
    missing, unknown = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    parts = [f"{name} {keys}" for name, keys in (("missing", missing), ("unknown", unknown)) if keys]
    return ", ".join(parts)
