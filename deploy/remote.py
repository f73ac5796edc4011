"""The one place that turns plain classes into Ray actors. Torch-free."""

import importlib
from typing import Any

import ray
from ray.actor import ActorHandle


class Host:
    """Holds an object of a class given by name, so that whoever starts it need not import that class (and torch)."""

    def __init__(self, path: str, *arguments: Any):
        module, name = path.rsplit(".", 1)
        self._object = getattr(importlib.import_module(module), name)(*arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of the object."""
        return getattr(self._object, method)(*arguments)


def start(
    path: str, *arguments: Any, cpus: float, threads: int = 1, name: str | None = None, restarts: int = 0
) -> ActorHandle:
    """Start `path(*arguments)` as a Ray actor that takes `threads` calls at once and is restarted by Ray `restarts`
    times (-1: always). Methods are called through `call`."""
    options = {"num_cpus": cpus, "max_concurrency": threads, "max_restarts": restarts}
    actor_class: Any = ray.remote(Host)
    return actor_class.options(**options, **({"name": name} if name else {})).remote(path, *arguments)


def ask(handle: ActorHandle, method: str, *arguments: Any, timeout: float = 60.0) -> Any:
    """Call a method and wait for its answer; ray.exceptions.GetTimeoutError after `timeout` seconds."""
    return ray.get(handle.call.remote(method, *arguments), timeout=timeout)
