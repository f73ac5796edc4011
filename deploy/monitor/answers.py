"""Answers as compact JSON: arrays rounded to what can be seen, NaN as null."""

import json
import math
from typing import Any

import numpy as np
from starlette.responses import Response

DIGITS = 7


class Answer(Response):
    """A JSON response that no cache keeps."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200):
        super().__init__(to_text(content), status_code, {"cache-control": "no-store"})


def to_text(content: Any) -> str:
    """JSON with arrays as lists."""
    return json.dumps(plain(content), allow_nan=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """`value` without arrays and without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _list(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _list(values: np.ndarray) -> list[Any]:
    values = np.asarray(values, np.float64)
    good = np.isfinite(values)
    with np.errstate(all="ignore"):
        powers = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(np.where(good & (values != 0), values, 1.0)))))
        rounded = np.where(np.isfinite(powers) & (np.abs(values) < 1e15), np.round(values * powers) / powers, values)
    numbers: list[Any] = np.where(good, rounded, 0.0).tolist()
    for place in np.flatnonzero(~good):
        numbers[place] = None
    return numbers
