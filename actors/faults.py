"""Cheap checks of what an environment returns, made at every training step; errors name the location."""

import math
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args

import numpy as np

T = TypeVar("T")
SLACK = 1e-5
LARGEST = float(np.finfo(np.float32).max)
SWITCH = "(environment.check_steps=false trains without these checks)"


Kind = Literal["exception", "non_finite", "invalid", "timeout", "crash", "memory"]
"""How an environment failed: it raised, returned NaN or infinity, violated its declaration in another way, did not
answer in time, its process ended, or its process grew beyond its limit."""
KINDS: tuple[Kind, ...] = get_args(Kind)


class BrokenEnvironmentError(ValueError):
    """An environment failed: `what` is wrong, `where`, and the `remedy`. `details`: a traceback or the last output of
    another process."""

    def __init__(self, what: str, where: str, remedy: str, kind: Kind = "invalid", details: str = "") -> None:
        super().__init__(f"{where}: {what.rstrip('.')}. {remedy}")
        self.what, self.where, self.remedy, self.kind, self.details = what, where, remedy, kind, details

    def __reduce__(self) -> tuple[type, tuple[str, str, str, Kind, str]]:
        return type(self), (self.what, self.where, self.remedy, self.kind, self.details)  # it crosses processes


class OutsideError(ValueError):
    """What happened to, or in, the process of an environment. `place`: file, line and function, if known."""

    def __init__(self, kind: Kind, what: str, remedy: str, place: str = "", details: str = "") -> None:
        super().__init__(f"{what.rstrip('.')}. {remedy}")
        self.kind, self.what, self.remedy, self.place, self.details = kind, what, remedy, place, details


class ExitedError(RuntimeError):
    """An environment tried to end the program."""


def raised(error: Exception, where: str = "") -> BrokenEnvironmentError:
    """An error raised by an environment's own code, with the line that raised it."""
    if isinstance(error, OutsideError):
        place = ", ".join(part for part in (where, error.place) if part)
        return BrokenEnvironmentError(error.what, place, error.remedy, error.kind, error.details)
    place = ", ".join(part for part in (where, place_of(error)) if part)
    remedy = "Correct that line, or the value it was given."
    if isinstance(error, ExitedError):
        return BrokenEnvironmentError(str(error), place, "Raise an error instead.", "exception")
    return BrokenEnvironmentError(f"raised {described(error)}", place, remedy, "exception")


def described(error: BaseException) -> str:
    """`KeyError: 'goal'`: the error in one line, without a trailing full stop."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException) -> str:
    """File, line and function where an environment's own code failed: the innermost frame that is neither ours nor a
    library's, else the innermost that is not ours; empty if all are ours."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for one in reversed(chain):
        if isinstance(one, SyntaxError) and one.filename and not one.filename.startswith("<"):
            return f"{one.filename}, line {one.lineno or 1}"
    frames = [frame for one in reversed(chain) for frame in reversed(traceback.extract_tb(one.__traceback__))]
    others = [frame for frame in frames if not _lies_in(frame.filename, _OURS) and not frame.filename.startswith("<")]
    theirs = [frame for frame in others if not _lies_in(frame.filename, _LIBRARIES)]
    for frame in [*theirs, *(frame for frame in others if "importlib" not in frame.filename)]:
        return f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return ""


def is_theirs(file: str) -> bool:
    """Whether a source file is neither ours nor a library's."""
    return not file.startswith("<") and not _lies_in(file, _OURS) and not _lies_in(file, _LIBRARIES)


def _lies_in(file: str, folders: tuple[str, ...]) -> bool:
    return os.path.abspath(file).startswith(folders)


_ROOT = Path(__file__).parents[1]
_OURS = tuple(f"{_ROOT / name}{os.sep}" for name in ("actors", "learner", "replay", "world_models", "deploy"))
_LIBRARIES = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {
    os.path.dirname(os.path.dirname(np.__file__)) + os.sep
})  # fmt: skip


def call_outside(call: Callable[[], T]) -> T:
    """Run third-party code, which must not end the program. Raises ExitedError if it tries to."""
    with cannot_exit():
        try:
            return call()
        except SystemExit as error:
            raise exited(error) from error


class cannot_exit:  # noqa: N801 (used as a statement)
    """While it is entered, code that would end the process raises SystemExit."""

    __slots__ = ("_leave", "_pid")

    def __enter__(self) -> None:
        self._pid, self._leave = os.getpid(), os._exit
        os._exit = self._refuse  # type: ignore[assignment]

    def _refuse(self, code: int) -> NoReturn:
        if os.getpid() != self._pid:  # a process that it forked may exit
            self._leave(code)
        raise SystemExit(code)

    def __exit__(self, *_: object) -> None:
        os._exit = self._leave


def exited(error: SystemExit) -> ExitedError:
    """What is raised instead of a SystemExit of third-party code."""
    instead = ExitedError(f"tried to end the program with code {error.code}")
    instead.__cause__ = error
    return instead


