"""`python -m tests.benchmarks.genie_play`: frames a second of a world that is played with `nexus play` on a CPU.

Serves a freshly initialised world of the preset `tiny`, or --checkpoint, to one thread, and asks for a step as soon as
the last one is there, over the page's own websocket: drift and true frame included. Reports frames a second of one
player and of each of two, and the server's CPU time for a frame.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import torch
from websockets.sync.client import ClientConnection, connect

from tests.benchmarks.machine import describe, versions
from tests.deploy.play.test_sessions import read
from tests.deploy.play.written_worlds import played, write_world
from world_models.genie import presets
from world_models.genie.genie import Genie
from world_models.loading import load_model

BEGIN = {"do": "begin", "recording": 0, "frame": 3}
WARMUP = 20  # steps, in which the memory fills


def wait_for(socket: ClientConnection, kind: str) -> None:
    """Until a message of this kind comes."""
    while (found := read(socket.recv(timeout=120, decode=False))[0]["kind"]) != kind:
        assert found != "error", found


def play(sockets: Sequence[ClientConnection], steps: int) -> float:
    """Steps a second of each of the players, who take as many together."""
    began = time.perf_counter()
    for number in range(steps):
        for socket in sockets:
            socket.send(json.dumps({"do": "step", "action": number % 2}))
        for socket in sockets:
            wait_for(socket, "frame")
    return steps / (time.perf_counter() - began)


def measure(checkpoint: str, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        if not checkpoint:
            torch.manual_seed(0)
            checkpoint = str(write_world(folder / "tiny", Genie(presets.genie("tiny"))))
        arguments = (checkpoint, "--start", "generated:block_world")
        address = stack.enter_context(played(*arguments, home=folder))
        (server,) = [one for one in psutil.Process().children() if "play" in one.cmdline()]
        line = f"ws://{urlsplit(address).netloc}/world"
        one, two = (stack.enter_context(connect(line, max_size=None)) for _ in range(2))
        for socket in (one, two):
            socket.send(json.dumps(BEGIN))
            for _ in range(8):
                wait_for(socket, "preview")
        play([one, two], WARMUP)
        before = server.cpu_times()
        alone = play([one], steps)
        after = server.cpu_times()
        busy = after.user + after.system - before.user - before.system
        return {"one_player": alone, "each_of_two": play([one, two], steps // 2), "cpu_ms": 1000 * busy / steps}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.genie_play", description=__doc__)
    parser.add_argument("--checkpoint", default="", help="a trained world; by default a fresh one of the preset tiny")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    found = measure(options.checkpoint, options.steps)
    if not options.json:
        for name, value in found.items():
            print(f"{name:12} {value:8.1f}")
    report: dict[str, Any] = {
        "name": "genie_play", "value": found["one_player"], "unit": "frames/s", "threads": 1,
        "device": describe(torch.device("cpu")), "versions": versions(), **found,
    }  # fmt: skip
    if options.checkpoint:
        report["parameters"] = sum(p.numel() for p in load_model(options.checkpoint).parameters())
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
