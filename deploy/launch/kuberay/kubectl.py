"""The program kubectl, asked with a time-out. Torch-free."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from deploy.launch.kuberay.documents import documents
from deploy.run_failed import RunFailedError

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
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout and process.stderr
            try:
                yield from process.stdout
                if process.wait():
                    raise RunFailedError(f"kubectl logs: {_last(process.stderr.read())}")
            finally:
                process.terminate()

    def _run(self, *arguments: str, text: str = "", timeout: float = ANSWERING) -> str:
        try:
            done = subprocess.run(
                [*self._command, *arguments], input=text, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise RunFailedError(f"kubectl {arguments[0]} has not ended within {timeout:g} s.") from None
        if done.returncode:
            raise RunFailedError(f"kubectl {arguments[0]}: {_last(done.stderr)}")
        return done.stdout


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no message"])[-1]
