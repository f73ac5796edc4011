"""What an environment's process and its owner share: a socket for commands, and memory for observations and actions."""

import json
import mmap
import os
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from actors.environment import Step
from actors.episode_metrics import Info
from world_models.space import Spaces

_HEAD = struct.Struct("!cII")  # the kind of message, the bytes of its JSON document, the bytes after that
_LINE = 64  # bytes; every array begins on a cache line
_FILES = 4  # the most descriptors that one message carries


class ClosedError(ConnectionError):
    """The other side has closed its end, or its process has ended."""


class Message(NamedTuple):
    """`kind` is one byte; `document` is None if there is none; `files` are descriptors that the receiver owns."""

    kind: bytes
    document: Any = None
    data: bytes = b""
    files: tuple[int, ...] = ()


class Channel:
    """Messages over one end of a stream socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, kind: bytes, document: Any = None, data: bytes = b"", files: Sequence[int] = ()) -> None:
        """Send one message. ClosedError: nobody receives it."""
        text = b"" if document is None else json.dumps(document).encode()
        packed = _HEAD.pack(kind, len(text), len(data)) + text + data
        try:
            if files:
                sent = socket.send_fds(self.end, [packed], files)
                packed = packed[sent:]
            if packed:
                self.end.sendall(packed)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ClosedError("the other side is gone") from error

    def receive(self, deadline: float | None = None, files: bool = False) -> Message:
        """The next message. TimeoutError: it does not begin before `deadline` (time.monotonic()). ClosedError."""
        self._limit(deadline)
        head, given = self._begin(files)
        kind, text, data = _HEAD.unpack(head + self._exactly(_HEAD.size - len(head), deadline))
        document = json.loads(self._exactly(text, deadline)) if text else None
        return Message(kind, document, self._exactly(data, deadline) if data else b"", given)

    def _begin(self, files: bool) -> tuple[bytes, tuple[int, ...]]:
        try:
            if files:
                head, given, _, _ = socket.recv_fds(self.end, _HEAD.size, _FILES)
            else:
                head, given = self.end.recv(_HEAD.size), []
        except ConnectionResetError:
            head, given = b"", []
        if not head:
            raise ClosedError("the other side is gone")
        return head, tuple(given)

    def _exactly(self, size: int, deadline: float | None) -> bytes:
        parts, missing = [], size
        while missing:
            self._limit(deadline)
            try:
                part = self.end.recv(min(missing, 1 << 20))
            except ConnectionResetError:
                part = b""
            if not part:
                raise ClosedError("the other side is gone")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _limit(self, deadline: float | None) -> None:
        self.end.settimeout(None if deadline is None else max(1e-4, deadline - time.monotonic()))

    def close(self) -> None:
        self.end.close()


class SharedStep:
    """One action, observation, reward and end in anonymous shared memory, gone with the last process that has it."""

    def __init__(self, observation_space: Spaces, action_space: Spaces, descriptor: int | None = None) -> None:
        """`descriptor`: the memory that the other process has made; it is closed here."""
        size, places = _LINE, {}
        for side, spaces in (("observation", observation_space), ("action", action_space)):
            for key, space in spaces.items():
                places[side, key] = size
                nbytes = int(np.prod(space.shape, dtype=np.int64)) * space.dtype.itemsize
                size += -(-nbytes // _LINE) * _LINE
        self.descriptor = os.memfd_create("nexus-environment") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, size)
        memory = mmap.mmap(self.descriptor, size)
        self._end = np.ndarray((2,), np.bool_, memory, 8)
        self._reward = np.ndarray((), np.float64, memory, 0)

        def arrays(side: str, spaces: Spaces) -> dict[str, np.ndarray]:
            return {k: np.ndarray(space.shape, space.dtype, memory, places[side, k]) for k, space in spaces.items()}

        self._observation, self._action = arrays("observation", observation_space), arrays("action", action_space)
        if descriptor is not None:
            os.close(descriptor)

    def put_action(self, action: dict[str, np.ndarray]) -> None:
        for key, there in self._action.items():
            np.copyto(there, action[key], casting="same_kind")

    def action(self) -> dict[str, np.ndarray]:
        return {key: value.copy() for key, value in self._action.items()}

    def put(self, step: Step) -> None:
        """ValueError: an observation does not have the shape of its space."""
        for key, there in self._observation.items():
            value = step.observation[key]
            if value.shape != there.shape:
                raise ValueError(f"observation {key!r} has shape {value.shape}, the space declares {there.shape}")
            np.copyto(there, value, casting="unsafe")
        self._reward[...] = step.reward
        self._end[:] = step.is_last, step.is_terminal

    def step(self, infos: Sequence[Info] = ()) -> Step:
        """A copy of what `put` was given, with `infos`, which do not go through the memory."""
        observation = {key: value.copy() for key, value in self._observation.items()}
        return Step(observation, float(self._reward), bool(self._end[0]), bool(self._end[1]), infos)
