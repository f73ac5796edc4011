"""Functions of the user that a run calls with each finished episode and each line of metrics."""

import difflib
import importlib
import inspect
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from actors.episode_metrics import MOST, RESERVED, Names, as_number, is_usable
from actors.faults import call_outside, described, place_of
from deploy.wiring.config import HooksConfig

SLOW = 1.0  # seconds of a call after which the run's log says so
_NOTED = 20  # notes of one hook
Note = Callable[[str], object]


class Hooks:
    """The hooks of one run. ValueError: a function cannot be imported or called with one dictionary.

    They run where the logs are written: in the supervisor, or in the process of an inline run. What a hook raises is
    noted once with its place, and the run goes on.
    """

    def __init__(self, config: HooksConfig, note: Note = print):
        self._episode_end = Hook("on_episode_end", config.on_episode_end, note) if config.on_episode_end else None
        self._train_result = Hook("on_train_result", config.on_train_result, note) if config.on_train_result else None

    def episode_end(self, line: Mapping[str, Any]) -> dict[str, float]:
        """Numbers to add to a line of scores.jsonl."""
        return self._episode_end(line, RESERVED) if self._episode_end else {}

    def train_result(self, line: Mapping[str, Any]) -> dict[str, float]:
        """Numbers to add to a line of metrics.jsonl."""
        return self._train_result(line) if self._train_result else {}


class Hook:
    """One function `module:function`."""

    def __init__(self, name: str, path: str, note: Note):
        self._title, self._say = f"hooks.{name}={path}", note
        self._function = _load(path, self._title)
        self._names = Names()
        self._noted: set[str] = set()

    def __call__(self, line: Mapping[str, Any], reserved: frozenset[str] = frozenset()) -> dict[str, float]:
        """Call the function with a copy of `line`. Returns its numbers whose names are neither in `line` nor
        `reserved`."""
        watch = threading.Timer(SLOW, self._slow)
        watch.daemon = True
        watch.start()
        try:
            returned = call_outside(lambda: self._function(dict(line)))
        except Exception as error:
            where, what = place_of(error), described(error)
            self._note(f"raised {type(error).__name__} {where}", f"{where}{where and ': '}{what}. The run goes on.")
            return {}
        finally:
            watch.cancel()
        if returned is None:
            return {}
        if not isinstance(returned, dict):
            self._note("type", f"returned a {type(returned).__name__}; return None or a dictionary of numbers.")
            return {}
        return self._numbers(returned, reserved | line.keys())

    def _numbers(self, returned: dict[Any, Any], taken: frozenset[str]) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name, value in list(returned.items())[: 2 * MOST]:
            number = as_number(value)
            if not isinstance(name, str) or not is_usable(name):
                self._note("name", f"returned {str(name)[:100]!r}, which cannot be the name of a metric: left out.")
            elif name in taken:
                self._note(name, f"returned {name!r}, which the line has already: left out.")
            elif isinstance(number, str):
                self._note(name, f"returned {name!r}, which is {number}: left out.")
            else:
                numbers[name] = number
        for left in self._names.admit(numbers):
            self._note("number", left)
        return {name: number for name, number in numbers.items() if name in self._names}

    def _slow(self) -> None:
        waits = "and the supervisor (inline: training) waits for it"
        self._note("slow", f"takes over {SLOW:g} s, {waits}; do slow work in a thread of your own.")

    def _note(self, about: str, text: str) -> None:
        if about not in self._noted and len(self._noted) < _NOTED:
            self._noted.add(about)
            self._say(f"{self._title}: {text}")


def _load(path: str, title: str) -> Callable[[dict[str, Any]], Any]:
    module, _, attribute = path.partition(":")
    importlib.invalidate_caches()
    try:
        found: Any = call_outside(lambda: importlib.import_module(module))
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (module == missing or module.startswith(missing + ".")):
            raise ValueError(
                f"{title}: there is no module {missing!r} in {os.getcwd()} or on PYTHONPATH; run the command in the "
                f"folder of {module.replace('.', '/')}.py, or add that folder to PYTHONPATH."
            ) from error
        raise ValueError(
            f"{title}: {place_of(error) or f'module {module}'}: {described(error)}. Correct it."
        ) from error
    file = getattr(found, "__file__", None) or module
    if not hasattr(found, attribute):
        near = difflib.get_close_matches(attribute, dir(found), n=3)
        nearest = f" The nearest are {', '.join(near)}." if near else ""
        raise ValueError(f"{title}: {file} has no {attribute!r}.{nearest}")
    function = getattr(found, attribute)
    wanted = f"write def {attribute}(line): ... in {file}."
    if not callable(function):
        raise ValueError(f"{title}: {attribute} is a {type(function).__name__}, not a function; {wanted}")
    if any(kind(function) for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction,
                                       inspect.isasyncgenfunction)):  # fmt: skip
        raise ValueError(f"{title}: {attribute} is a coroutine or generator, which a call does not run; {wanted}")
    try:
        inspect.signature(function).bind({})
    except TypeError as error:
        raise ValueError(f"{title}: it is called with one argument, a dictionary: {error}; {wanted}") from error
    except ValueError:  # written in C, without a signature
        pass
    return function
