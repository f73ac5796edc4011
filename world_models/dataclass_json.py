"""Frozen configuration dataclasses to plain JSON values and back."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """Nested dictionaries of plain values; tuples become lists."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def from_json(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The inverse of `to_json`. ValueError for an unknown field, naming the nearest; absent ones take their default."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=3)
            raise ValueError(f"Unknown field {where}{name}; the nearest are {near or sorted(fields)}.")
        arguments[name] = _typed(hints[name], value, f"{where}{name}.")
    return kind(**arguments)


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_json(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next((arg for arg in typing.get_args(hint) if arg is not type(None)), hint)
    return tuple(value) if typing.get_origin(hint) is tuple and isinstance(value, list) else value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted fields in which two `to_json` values differ, each with both values."""
    out: dict[str, tuple[Any, Any]] = {}
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out |= differences(a, b, f"{where}{name}.")
        elif a != b:
            out[f"{where}{name}"] = (a, b)
    return out
