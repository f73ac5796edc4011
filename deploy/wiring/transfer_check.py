"""Asks another process whether parameters fit the agent of a run, since whoever starts it imports no torch.

`python -m deploy.wiring.transfer_check` reads configuration and spaces from standard input, and writes the shapes of
the agent to standard output.
"""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

from deploy.run_failed import RunFailedError
from deploy.wiring.config import RunConfig
from deploy.wiring.task import TaskSpaces
from deploy.wiring.transfer import Source
from world_models.dataclass_json import from_json, to_json
from world_models.dreamer.config import DreamerConfig
from world_models.dreamer.parts import Shapes

LONGEST = 300.0  # seconds to import torch and build an agent without memory


def check_in_another_process(source: Source, config: RunConfig, spaces: TaskSpaces) -> None:
    """`source.require_fit` of the agent that `config` describes. RunFailedError: the other process has failed."""
    given = {"model": to_json(config.model), "spaces": spaces.to_json()}
    command = [sys.executable, "-P", "-m", "deploy.wiring.transfer_check"]
    try:
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"Building the agent of {config.task} has taken more than {LONGEST:g} s.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunFailedError(f"The agent of {config.task} cannot be built: {last}")
    source.require_fit({name: tuple(shape) for name, shape in json.loads(done.stdout).items()})


def agent_shapes(config: RunConfig, spaces: TaskSpaces) -> Shapes:
    """Of the agent's parameters and buffers; none of them takes memory."""
    import torch

    from deploy.wiring.build import build_agent

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build_agent(config, *spaces).state_dict().items()}


def main() -> None:
    """In the other process."""
    given: dict[str, Any] = json.load(sys.stdin)
    config = replace(RunConfig(), model=from_json(DreamerConfig, given["model"]))
    print(json.dumps(agent_shapes(config, TaskSpaces.from_json(given["spaces"]))))


if __name__ == "__main__":
    main()
