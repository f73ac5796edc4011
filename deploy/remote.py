"""The one place that turns plain classes into Ray actors. Torch-free."""

import importlib
import time
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
    path: str, *arguments: Any, cpus: float, threads: int = 1, name: str | None = None, label: str = "",
    restarts: int = 0,
) -> ActorHandle:  # fmt: skip
    """Start `path(*arguments)` as a Ray actor that takes `threads` calls at once and is restarted by Ray `restarts`
    times (-1: always). Methods are called through `call`. `label` is what `ps` shows."""
    options = {"num_cpus": cpus, "max_concurrency": threads, "max_restarts": restarts}
    actor_class: Any = ray.remote(type(label or name or path.rsplit(".", 1)[1], (Host,), {}))
    return actor_class.options(**options, **({"name": name} if name else {})).remote(path, *arguments)


def ask(handle: ActorHandle, method: str, *arguments: Any, timeout: float = 60.0) -> Any:
    """Call a method and wait for its answer; ray.exceptions.GetTimeoutError after `timeout` seconds."""
    return ray.get(handle.call.remote(method, *arguments), timeout=timeout)


class Heartbeat:
    """Tells the coordinator, without waiting and at most once a second, that `name` is alive."""

    def __init__(self, coordinator: ActorHandle, name: str):
        self.coordinator, self.name = coordinator, name
        self._last = 0.0

    def __call__(self) -> None:
        if time.monotonic() - self._last > 1:
            self._last = time.monotonic()
            self.coordinator.call.remote("alive", self.name)
