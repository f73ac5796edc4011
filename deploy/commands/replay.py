"""`nexus replay`: inspect stored replay, export its episodes to files, import files into a replay."""

from collections.abc import Sequence

from deploy.commands.dispatch import Command, dispatch

DESCRIPTION = "Inspect, export and import stored replay: of a run, on disk, in a\ncheckpoint, or on Redis servers."
COMMANDS = {
    "inspect": Command("deploy.commands.stored_replay.inspection", "report what is stored, and whether it is intact"),
    "export": Command("deploy.commands.stored_replay.export_files", "write episodes to .npz files or a Minari dataset"),
    "import": Command("deploy.commands.stored_replay.import_files", "fill a replay from such files"),
}
EXAMPLES = (
    "nexus replay inspect runs/walker",
    "nexus replay inspect redis://host-a,redis://host-b --json",
    "nexus replay export runs/walker --out episodes",
    "nexus replay export runs/walker --format minari --out walker-v0 --episodes 100",
    "nexus replay import episodes --into demos --task dmc_walker_walk",
    "nexus train dmc_walker_walk --offline demos    # train on what was imported",
)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return dispatch("nexus replay", arguments, COMMANDS, DESCRIPTION, EXAMPLES)
