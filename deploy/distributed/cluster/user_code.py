"""The user's modules, as they reach the nodes of a cluster: the folder of the command travels as Ray's `working_dir`,
without what is hidden (names that begin with a dot), where keys and passwords are kept. Torch-free."""

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.wiring.config import RunConfig
from world_models.checkpoint_files import RUN_CONFIG

FOLDER = "command"
"""The folder's name there: Ray searches the `working_dir` for modules before ours, which the user's must not hide."""
MOST = 100e6  # bytes; Ray keeps them in the memory of the cluster's head
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the processes of a job."""
_CACHES = ("__pycache__", "node_modules")
_BIGGEST = 3  # entries that an error names


@contextmanager
def runtime_environment(
    config: RunConfig, folder: Path, logdir: Path, hooks: bool = False
) -> Iterator[dict[str, Any] | None]:
    """Ray's `runtime_env`, to join or to submit a job with, for the processes of a run whose task is a module of
    `folder`; None if it needs none, or this process is a job that came with it. All files of the folder travel, except
    hidden ones, runs, virtual environments and caches. `hooks`: also for the hooks of the run.

    ValueError: the folder is too large to travel.
    """
    if not named_module(config, hooks) or _came_with_code():
        yield None
        return
    sizes = {path: path.stat().st_size for path in _files(folder, logdir.resolve())}
    if sum(sizes.values()) > MOST:
        raise ValueError(
            f"The task {config.task!r} or a hook names a module, so the folder {folder} has to travel to the cluster, "
            f"but it holds {sum(sizes.values()) / 1e6:,.0f} MB; at most {MOST / 1e6:g} MB travel. The most is in "
            f"{_largest(sizes, folder)}. Run the command in a folder with only the code."
        )
    with tempfile.TemporaryDirectory(prefix="nexus-code-") as place:
        package = Path(place) / "code.zip"
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as file:
            for path in sizes:
                file.write(path, Path(FOLDER) / path.relative_to(folder))
        yield {"working_dir": str(package)}


def named_module(config: RunConfig, hooks: bool = False) -> bool:
    """Whether the task is one of a module that the user named, such as gym:my_module:MyEnv-v0; or with `hooks`, one of
    the hooks is."""
    return config.task.count(":") > 1 or hooks and bool(config.hooks.on_episode_end or config.hooks.on_train_result)


def _came_with_code() -> bool:
    """Whether this process is a job of the cluster that was submitted with its code, which Ray passes on."""
    return "working_dir" in json.loads(os.environ.get(JOB, "{}")).get("runtime_env", {})


def _files(folder: Path, logdir: Path) -> Iterator[Path]:
    """The files of the folder that may be code, or what it reads: no runs, environments or caches, and nothing
    hidden."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not _is_left_out(here / name, logdir))
        yield from (path for name in sorted(names) if not name.startswith(".") and (path := here / name).is_file())


def _is_left_out(folder: Path, logdir: Path) -> bool:
    return (
        folder.name.startswith(".")
        or folder.name in _CACHES
        or folder.resolve() == logdir
        or (folder / RUN_CONFIG).exists()
        and (folder / "checkpoints").exists()
        or (folder / "pyvenv.cfg").exists()
    )


def _largest(sizes: dict[Path, int], folder: Path) -> str:
    tops: dict[str, int] = {}
    for path, size in sizes.items():
        top = path.relative_to(folder).parts[0]
        tops[top] = tops.get(top, 0) + size
    most = sorted(tops, key=lambda top: -tops[top])[:_BIGGEST]
    return ", ".join(f"{top} ({tops[top] / 1e6:,.0f} MB)" for top in most)
