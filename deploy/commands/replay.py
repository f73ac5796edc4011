"""`nexus replay`: inspect stored replay, export its episodes to files, import files into a replay."""

from collections.abc import Sequence

from deploy.commands.dispatch import dispatch

DESCRIPTION = """Inspect, export and import stored replay: of a run, on disk, in a checkpoint, or on Redis servers.

  nexus replay inspect runs/walker                     what is stored, and whether it is intact
  nexus replay inspect redis://host-a,redis://host-b --json
  nexus replay export runs/walker --out episodes       one compressed .npz file per episode
  nexus replay export runs/walker --format minari --out walker-v0 --episodes 100
  nexus replay import episodes --into demos --task dmc_walker_walk
  nexus train dmc_walker_walk --offline demos          train on what was imported
"""
COMMANDS = {name: f"deploy.commands.replay_{name}" for name in ("inspect", "export", "import")}


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return dispatch("nexus replay", arguments, COMMANDS, DESCRIPTION)
