"""Whether the head of a cluster that this process has joined can still be reached. Torch-free."""

import socket
import threading
import time

import psutil
import ray

EVERY = 2.0  # seconds
AWAY = 20.0  # seconds; after 60 Ray ends this process, and before that the learner is to save


class HeadWatch:
    """Connects to the head again and again in a thread of its own, and looks whether this machine's node runs."""

    def __init__(self, address: str):
        self.address = address
        self._answered = time.monotonic()
        self._raylet = _raylet(ray.get_runtime_context().get_node_id())
        threading.Thread(target=self._work, name="head", daemon=True).start()

    def lost(self) -> str:
        """A sentence about what is gone; empty if nothing is."""
        if self._raylet and not (self._raylet.is_running() and self._raylet.status() != psutil.STATUS_ZOMBIE):
            return "The Ray node of this machine has ended"
        away = time.monotonic() - self._answered
        return f"The head of the Ray cluster at {self.address} has not answered for {away:.0f} s" if away > AWAY else ""

    def _work(self) -> None:
        host, _, port = self.address.rpartition(":")
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), EVERY).close()
                self._answered = time.monotonic()
            except OSError:
                pass
            time.sleep(EVERY)


def _raylet(node: str) -> psutil.Process | None:
    for process in psutil.process_iter():
        try:
            if process.name() == "raylet" and f"--node_id={node}" in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None
