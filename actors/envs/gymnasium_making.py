"""Finds and makes Gymnasium environments; errors in third-party code are reported with their location."""

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from actors.closing import close_outside
from actors.envs import rendering, unknown_task
from actors.faults import call_outside, described, place_of

PACKAGES = {"ALE": "ale_py", "minigrid": "minigrid", "highway": "highway_env", "procgen": "procgen"}
"""The module that registers each namespace; its package has the same name, with dashes."""
_PREFIXES = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
"""The same for IDs without a namespace that begin alike."""
_EXTRAS = {"minigrid": "minigrid"}
"""The extra of nexus-worlds that installs a module of these."""


def task_names() -> list[str]:
    """Tasks registered with Gymnasium so far."""
    return [f"gym:{name}" for name in gymnasium.registry]


def make_raw(task: str) -> gymnasium.Env:
    """The raw environment `gym:ID` or `gym:MODULE:ID`. Raises ValueError saying what failed, where, and what to do."""
    rendering.choose_when_imported()
    with naming_sources():
        return _make_raw(task)


@contextmanager
def naming_sources() -> Iterator[None]:
    """Adds file and line to errors in which Python names neither: NUL bytes in a file, or a parser that gives up."""
    compiled = SourceFileLoader.source_to_code

    def source_to_code(loader: Any, data: Any, path: Any, **options: Any) -> Any:
        try:
            return compiled(loader, data, path, **options)
        except Exception as error:
            if isinstance(error, SyntaxError) and error.filename:
                raise
            before, nul, _ = data.partition(b"\0") if isinstance(data, bytes) else (b"", b"", b"")
            what = "a NUL byte; save the file as UTF-8" if nul else described(error)
            line = 1 + before.count(b"\n") if nul else 1
            raise SyntaxError(what, (path, line, None, None)) from None

    SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        SourceFileLoader.source_to_code = compiled  # type: ignore[method-assign]


def _make_raw(task: str) -> gymnasium.Env:
    module, _, name = task.removeprefix("gym:").rpartition(":")
    imported = module or _registrar(name)
    if module or importlib.util.find_spec(imported or "_"):
        import_module(imported, task)
    spec = _spec(task, module, name)
    creator = _creator(spec, task, module)
    try:
        with _quiet(creator):
            environment = call_outside(lambda: _made(spec, creator))
    except Exception as error:
        raise ValueError(f"Task {task!r} cannot be made: {reason(error, creator)}") from error
    try:
        require_spaces(environment, task)
    except ValueError:
        close_outside(environment.close, task)
        raise
    return environment


def require_spaces(environment: gymnasium.Env, task: str) -> None:
    """ValueError if it does not declare both spaces."""
    for side in ("observation_space", "action_space"):
        if not isinstance(getattr(environment, side, None), gymnasium.Space):
            raise ValueError(
                f"Task {task!r}: {source(type(environment.unwrapped))} has no {side}; set self.{side} to a "
                "gymnasium.spaces.Space in __init__."
            )


def import_module(module: str, task: str) -> None:
    """Import the user's module that registers a task. ValueError says what is wrong with it, where, and what to do."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no file there shadows an installed package
    importlib.invalidate_caches()
    try:
        call_outside(lambda: importlib.import_module(module))
    except Exception as error:
        if rendering.is_about_drawing(error):
            raise ValueError(f"Task {task!r}: {rendering.no_renderer()}") from error
        missing = error.name if isinstance(error, ModuleNotFoundError) else ""
        if missing and (module == missing or module.startswith(missing + ".")):
            package = module.partition(".")[0]
            remedy = (
                f"install the package: {_installing(package)}"
                if package in PACKAGES.values()
                else f"run the command in the folder of {module.replace('.', '/')}.py, or add that folder to PYTHONPATH"
            )
            raise ValueError(
                f"Task {task!r}: there is no module {module!r} in {os.getcwd()} or on PYTHONPATH; {remedy}."
            ) from error
        remedy = f"pip install {missing.partition('.')[0]}, or correct the import" if missing else "Correct that line"
        where = place_of(error) or f"module {module}"
        raise ValueError(f"Task {task!r}: {where}: {described(error)}. {remedy}.") from error


def _registrar(name: str) -> str:
    """The module that registers a well-known ID; empty for any other."""
    namespace = name.rpartition("/")[0]
    alike = (module for prefix, module in _PREFIXES.items() if name.startswith(prefix))
    return PACKAGES.get(namespace) or next(alike, "")


def _installing(module: str) -> str:
    """The command that installs a module of `PACKAGES`."""
    extra = _EXTRAS.get(module)
    return f'pip install "nexus-worlds[{extra}]"' if extra else f"pip install {module.replace('_', '-')}"


def _spec(task: str, module: str, name: str) -> EnvSpec:
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        if not module and (registrar := _registrar(name)) and sys.modules.get(registrar) is None:
            package = registrar.replace("_", "-")
            raise ValueError(f"Task {task!r} needs the package {package}: {_installing(registrar)}") from error
        if module:
            own = sorted(
                key for key, spec in gymnasium.registry.items()
                if module in str(spec.entry_point) or getattr(spec.entry_point, "__module__", "") == module
            )  # fmt: skip
            raise ValueError(
                f"Importing {module!r} ({file_of(module)}) did not register {name!r} with Gymnasium (it registered "
                f"{own}); call gymnasium.register(id={name!r}, entry_point=YourClass) at the top level of that file."
            ) from error
        raise unknown_task(task, task_names()) from error


def _creator(spec: EnvSpec, task: str, module: str) -> Any:
    if spec.entry_point is None:
        where = f" by {file_of(module)}" if module else ""
        raise ValueError(
            f"Task {task!r} is registered{where} with vector_entry_point={spec.vector_entry_point!r} alone; "
            "register the single environment too: gymnasium.register(id=..., entry_point=YourClass)."
        )
    if callable(spec.entry_point):
        return spec.entry_point
    try:
        return call_outside(lambda: load_env_creator(str(spec.entry_point)))
    except Exception as error:
        what = reason(error, None)
        raise ValueError(f"Task {task!r}: its entry point {spec.entry_point!r} cannot be loaded: {what}") from error


def _quiet(creator: Any) -> AbstractContextManager[None]:
    """Gymnasium's own MuJoCo environments are made without remarks on their model files."""
    if not getattr(creator, "__module__", "").startswith("gymnasium.envs.mujoco") or not find_spec("mujoco"):
        return nullcontext()
    from actors.envs.mujoco_warnings import without_deprecations

    return without_deprecations()


