"""Numbers on a command line: what is not one is named with what is allowed."""

import argparse
from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def whole(text: str) -> int:
    """ValueError where `text` is not a whole number."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        number = 0.5
    near = f"; write {int(number)}" if number.is_integer() else ""
    raise ValueError(f"{text!r} is not a whole number{near}.")


def real(text: str) -> float:
    """ValueError where `text` is not a number."""
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number.") from error


def positive(text: str) -> int:
    """For argparse: a whole number of at least 1."""
    try:
        number = whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def number_registry() -> ConstructorRegistry:
    """For tyro."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type not in (int, float):
            return None
        read: Any = whole if info.type is int else real
        return PrimitiveConstructorSpec(
            nargs=1, metavar=info.type.__name__.upper(), instance_from_str=lambda texts: read(texts[0]),
            is_instance=lambda value: isinstance(value, info.type), str_from_instance=lambda value: [str(value)],
        )  # fmt: skip

    return registry