def with_slack(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slightly widened bounds, so that float32 rounding in an environment does not count as leaving its space."""
    with np.errstate(over="ignore"):  # beyond the largest float64 everything is allowed
        slack = SLACK + sum(SLACK * np.where(np.isfinite(side), np.abs(side), 0) for side in (low, high))
        return low - slack, high + slack


def require_array(
    value: Any,
    where: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    low: np.ndarray | float | None,
    high: np.ndarray | float | None,
) -> np.ndarray:
    """`value` if it is an array of this dtype and shape, finite and within the bounds (None: unbounded).

    Raises BrokenEnvironmentError otherwise. A dtype that converts without loss passes.
    """
    if not isinstance(value, np.ndarray | np.generic):
        raise BrokenEnvironmentError(
            f"wrong type: a {type(value).__name__}, the space declares a {dtype.name} array of shape {shape}",
            where,
            f"Return np.asarray(value, np.{dtype.name}).",
        )
    array = np.asarray(value)
    if array.dtype == object:
        raise BrokenEnvironmentError(
            "wrong dtype: object, an array of parts that are not numbers or differ in shape",
            where,
            f"Return one {dtype.name} array of shape {shape}.",
        )
    if array.dtype != dtype and not np.can_cast(array.dtype, dtype):
        raise BrokenEnvironmentError(
            f"wrong dtype: {array.dtype.name}, the space declares {dtype.name}",
            where,
            _dtype_remedy(array.dtype, dtype),
        )
    if array.shape != shape:
        raise BrokenEnvironmentError(
            f"wrong shape: {array.shape}, the space declares {shape}",
            where,
            f"Return an array of shape {shape}, or declare the space with shape={array.shape}.",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = _first(~np.isfinite(array))
        raise BrokenEnvironmentError(
            f"not finite: element {index} is {array[index]}",
            where,
            "Find the division, logarithm or overflow that produced it.",
            "non_finite",
        )
    if array.dtype == np.float64 and (np.abs(array) > LARGEST).any():
        index = _first(np.abs(array) > LARGEST)
        raise BrokenEnvironmentError(
            f"too large: element {index} is {array[index]:g}, the largest float32 is {LARGEST:.3g}",
            where,
            "Scale the value, or take its logarithm.",
        )
    if (low is not None and np.any(array < low)) or (high is not None and np.any(array > high)):
        least, most = (-np.inf if low is None else low), (np.inf if high is None else high)
        index = _first((array < least) | (array > most))
        sides = ", ".join(f"{np.broadcast_to(side, shape)[index]:.4g}" for side in (least, most))
        raise BrokenEnvironmentError(
            f"outside its space: element {index} is {array[index]}, the space allows [{sides}]",
            where,
            f"Widen the space's low and high, or clip the value to them {SWITCH}.",
        )
    return array


def _dtype_remedy(given: np.dtype, declared: np.dtype) -> str:
    if given.kind == "c":
        return "Return its real and imaginary parts as two float32 arrays, and declare a Box for each."
    if given.kind not in "fiub":
        return f"Return numbers, a {declared.name} array."
    return f"Return value.astype(np.{declared.name}), or declare the space with dtype=np.{given.name} {SWITCH}."


def require_index(value: Any, where: str, start: int, count: int) -> int:
    """`value` as an int if it is an integer in [start, start + count); raises BrokenEnvironmentError otherwise."""
    integral = isinstance(value, int | np.integer) or (
        isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu"
    )
    if not integral or isinstance(value, bool):
        kind = value.dtype.name if isinstance(value, np.ndarray | np.generic) else type(value).__name__
        raise BrokenEnvironmentError(f"wrong dtype: {kind} {value!r}, the space is discrete", where, "Return an int.")
    if not start <= int(value) < start + count:
        raise BrokenEnvironmentError(
            f"outside its space: {value}, the space allows {start} to {start + count - 1}",
            where,
            "Declare the space with more values, or correct the value.",
        )
    return int(value)


def require_keys(value: Any, where: str, keys: Iterable[Any]) -> None:
    """Raise BrokenEnvironmentError unless `value` is a mapping with exactly these keys."""
    expected = set(keys)
    if not hasattr(value, "keys"):
        raise BrokenEnvironmentError(
            f"wrong type: a {type(value).__name__}, the space has parts", where, f"Return all of {_sorted(expected)}."
        )
    if set(value.keys()) != expected:
        raise BrokenEnvironmentError(
            f"wrong keys: {_sorted(value.keys())}, the space declares {_sorted(expected)}",
            where,
            "Return exactly the declared keys.",
        )


def require_reward(value: Any, where: str) -> float:
    """`value` as a finite float; raises BrokenEnvironmentError otherwise."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, int | float | np.number | np.bool_):
        raise BrokenEnvironmentError(f"wrong reward: {value!r} is a {type(value).__name__}", where, "Return one float.")
    reward = float(value)
    if not math.isfinite(reward):
        raise BrokenEnvironmentError(
            f"wrong reward: {reward}, a reward must be finite",
            where,
            "Find the division, logarithm or overflow that produced it.",
            "non_finite",
        )
    if abs(reward) > LARGEST:
        raise BrokenEnvironmentError(
            f"wrong reward: {reward:g}, the largest float32 is {LARGEST:.3g}", where, "Scale the rewards down."
        )
    return reward


def require_flag(value: Any, where: str) -> bool:
    """`value` as a bool; raises BrokenEnvironmentError unless it is clearly true or false."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    array = np.asarray(value) if isinstance(value, int | np.ndarray | np.generic) else None
    if array is None or array.size != 1 or array.dtype.kind not in "iub" or array.item() not in (0, 1):
        raise BrokenEnvironmentError(
            f"wrong flag: {value!r} is a {type(value).__name__}", where, "Return True or False."
        )
    return bool(array.item())


def _sorted(keys: Iterable[Any]) -> list[Any]:
    """The keys in a fixed order, whatever their types."""
    return sorted(keys, key=lambda key: (type(key).__name__, key))


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])