def _made(spec: EnvSpec, creator: Any) -> gymnasium.Env:
    metadata = getattr(creator, "metadata", {})
    modes = metadata.get("render_modes") if isinstance(metadata, Mapping) else None
    draws = isinstance(modes, list | tuple | set | frozenset) and "rgb_array" in modes
    options: dict[str, Any] = {"render_mode": "rgb_array"} if draws and "render_mode" not in spec.kwargs else {}
    try:
        return _make(spec, creator, metadata, options)
    except TypeError as error:
        if not options or "unexpected keyword argument 'render_mode'" not in str(error):
            raise
    return _make(spec, creator, metadata, {})  # it declares rgb_array but does not take render_mode


def _make(spec: EnvSpec, creator: Any, metadata: Any, options: dict[str, Any]) -> gymnasium.Env:
    if isinstance(metadata, dict | property) or not isinstance(creator, type):
        # Our own checks name the key, the location and the remedy, so Gymnasium's checkers stay off.
        return gymnasium.make(replace(spec, order_enforce=False), disable_env_checker=True, **options)
    environment = creator(**{**spec.kwargs, **options})  # Gymnasium rejects any other metadata
    if not isinstance(environment, gymnasium.Env):
        raise TypeError(f"The environment must inherit from the gymnasium.Env class, actual class: {creator}")
    if spec.max_episode_steps is not None:
        environment = gymnasium.wrappers.TimeLimit(environment, spec.max_episode_steps)
    return environment


def reason(
    error: Exception, creator: Any, give: str = "register the task with gymnasium.register(..., kwargs={...})",
    omit: str = "register the task without it in kwargs",
) -> str:  # fmt: skip
    """What went wrong, in which file and line, and the remedy; `give` and `omit`: how to correct an argument."""
    if rendering.is_about_drawing(error):
        return str(rendering.no_renderer())
    text = " ".join(str(error).split())
    where = place_of(error) or source(creator)
    if isinstance(error, gymnasium.error.DependencyNotInstalled) and "box2d" in text.lower():
        return 'the package Box2D is missing: pip install "nexus-worlds[box2d]"'
    if isinstance(error, gymnasium.error.DependencyNotInstalled) or isinstance(error.__cause__, ModuleNotFoundError):
        packages = re.search(r"pip install [^`']*(\"[^\"]*\"|'[^']*'|[\w.\[\]-]+)", text)
        return f"a package is missing: {text}" + ("" if packages else f" ({where})")
    if isinstance(error, ModuleNotFoundError):
        return f"{where}: {text}; pip install {(error.name or '').partition('.')[0]}"
    if "must inherit from the gymnasium.Env class" in text or "Gym is incompatible with Gymnasium" in text:
        return f"{source(creator)} does not make a gymnasium.Env; derive its class from gymnasium.Env."
    if isinstance(error, TypeError) and (missing := re.search(r"missing \d+ required .*?: (.*?)( was raised|$)", text)):
        names = missing.group(1)
        several = names.count("'") > 2
        needs = f"the arguments {names}; give them defaults" if several else f"the argument {names}; give it a default"
        return f"{source(creator)} needs {needs}, or {give}."
    if isinstance(error, TypeError) and (
        odd := re.search(r"__init__\(\) got an unexpected keyword argument '\w+'", text)
    ):
        return f"{source(creator)}: {odd.group()}; take it, or {omit}."
    text = described(error).partition(" was raised from the environment creator")[0]
    return f"{where}: {text}. Correct that line, or what it depends on."


def file_of(module: str) -> str:
    """The file of an imported module."""
    return getattr(sys.modules[module], "__file__", None) or module


def source(creator: Any) -> str:
    """File and line of a class or function."""
    with suppress(TypeError, OSError):
        return f"{inspect.getsourcefile(creator)}, line {inspect.getsourcelines(creator)[1]}, {creator.__name__}"
    return getattr(creator, "__name__", str(creator))
