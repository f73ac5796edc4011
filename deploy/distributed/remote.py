"""The one place that turns plain classes into Ray actors. Torch-free."""

import importlib
import inspect
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.actor import ActorHandle

from deploy.distributed.coordinator_client import CoordinatorClient

CALLS = 100_000  # that may wait in an event loop
BEAT = 8.0  # seconds between signs of life; what reports to the coordinator more often needs none
LONGEST_WAIT = 1500.0  # seconds; a call to a shard that dies just before it gives up begins its patience anew


class Host:
    """Holds an object whose class is given by name, so that its starter need not import the class (and torch)."""

    def __init__(self, path: str, environment: Mapping[str, str], *arguments: Any):
        os.environ.update(environment)
        module, name = path.rsplit(".", 1)
        self._object = getattr(importlib.import_module(module), name)(*arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of the object."""
        return getattr(self._object, method)(*arguments)


class LoopHost(Host):
    """A host whose object is called by one event loop: coroutines may wait there, each call without a thread."""

    async def call(self, method: str, *arguments: Any) -> Any:
        """A method of the object, a coroutine or not."""
        result = super().call(method, *arguments)
        return await result if inspect.isawaitable(result) else result


def start(
    path: str, *arguments: Any, cpus: float, gpus: int = 0, threads: int = 1, name: str | None = None, label: str = "",
    restarts: int = 0, environment: Mapping[str, str] | None = None, **place: Any,
) -> ActorHandle:  # fmt: skip
    """Start `path(*arguments)` as a Ray actor that takes `threads` calls at once (0: any number, in one event loop) and
    is restarted by Ray `restarts` times (-1: always). Methods are called through `call`. `label` is what `ps` shows.
    `environment`: variables that it needs of this process, such as a password: not for Ray, which would log them.
    `place`: Ray's options for where it goes."""
    options = {
        "num_cpus": cpus, "num_gpus": gpus, "max_concurrency": threads or CALLS, "max_restarts": restarts, **place,
    }  # fmt: skip
    host = Host if threads else LoopHost
    actor_class: Any = ray.remote(type(label or name or path.rsplit(".", 1)[1], (host,), {}))
    actor = actor_class.options(**options, **({"name": name} if name else {}))
    return actor.remote(path, dict(environment or {}), *arguments)


def ask(handle: ActorHandle, method: str, *arguments: Any, timeout: float = 60.0) -> Any:
    """Call a method and wait for its answer; ray.exceptions.GetTimeoutError after `timeout` seconds."""
    return ray.get(handle.call.remote(method, *arguments), timeout=timeout)


def this_node() -> str:
    """Ray's id of the node that this process runs on; empty without Ray."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


class Heartbeat:
    """Tells the coordinator, without waiting and at most once in `every` seconds, that `name` is alive: at each call,
    and while a `waiting()` block runs. `rest` says that the coordinator has just heard of it in another way.

    A block that has lasted `longest` seconds gives no more signs of life: no wait for a store or batch takes that long.
    """

    def __init__(self, coordinator: CoordinatorClient, name: str, every: float = BEAT, longest: float = LONGEST_WAIT):
        self.coordinator, self.name, self.every, self.longest = coordinator, name, every, longest
        self.node = this_node()
        self._last = 0.0
        self._waits: dict[object, float] = {}  # since when
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        if time.monotonic() - self._last > self.every:
            self._last = time.monotonic()
            self.coordinator.tell("alive", self.name, os.getpid(), self.node)

    def rest(self) -> None:
        """Need no sign of life for the next `every` seconds."""
        self._last = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Keep signalling during a wait, which has a limit of its own; any thread may wait."""
        self()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
                self._thread.start()
            wait = object()
            self._waits[wait] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._waits[wait]

    def _work(self) -> None:
        while True:
            time.sleep(self.every)
            with self._lock:
                latest = max(self._waits.values(), default=-self.longest)
            if time.monotonic() - latest < self.longest:
                with suppress(Exception):  # what is wrong, the process's own calls say; the next beat may come through
                    self()
