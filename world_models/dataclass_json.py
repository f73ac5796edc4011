"""Frozen configuration dataclasses to plain JSON values and back."""

import dataclasses
import difflib
import math
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


def from_json(kind: type[T], values: Any, where: str = "") -> T:
    """The inverse of `to_json`; missing fields take their defaults.

    Raises ValueError naming the field, its value and the expected type, or the fields nearest to an unknown one.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'It'} is {_shown(values)}, expected a mapping of fields to values.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    arguments = {}
    prefix = f"{where}." if where else ""
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=3) or sorted(fields)
            raise ValueError(f"Unknown field {prefix}{name}; the nearest: {', '.join(near)}.")
        arguments[name] = _typed(hints[name], value, f"{prefix}{name}")
    config = kind(**arguments)
    require_finite(config, prefix)
    return config


def require_finite(config: Any, prefix: str = "") -> None:
    """Raises ValueError if a number in a tree of dataclasses is NaN, or infinite and not the field's default."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            require_finite(value, f"{prefix}{field.name}.")
        elif isinstance(value, float) and not math.isfinite(value) and (math.isnan(value) or value != field.default):
            raise ValueError(f"{prefix}{field.name}={value} must be a finite number.")


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (hint,) = (arg for arg in args if arg is not type(None))
        return _typed(hint, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"{where} is {_shown(value)}, expected one of: {', '.join(map(str, args))}.")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} is {_shown(value)}, expected a list.")
        return tuple(_typed(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} is {_shown(value)}, expected {_NAMES[hint]}{_number_in(value, hint)}.")
    return value


_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    kinds = {str: "a string", bool: "a boolean", list: "a list", dict: "a mapping"}
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kinds.get(type(value), type(value).__name__)})"


def _number_in(value: Any, hint: type) -> str:
    """How to write a number that YAML reads as a string, such as 1e6 or 1e-3; empty for any other value."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    if hint is int and number.is_integer():
        return f"; write {int(number)}"
    return f"; write {number!r}" if hint is float and math.isfinite(number) and "e" not in repr(number) else ""


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted names of the fields in which two `to_json` values differ, with both values."""
    out: dict[str, tuple[Any, Any]] = {}
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out |= differences(a, b, f"{where}{name}.")
        elif a != b:
            out[f"{where}{name}"] = (a, b)
    return out
