"""The program kubectl, asked with a time-out. Torch-free."""

import json
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from deploy.launch.kuberay.documents import documents
from deploy.launch.programs import ask, lines

ANSWERING = 40.0  # seconds
PROGRAM = "kubectl"


class Kubectl:
    """Speaks to one namespace; empty names stand for those of kubectl's configuration."""

    def __init__(self, context: str, namespace: str):
        """ValueError: there is no such program."""
        if not shutil.which(PROGRAM):
            raise ValueError(
                "--target kuberay needs kubectl, which is not installed here; install it, or write the manifests with "
                "--dry-run --out FOLDER and apply them elsewhere."
            )
        self._command = [PROGRAM, *(["--context", context] if context else [])]
        self._command += ["--namespace", namespace] if namespace else []

    def apply(self, objects: Sequence[dict[str, Any]]) -> None:
        """Have these objects exist as they are given."""
        self._run("apply", "--filename", "-", text=documents(objects))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object; None if there is none."""
        said = self._run("get", kind, name, "--output", "json", "--ignore-not-found")
        return dict(json.loads(said)) if said.strip() else None

    def delete(self, kind: str, name: str, timeout: float) -> None:
        """Delete an object and wait until it is gone."""
        self._run("delete", kind, name, "--ignore-not-found", f"--timeout={timeout:g}s", timeout=timeout + ANSWERING)

    def scale(self, kind: str, name: str, replicas: int) -> None:
        """Set the number of replicas."""
        self._run("scale", kind, name, f"--replicas={replicas}")

    def execute(self, pod: str, container: str, command: Sequence[str], timeout: float) -> str:
        """Run a command in a container; its output."""
        return self._run("exec", pod, "--container", container, "--", *command, timeout=timeout)

    def logs(self, pod: str, container: str, follow: bool) -> Iterator[str]:
        """What a container has printed; with `follow` also what it prints, until it ends."""
        more = ["--follow"] if follow else []
        command = [*self._command, "logs", pod, "--container", container, *more]
        return lines(command, f"{PROGRAM} logs")

    def _run(self, *arguments: str, text: str = "", timeout: float = ANSWERING) -> str:
        return ask([*self._command, *arguments], f"{PROGRAM} {arguments[0]}", timeout, text)
