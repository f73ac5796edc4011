"""The filter of the page: which runs are meant.

Words must all be found in name, task, tags, note or state. `task:`, `name:`, `tag:`, `state:`, `seed:` look in one of
these; `score>400` and other comparisons in numbers of the run; any other `field=value` in its configuration, whose
names may be shortened to their end (`train_ratio=32`). `-` in front negates. Archived runs need `is:archived`.
"""

import math
import operator
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from deploy.monitor.history import number

LONGEST = 400  # characters
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_NUMBERS = ("score", "best", "frames", "updates", "episodes", "fps", "seed", "lag", "ratio")
_TEXTS = ("task", "name", "tag", "state", "seed", "note", "mode")
_TERM = re.compile(r"([\w.\-/]+)(>=|<=|!=|=|>|<|:)(.*)", re.DOTALL)


Term = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""Whether a run is meant, of its summary and its configuration by dotted names."""


def selection(text: str) -> Term:
    """The filter that the page's field has. ValueError names a term that means nothing."""
    if len(text) > LONGEST:
        raise ValueError(f"A filter has at most {LONGEST} characters.")
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that is still open
        words = text.replace('"', "").replace("'", "").split()
    terms = [_term(word) for word in words]
    archived = any(word.lower() == "is:archived" for word in words)

    def matches(summary: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
        return bool(summary["archived"]) == archived and all(term(summary, values) for term in terms)

    return matches


def _term(word: str) -> Term:
    if word.startswith("-") and len(word) > 1:
        inner = _term(word[1:])
        return lambda summary, values: not inner(summary, values)
    found = _TERM.fullmatch(word)
    if not found:
        return lambda summary, values: word.lower() in _text(summary)
    name, sign, wanted = found.groups()
    if sign == ":":
        return _field_term(name, wanted.lower(), word)
    if sign in _COMPARE:
        try:
            limit = float(wanted)
        except ValueError as error:
            raise ValueError(f"{word!r}: {wanted!r} is not a number.") from error
        return lambda summary, values: _COMPARE[sign](_number(name, summary, values), limit)
    return lambda summary, values: _equal(name, wanted, summary, values) == (sign == "=")


def _field_term(name: str, wanted: str, word: str) -> Term:
    if name == "is":
        if wanted not in ("archived", "live", "failed"):
            raise ValueError(f"{word!r}: is: takes archived, live or failed.")
        if wanted == "live":
            return lambda summary, values: bool(summary["active"])
        if wanted == "archived":
            return lambda summary, values: bool(summary["archived"])
        return lambda summary, values: summary["state"] == wanted
    if name not in _TEXTS:  # gym:CartPole-v1, say
        return lambda summary, values: word.lower() in _text(summary)
    if name == "tag":
        return lambda summary, values: any(wanted in tag.lower() for tag in summary["tags"])
    return lambda summary, values: wanted in str(summary[name]).lower()


def _text(summary: Mapping[str, Any]) -> str:
    return " ".join([summary["name"], summary["task"], summary["state"], summary["note"], *summary["tags"]]).lower()


def _number(name: str, summary: Mapping[str, Any], values: Mapping[str, Any]) -> float:
    found = summary.get(name) if name in _NUMBERS else next(iter(_fields(name, values)), None)
    return number(found)


def _equal(name: str, wanted: str, summary: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    candidates = [summary[name]] if name in (*_NUMBERS, "task", "name", "state", "mode") else _fields(name, values)
    for value in candidates:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                if math.isclose(number(value), float(wanted)):
                    return True
            except ValueError:
                continue
        elif str(value).lower() == wanted.lower():
            return True
    return False


def _fields(name: str, values: Mapping[str, Any]) -> list[Any]:
    """Fields whose dotted name is `name`, or ends in it."""
    wanted = name.replace("-", "_")
    return [value for key, value in values.items() if key == wanted or key.endswith(f".{wanted}")]
