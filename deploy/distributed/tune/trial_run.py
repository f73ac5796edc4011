"""The run of one trial: `nexus train` in a process and a directory of its own, stopped and continued as Tune asks."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deploy.exit_codes import INTERRUPTED
from world_models.checkpoint_files import CHECKPOINTS, numbered

SAVING = 180.0  # seconds to save and end
FREE = 90.0  # seconds for the process of an earlier life of the trial, whose parent is gone, to end
PASSING = (".lock", "control", "status.json", "faults", "videos")
"""What a copy of a run's directory does not need."""


class TrialRun:
    """The process of a command `nexus train` given in `directory`; its run is in `logdir`, its output beside it."""

    def __init__(self, command: Sequence[str], logdir: Path, directory: str):
        self.command, self.logdir, self.directory = list(command), logdir, directory
        self.output = logdir.with_name("output.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        """Exit code, once it has ended by itself."""
        self._wait_until_free()

    def start(self) -> None:
        """Begin the run, or continue it, unless it is running or over."""
        if self.process or self.code is not None:
            return
        self.logdir.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-u", "-P", "-m", "deploy.distributed.trial_process", str(os.getpid())]
        # Without what Ray has told this process, which a Ray that the run starts must not believe.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k.startswith("RAY_AUTH_")}
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *self.command], cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def ended(self) -> bool:
        """Whether the run is over. RuntimeError: it has failed; the message is the end of its output."""
        if self.process and (code := self.process.poll()) is not None:
            self.process, self.code = None, code
        if self.code:
            how = f"was ended by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"
            raise RuntimeError(f"The run in {self.logdir} {how}. The end of {self.output}:\n{self._tail()}")
        return self.code == 0

    def stop(self) -> None:
        """Let the run save, and end its process; `start` continues it. RuntimeError: it has failed, or not saved."""
        if self.ended() or not self.process:
            return
        process = self.process
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(SAVING)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise RuntimeError(
                f"The run in {self.logdir} has not saved within {SAVING:g} s; see {self.output}."
            ) from error
        if code in (INTERRUPTED, -signal.SIGTERM):  # the latter: it had hardly started
            self.process = None
        self.ended()

    def end(self) -> None:
        """Let the run save and end its process, whatever state it is in."""
        if self.process is None:
            return
        try:
            self.stop()
        except RuntimeError as error:
            print(error, file=sys.stderr)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the process and whatever is left of those it has started."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def copy_to(self, folder: Path) -> None:
        """Copy the stopped run: its newest checkpoint, the best policy, replay on disk, logs."""
        if self.logdir.exists():
            shutil.copytree(self.logdir, folder, ignore=self._left_out, dirs_exist_ok=True)

    def replace_by(self, folder: Path) -> None:
        """Continue from the copy in `folder` instead."""
        self.end()
        self.code = None
        shutil.rmtree(self.logdir, ignore_errors=True)
        shutil.copytree(folder, self.logdir)

    def _left_out(self, folder: str, names: list[str]) -> set[str]:
        if Path(folder) == self.logdir:
            return {*PASSING} & {*names}
        if Path(folder) == self.logdir / CHECKPOINTS:
            older = [path.name for path in numbered(Path(folder))[:-1]]
            return {name for name in names if name in older or name.startswith(".")}
        return set()

    def _wait_until_free(self) -> None:
        lock = self.logdir / ".lock"
        deadline = time.monotonic() + FREE
        while lock.exists():
            with lock.open("a+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except OSError as error:
                    file.seek(0)
                    if time.monotonic() > deadline:
                        raise RuntimeError(
                            f"{self.logdir} has been in use by process {file.read().strip() or '?'} for {FREE:g} s; "
                            "stop it first."
                        ) from error
            time.sleep(0.2)

    def _tail(self, lines: int = 20) -> str:
        with suppress(OSError):
            return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])
        return ""
