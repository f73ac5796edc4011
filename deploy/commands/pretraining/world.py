"""`nexus world`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from deploy.commands.numbers import NotNegative, Positive
from deploy.commands.parsing import parse

EXAMPLE = "nexus world runs/genie/dynamics --data runs/blocks --out worlds/blocks --rewards"


@dataclass(frozen=True, kw_only=True)
class World:
    """Make an environment of a trained Genie: the task genie:OUT, to train any agent in.

    Episodes begin with frames of the data; actions are the model's. Without --rewards every reward is 0.
    """

    path: Positional[Path]
    """A run of nexus pretrain genie (its folder dynamics), or a checkpoint."""
    data: str
    """Where start frames and rewards come from, as for nexus pretrain."""
    out: Path
    """Directory of the world."""
    steps: Positive = 32
    """Steps of an episode."""
    starts: Positive = 256
    """Number of frames that an episode may begin with."""
    rewards: bool = False
    """Fit a small network to the rewards in the data, which then says what is rewarded in the world."""
    ends_with_reward: bool = False
    """End an episode when there is a reward, as where a goal is to be reached."""
    transitions: Positive = 8192
    """Transitions of the data that the reward is fitted to."""
    updates: Positive = 600
    """Updates in which it is."""
    seed: NotNegative = 0
    """Seed of the frames that are drawn, and of the network."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(
        World,
        arguments,
        prog="nexus world",
        example="nexus world runs/genie/dynamics --data runs/blocks --out worlds/blocks --rewards",
    )
    if given.ends_with_reward and not given.rewards:
        raise ValueError("--ends-with-reward needs --rewards: without them there is no reward.")
    from actors.envs.generated_world import WorldConfig
    from deploy.stored.generated_world import make_world
    from deploy.wiring.output_path import require_writable_folder

    require_writable_folder(given.out, "--out")
    config = WorldConfig(steps=given.steps, ends_with_reward=given.ends_with_reward)
    make_world(
        given.path, given.data, given.out, config, starts=given.starts, rewards=given.rewards,
        transitions_read=given.transitions, updates=given.updates, seed=given.seed,
    )  # fmt: skip
    print(f"{given.out}: nexus train genie:{given.out}")
    return 0
