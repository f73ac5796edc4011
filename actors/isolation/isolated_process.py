"""The processes of isolated environments, as `actors.isolation.fork_server` starts them.

A server imports the module of the task once, in a fresh interpreter, and forks a process for every environment, which
is ready within milliseconds. No process outlives the one that started the server, however that ends, nor the server.
"""

import ctypes
import faulthandler
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from actors import closing
from actors.config import EnvironmentConfig
from actors.environment import CannotDrawError, Environment
from actors.envs import make, own_module
from actors.envs.rendering import choose_when_imported
from actors.faults import BrokenEnvironmentError, described, place_of
from actors.isolation.isolated_channel import Channel, ClosedError, Message, SharedStep
from world_models.dataclass_json import from_json

_UNFORKABLE = ("OpenGL", "glfw", "pyglet", "jax")
"""Packages that hold a display or threads once imported, which a forked process cannot use."""
ENDING = 0.5  # seconds for threads of an import to end
_PR_SET_PDEATHSIG = 1
_PLAIN = "plain"


def main() -> NoReturn:
    """The server; arguments: the descriptor of its channel, the task, the process that it must not outlive."""
    descriptor, task, parent, *plain = sys.argv[1:]
    os.set_inheritable(int(descriptor), True)
    if not plain and not _import(task, int(parent)):
        # The same once more, but every environment imports the module for itself.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], _PLAIN])
    os.set_inheritable(int(descriptor), False)
    gc.freeze()  # the pages stay shared with the forked processes
    _Server(Channel(socket.socket(fileno=int(descriptor)))).serve()
    os._exit(0)


def _import(task: str, parent: int) -> bool:
    """Import what environments of the task need, and tell whether processes can be forked after it."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if os.getppid() != parent:
                os._exit(1)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        if task.startswith(("gym:", "rllib:")):
            importlib.import_module("actors.envs.gymnasium")
        if module := own_module(task):
            choose_when_imported()
            importlib.import_module("actors.envs.gymnasium_making").import_module(module, task)
    except BaseException:  # an environment's own attempt reports it
        return False
    finally:
        done.set()
        watching.join()
    if any(name in sys.modules for name in _UNFORKABLE):
        return False
    deadline = time.monotonic() + ENDING
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)  # a thread that was joined is still listed for a moment
    return threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1


class _Server:
    def __init__(self, channel: Channel) -> None:
        self.channel, self.me = channel, os.getpid()
        self.alive: set[int] = set()

    def serve(self) -> None:
        """Until the channel is closed; then every environment is killed."""
        with suppress(ClosedError):
            while True:
                message = self.channel.receive(files=True)
                if message.kind == b"m":
                    self._fork(message)
                else:
                    self._end(message.document["process"], message.document["patience"])
        for process in self.alive:
            _kill(process)

    def _fork(self, message: Message) -> None:
        process = os.fork()
        if not process:
            _begin(message, self.me, self.channel)
        for file in message.files:
            os.close(file)
        self.alive.add(process)
        self.channel.send(b"p", {"process": process})

    def _end(self, process: int, patience: float) -> None:
        """Wait for a process, kill it if it does not end within `patience` seconds, and answer with its exit code."""
        deadline, killed = time.monotonic() + patience, False
        code = None
        while process in self.alive:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                self.alive.discard(process)
                code = os.waitstatus_to_exitcode(status)
                _kill_group(process)  # simulators that it has left behind
            elif time.monotonic() < deadline:
                time.sleep(0.001)
            elif killed:
                break  # the system cannot end it now
            else:
                _kill(process)
                deadline, killed = time.monotonic() + 5.0, True
        self.channel.send(b"e", {"code": code})


def _kill(process: int) -> None:
    """An environment, and the simulators that it has started."""
    _kill_group(process)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)  # it may not have a group of its own yet


def _kill_group(process: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _begin(message: Message, server: int, servers: Channel) -> NoReturn:
    """In the process of one environment."""
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == server:
            servers.close()
            end, log = message.files
            for stream in (1, 2):
                os.dup2(log, stream)
            os.close(log)
            faulthandler.enable(2)
            faulthandler.register(signal.SIGUSR1, file=2)  # the owner asks where it hangs
            sys.unraisablehook = closing.say_unraisable
            np.random.seed()  # noqa: NPY002  an environment that draws from it does not draw what its siblings draw
            config = from_json(EnvironmentConfig, message.document["environment"])
            _serve(Channel(socket.socket(fileno=end)), message.document["task"], config)
            code = 0
    except ClosedError:
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(channel: Channel, task: str, config: EnvironmentConfig) -> None:
    try:
        environment = make(task, config)
    except BaseException as error:
        channel.send(b"f", _failure(error))
        return
    observation, action = environment.observation_space, environment.action_space
    shared = SharedStep(observation, action)
    about = {
        "observation": {key: space.to_json() for key, space in observation.items()},
        "action": {key: space.to_json() for key, space in action.items()},
        "frames_per_step": environment.frames_per_step,
        "backend": environment.backend,
    }
    channel.send(b"m", about, files=[shared.descriptor])
    os.close(shared.descriptor)
    kind = b""
    while kind != b"c":
        message = channel.receive()
        kind = message.kind
        try:
            answer = _perform(environment, shared, message)
        except BaseException as error:
            answer = Message(b"f", _failure(error))
        channel.send(*answer[:3])


def _perform(environment: Environment, shared: SharedStep, message: Message) -> Message:
    match message.kind:
        case b"s":
            step = environment.step(shared.action())
        case b"r":
            step = environment.reset(message.document)
        case b"d":
            picture = np.ascontiguousarray(environment.render())
            return Message(b"d", list(picture.shape), picture.tobytes())
        case b"c":
            environment.close()
            return Message(b"c", closing.warnings())
        case other:
            raise AssertionError(f"unknown command {other!r}")
    shared.put(step)
    return Message(b"k", list(step.infos) or None)


def _failure(error: BaseException) -> Mapping[str, Any]:
    out: dict[str, Any] = {"details": "".join(traceback.format_exception(error))}
    if isinstance(error, BrokenEnvironmentError):
        return out | {"broken": {name: getattr(error, name) for name in ("what", "where", "remedy", "kind")}}
    if isinstance(error, CannotDrawError):
        return out | {"drawing": str(error)}
    if isinstance(error, ValueError):
        out["value"] = str(error)
    return out | {"raised": described(error), "place": place_of(error)}
