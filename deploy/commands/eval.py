"""`nexus eval`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from deploy.commands.numbers import positive, whole
from deploy.wiring.config import load_config
from world_models.checkpoint_files import find_model, run_of


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="nexus eval", description="Score a trained policy on fresh episodes.",
        epilog="example: nexus eval runs/cartpole --episodes 20 --video cartpole.mp4",
    )  # fmt: skip
    parser.add_argument("path", type=Path, help="a run directory (its best policy) or one checkpoint directory")
    parser.add_argument("--episodes", type=positive, default=20)
    parser.add_argument("--video", type=Path, help="write the first episode as .mp4 or .gif")
    parser.add_argument("--seed", type=whole, default=1_000_000, help="seed of the episodes")
    parser.add_argument("--deterministic", action="store_true", help="take the most likely action in place of a sample")
    parser.add_argument("--random", action="store_true", help="score the random policy on the same episodes too")
    known = parser.parse_args(arguments)
    if known.seed < 0:
        raise ValueError(f"--seed is {known.seed}, allowed 0 or more.")
    load_config(run_of(find_model(known.path)))  # what is wrong is said before PyTorch is loaded
    from deploy.reports.summary import score

    score(known.path, known.episodes, known.seed, known.deterministic, known.video, known.random)
    return 0
