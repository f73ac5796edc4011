"""Numbers on a command line: what is not one is refused, with what is allowed."""

from collections.abc import Callable
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Literal

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def whole(text: str) -> int:
    """ValueError if `text` is not a whole number."""
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
    """ValueError if `text` is not a number."""
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number.") from error


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = whole(text)
        if number < least:
            raise ValueError(f"must be at least {least}, not {number}.")
        return number

    return read


def _spec(kind: type | UnionType, read: Callable[[str], Any]) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1, metavar="FLOAT" if isinstance(0.5, kind) else "INT", instance_from_str=lambda texts: read(texts[0]),
        is_instance=lambda value: isinstance(value, kind), str_from_instance=lambda value: [str(value)],
    )  # fmt: skip


def _actors_spec() -> PrimitiveConstructorSpec[Any]:
    number = _at_least(1)

    def read(text: str) -> int | str:
        return "auto" if text == "auto" else number(text)

    return replace(_spec(int, read), metavar="INT|auto", is_instance=lambda value: isinstance(value, int | str | None))


Positive = Annotated[int, _spec(int, _at_least(1))]
NotNegative = Annotated[int, _spec(int, _at_least(0))]
Actors = Annotated[int | Literal["auto"] | None, _actors_spec()]
"""A number, or that the run chooses it."""
PositiveOrNone = Annotated[int | None, _spec(int | None, _at_least(1))]


def number_registry() -> ConstructorRegistry:
    """How tyro reads every other `int`, `float` and `float | None`."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is int:
            return _spec(int, whole)
        if info.type is float:
            return _spec(float, real)
        if info.type == float | None:
            return _spec(float | None, lambda text: None if text == "None" else real(text))
        return None

    return registry
