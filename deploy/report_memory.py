"""What replay will take, known before the run."""

from collections.abc import Callable

import psutil

from deploy.config import RunConfig
from deploy.task import replay_schema, spaces_of


def require_memory(config: RunConfig, note: Callable[[str], None]) -> None:
    """`note` the estimate of replay's size; ValueError where it exceeds the memory there is."""
    schema = replay_schema(*spaces_of(config), config.model)
    steps = min(config.replay.capacity, config.frames // config.environment.action_repeat)
    full = min(schema.estimate_gb(steps), config.replay.capacity_gb or float("inf"))
    available = psutil.virtual_memory().available / 1e9
    note(
        f"Replay: up to {steps:,} steps of {schema.nbytes:,} bytes, {full:.2f} GB when full; "
        f"{available:.1f} GB of memory are free."
    )
    if full > 0.9 * available:
        raise ValueError(
            f"A full replay of {steps:,} steps takes {full:.1f} GB, {available:.1f} GB are free. Lower "
            f"--replay.capacity, or bound it by --replay.capacity-gb {0.5 * available:.0f}."
        )
