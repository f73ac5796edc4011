"""`nexus replay`: look into stored replay, write its episodes to files, fill a replay from files."""

import argparse
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from deploy.commands.numbers import positive
from deploy.commands.replay_export import export_episodes
from deploy.commands.replay_import import IMPORTED, import_episodes
from deploy.stored.sources import open_all

DESCRIPTION = """Stored replay: of a run, on disk, in a checkpoint, or on Redis servers.

  nexus replay inspect runs/walker                          what is stored, and whether it is whole
  nexus replay inspect redis://host-a,redis://host-b --json
  nexus replay export runs/walker --out episodes            compressed .npz files, one an episode
  nexus replay export runs/walker --format minari --out walker-v0 --episodes 100
  nexus replay import episodes --into demos --task dmc_walker_walk
  nexus train dmc_walker_walk --offline demos
"""
SOURCES = (
    "a run's logdir, a disk replay, the replay folder of a checkpoint, or Redis URLs (redis://, rediss://, unix://; "
    "several with commas)"
)


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="nexus replay", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="inspect | export | import")
    looking = argparse.ArgumentParser(add_help=False)
    looking.add_argument("source", metavar="SOURCE", nargs="+", help=SOURCES)
    looking.add_argument("--prefix", default="", help="which replay, where a Redis server has several")

    inspect = commands.add_parser("inspect", parents=[looking], help="what is stored, and whether it is whole")
    inspect.add_argument("--json", action="store_true", help="everything as one JSON object")
    inspect.add_argument("--quick", action="store_true", help="do not read all of it for its checksums")
    inspect.add_argument("--all", action="store_true", help="count the episodes of all steps, not of the newest only")

    export = commands.add_parser("export", parents=[looking], help="write whole episodes to files")
    export.add_argument("--out", type=Path, required=True, help="a new folder")
    export.add_argument("--format", choices=("npz", "minari"), default="npz")
    export.add_argument("--episodes", type=positive, help="so many, the newest; all if it is left out")
    export.add_argument("--task", default="", help="whose spaces and actions to write, where SOURCE does not tell")

    load = commands.add_parser(
        "import", help="fill a replay from files", allow_abbrev=False,
        epilog="All further options are those of `nexus train TASK`, for a replay that training can go on with.",
    )  # fmt: skip
    load.add_argument(
        "files", metavar="FILE", nargs="+", type=Path,
        help="folders and .npz files of `nexus replay export`, of DreamerV3 and its ports; Minari datasets",
    )  # fmt: skip
    load.add_argument("--into", required=True, metavar="DIR|URL", help="a disk replay, new or not, or Redis URLs")
    load.add_argument("--task", default="", help="whose steps they are; not needed for files that were exported here")
    load.add_argument("--like", type=Path, metavar="LOGDIR", help="take task and settings of this run")
    load.add_argument("--prefix", default="", help=f"of the keys on Redis ({IMPORTED})")
    load.add_argument(
        "--actions", choices=("auto", "chosen", "leading"), default="auto",
        help="whether a row of .npz files has the action chosen after it, or the one that led to it",
    )  # fmt: skip
    load.add_argument("--rename", nargs="+", default=[], metavar="THEIRS=OURS", help="keys of .npz files")
    load.add_argument("--ignore", nargs="+", default=[], metavar="KEY", help="keys of .npz files to leave out")

    if arguments and arguments[0] == "import":
        known, rest = parser.parse_known_args(arguments)
        return import_episodes(known, rest)
    known = parser.parse_args(arguments)
    return _inspect(known) if known.command == "inspect" else export_episodes(known)


def _inspect(known: argparse.Namespace) -> int:
    from deploy.stored.report import inspect, show

    down: list[str] = []
    with ExitStack() as stack:
        readers = open_all(known.source, known.prefix, stack, down, down)
        report = inspect(readers, verify=not known.quick, everything=known.all, down=down)
    if known.json:
        print(json.dumps(report, indent=1))
    else:
        show(report, Console(width=max(140, shutil.get_terminal_size().columns)))
    return 0 if report["healthy"] else 1
