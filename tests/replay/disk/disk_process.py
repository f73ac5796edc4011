"""Processes that work on a disk store and are killed: `python -m tests.replay.disk.disk_process WAY DIRECTORY`.

write       append to four streams for ever, and say so: `stream next`, a line each
fill        the same, of chunks that are never full and kept every 0.1 s
open        open the store, and print what is wrong with it
keep        keep what fills, seal and evict like `operations`
operations  seal and evict in DIRECTORY/0, /1, /2 ... where process k is killed within its k-th file operation
latents     the same for latents being written back
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from replay.disk.disk_store import DiskStore
from tests.contracts.stores import SCHEMA, latents, rows

CHUNK, LENGTH, STREAMS = 7, 4, 3
KEEP = 1e-9  # seconds: with every append
OPERATIONS = ("write", "pwrite", "fsync", "fdatasync", "rename", "unlink", "link", "ftruncate")


def store(directory: Path, **settings: Any) -> DiskStore:
    settings = {"length": LENGTH, "capacity": 1000, "chunk_length": CHUNK, "streams": 8, "keep_seconds": 0, **settings}
    return DiskStore(directory, SCHEMA, **settings)


def write(directory: Path, **settings: Any) -> None:
    it = store(directory, **settings)
    while True:
        for stream in range(4):
            first = it.streams().get(stream, range(0)).stop
            it.append(stream, first, rows(stream, first, 3))
            print(stream, first + 3, flush=True)
        time.sleep(0.002)


def seal_and_evict(directory: Path, say: Callable[[str], None]) -> None:
    it = store(directory, capacity=40)
    for first in range(0, 45, 5):
        for stream in range(STREAMS):
            it.append(stream, first, rows(stream, first, 5))
        it._sealer.drain()
        say(f"{first + 5}")
    it.close()


def keep(directory: Path, say: Callable[[str], None]) -> None:
    it = store(directory, capacity=20, keep_seconds=KEEP)
    for first in range(0, 24, 4):
        for stream in range(2):
            it.append(stream, first, rows(stream, first, 4))
        it._sealer.drain()
        say(f"{first + 4}")


def write_latents_back(directory: Path, say: Callable[[str], None]) -> None:
    it = store(directory)
    for stream in range(STREAMS):
        it.append(stream, 0, rows(stream, 0, 3 * CHUNK))
    it._sealer.drain()
    keys = np.zeros((STREAMS, 2 * CHUNK, 2), np.int64)
    keys[:, :, 0] = np.arange(STREAMS)[:, None]
    keys[:, :, 1] = np.arange(3, 3 + 2 * CHUNK)
    it.write_back(keys, latents(STREAMS, 2 * CHUNK, 99))
    say("done")


def kill_within(number: int, operations: tuple[str, ...]) -> None:
    """Have this process killed within its `number`-th file operation; half of what it writes is written before."""
    left = [number]

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if name in ("write", "pwrite"):
                    half = memoryview(arguments[1]).cast("B")[: len(arguments[1]) // 2 + 1]
                    original(arguments[0], half, *arguments[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **more)

        return operation

    for name in operations:
        setattr(os, name, wrapped(name, getattr(os, name)))


def kill_everywhere(root: Path, work: Callable[[Path, Callable[[str], None]], None], names: tuple[str, ...]) -> None:
    """A process of its own for each operation at which it may be killed, until one is not; the last words of each."""
    write_bytes = os.write
    for number in range(10_000):
        reader, writer = os.pipe()

        def say(text: str, pipe: int = writer) -> None:
            write_bytes(pipe, f"{text}\n".encode())

        child = os.fork()
        if not child:
            try:
                kill_within(number, names)
                work(root / str(number), say)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read().split()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or not status, f"process {number} failed"
        print(number, killed, said[-1] if said else 0, flush=True)
        if not killed:
            return


if __name__ == "__main__":
    way, directory = sys.argv[1], Path(sys.argv[2])
    if way == "write":
        write(directory, capacity=400)
    elif way == "fill":
        write(directory, capacity=10**6, chunk_length=10**5, keep_seconds=0.1)
    elif way == "open":
        try:
            store(directory)
        except ValueError as error:
            print(error)
    elif way == "operations":
        kill_everywhere(directory, seal_and_evict, OPERATIONS)
    elif way == "keep":
        kill_everywhere(directory, keep, OPERATIONS)
    elif way == "latents":
        kill_everywhere(directory, write_latents_back, ("pwrite",))
