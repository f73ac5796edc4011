"""Further places for a run's metrics: Weights & Biases and Trackio. Their packages are loaded only if asked for."""

import io
import math
import secrets
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from deploy.wiring.config import RunConfig
from replay.files.whole_file import whole_file
from world_models.dataclass_json import to_json

IDENTITY = "sinks.txt"
"""In the run directory: what the run is called there, so that it is continued."""


class Sink(Protocol):
    """One open place."""

    def log(self, line: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Sinks:
    """Those that a run's configuration names. One that fails is noted and left out from then on; the run goes on.

    What they have taken cannot be taken back: after a run has gone back to a checkpoint, they have both lives' lines.
    """

    def __init__(self, config: RunConfig, logdir: Path, note: Callable[[str], object]):
        """ValueError: a package is missing."""
        self._note = note
        self._open: dict[str, Sink] = {}
        for name, kind in KINDS.items():
            if project := getattr(config.logging, name):
                if find_spec(name) is None:
                    raise ValueError(f'logging.{name} needs another package: pip install "nexus-worlds[{name}]"')
                try:
                    self._open[name] = kind(project, config, logdir, note)
                except Exception as error:  # of a service, and of any kind
                    note(f"Nothing is logged to {name}: {error}")

    def log(self, frames: int, updates: int, line: Mapping[str, Any]) -> None:
        """Pass on a line of metrics; numbers that are not finite are left out."""
        if not self._open:
            return
        numbers = {key: float(value) for key, value in line.items() if value is not None}
        finite = {key: value for key, value in numbers.items() if math.isfinite(value)}
        for name, sink in list(self._open.items()):
            try:
                sink.log(finite | {"frames": frames, "updates": updates})
            except Exception as error:
                del self._open[name]
                self._note(f"Nothing more is logged to {name}: {error}")

    def close(self) -> None:
        """Hand over what is still on its way."""
        for name, sink in self._open.items():
            try:
                sink.close()
            except Exception as error:
                self._note(f"{name} may lack the last lines: {error}")
        self._open.clear()


def identity(logdir: Path) -> str:
    """What the run is called in sinks, made up when it first logs there."""
    file = logdir / IDENTITY
    if not file.exists():
        with whole_file(file) as fresh:
            fresh.write_text(f"{logdir.name}-{secrets.token_hex(4)}\n")
    return file.read_text().strip()


class WandbSink:
    """A run of Weights & Biases, with environment frames as its axis."""

    def __init__(self, project: str, config: RunConfig, logdir: Path, note: Callable[[str], object]):
        import wandb

        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        name = identity(logdir)
        self._run = wandb.init(
            project=project, id=name, name=name, dir=str(logdir), resume="allow", config=to_json(config),
            settings=settings,
        )  # fmt: skip
        self._run.define_metric("*", step_metric="frames")
        note(f"Weights & Biases: {self._run.url or self._run.dir}")

    def log(self, line: Mapping[str, float]) -> None:
        self._run.log(dict(line))

    def close(self) -> None:
        import wandb

        self._run.finish()
        wandb.teardown()  # its own process


class TrackioSink:
    """A run of Trackio, with environment frames as its steps."""

    def __init__(self, project: str, config: RunConfig, logdir: Path, note: Callable[[str], object]):
        import trackio

        with redirect_stdout(io.StringIO()):  # it would print over the live display
            self._run = trackio.init(
                project=project, name=identity(logdir), resume="allow", config=to_json(config), embed=False,
                auto_log_cpu=False, auto_log_gpu=False,
            )  # fmt: skip
        note(f"Trackio: trackio show --project {project}")

    def log(self, line: Mapping[str, float]) -> None:
        self._run.log(dict(line), step=int(line["frames"]))

    def close(self) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            trackio.finish()


KINDS: dict[str, Callable[[str, RunConfig, Path, Callable[[str], object]], Sink]] = {
    "wandb": WandbSink, "trackio": TrackioSink,
}  # fmt: skip
"""By the field of LoggingConfig, which is the name of the package too."""
