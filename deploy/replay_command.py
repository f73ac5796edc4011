"""`nexus replay`: look into stored replay, write its episodes to files, fill a replay from files."""

import argparse
import json
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console

from deploy.command_numbers import positive
from deploy.config import FILE, RunConfig, load_config
from deploy.output_path import require_new_folder, require_writable_folder
from deploy.presets import options_for
from deploy.replay_sources import open_sources
from deploy.stores import replay_directory, rolls_back
from learner.checkpoint import Checkpoints, disk_is_full, read_document, verify
from learner.config import LearnerConfig
from learner.sequence import CONTEXT
from replay.config import ReplayConfig
from replay.counted import counted
from replay.episodes import Episode, Found, append_episodes, episodes, fresh_streams, newest_episodes
from replay.reader import Reader
from replay.redis_url import URLS
from replay.step import Rows, Schema
from replay.store import ShardDownError
from world_models.space import Space, Spaces

T = TypeVar("T")
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
IMPORTED = "nexus:imported"
_SAY = 10.0  # seconds between lines of progress
_NAMED = 10  # damaged parts that are named one by one


def replay(arguments: Sequence[str]) -> int:
    """`nexus replay`."""
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
        return _import(known, rest)
    known = parser.parse_args(arguments)
    return _inspect(known) if known.command == "inspect" else _export(known)


def _inspect(known: argparse.Namespace) -> int:
    from deploy.replay_report import inspect, show

    down: list[str] = []
    with ExitStack() as stack:
        readers = _open(known, stack, down, down)
        report = inspect(readers, verify=not known.quick, everything=known.all, down=down)
    if known.json:
        print(json.dumps(report, indent=1))
    else:
        show(report, Console(width=max(140, shutil.get_terminal_size().columns)))
    return 0 if report["healthy"] else 1


def _export(known: argparse.Namespace) -> int:
    require_new_folder(known.out, "--out")
    lost: list[str] = []
    with ExitStack() as stack:
        readers = _open(known, stack, damaged=lost)
        schema = readers[0].schema
        if odd := [reader.where for reader in readers if reader.schema.fields != schema.fields]:
            raise ValueError(f"{odd[0]} has other keys than {readers[0].where}; export them one by one.")
        task, spaces = _known_spaces(known)
        if spaces:
            _require_spaces(schema.fields, spaces, task)
        found = Found()
        source = _told(_episodes(readers, known.episodes, found), "exported")
        first = next(source, None)
        if first is None:
            raise ValueError(" ".join(["There is no whole episode to export.", *_damage(lost, readers)]))
        source = chain([first], source)
        facts = {"task": task} | _spaces_json(spaces)
        try:
            if known.format == "npz":
                from deploy.episode_files import write_episodes

                counts = write_episodes(known.out, schema, source, facts)["counts"]
            else:
                from deploy.minari_files import write_minari

                counts = write_minari(known.out, schema, source, spaces, facts)
        except ShardDownError as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            remedy = "Free some space, or name" if disk_is_full(error) else "Name"
            raise ValueError(
                f"{known.out} cannot be written: {error.strerror or error}; nothing of it is left. {remedy} another "
                "folder with --out."
            ) from error
        damage = _damage(lost, readers)
    rest = found.describe()
    print(f"{counted(counts['episodes'], 'episode')}, {counted(counts['steps'], 'step')}: {known.out}")
    if rest:
        print(f"Not whole and left out: {rest}.")
    for line in damage:
        print(line)
    if known.format == "minari":
        parent = known.out.absolute().parent
        print(f'MINARI_DATASETS_PATH={parent} python -c "import minari; minari.load_dataset({known.out.name!r})"')
    return 1 if damage else 0


def _damage(lost: Sequence[str], readers: Sequence[Reader]) -> list[str]:
    """A line for each part of stored replay that is damaged, as far as it was looked at."""
    return _left_out([*lost, *(f"{reader.where}: {text}" for reader in readers for text in reader.losses())])


def _left_out(parts: Sequence[str]) -> list[str]:
    more = [f"Damaged and left out: {len(parts) - _NAMED} more."] if len(parts) > _NAMED else []
    return [f"Damaged and left out: {part.rstrip('.')}." for part in parts[:_NAMED]] + more


def _import(known: argparse.Namespace, rest: Sequence[str]) -> int:
    from deploy.episode_files import NpzEpisodes, read_index
    from deploy.gymnasium_data import is_action
    from deploy.minari_files import MinariEpisodes, is_minari, read_facts
    from deploy.stores import inline_store
    from replay.foreign_rows import Reading

    if not known.into.startswith(URLS):
        _require_no_rollback(Path(known.into))
        require_writable_folder(Path(known.into), "--into")
    if absent := [str(path) for path in known.files if not path.exists()]:
        raise ValueError(f"{', '.join(absent)}: no such file or folder; name episode files or Minari datasets.")
    datasets = [path for path in known.files if is_minari(path)]
    files = [path for path in known.files if path not in datasets]
    indices = [index for path in files if path.is_dir() and (index := read_index(path))]
    indices += [facts for path in datasets if (facts := read_facts(path))]
    config, schema, spaces = _target(known, rest, indices)
    actions = frozenset(spaces[1] if spaces else filter(is_action, schema.fields))
    rename, ignore = _renamed(known.rename), frozenset(known.ignore)
    reading = Reading(schema=schema, actions=actions, rename=rename, ignore=ignore)
    found = Found()
    sources: list[NpzEpisodes | MinariEpisodes] = []
    if files:
        npz = NpzEpisodes(files, reading, known.actions)
        found, sources = npz.found, [npz]
    if datasets:
        sources.append(MinariEpisodes(datasets, schema, spaces[1] if spaces else None))

    def damage() -> list[str]:
        return _left_out([text for source in sources for text in source.damaged.values()])

    rows = _sound((one for source in sources for one in source), spaces[0] | spaces[1] if spaces else {})
    first = next(rows, None)  # what does not fit is said before anything is made
    if first is None:
        why = " ".join(damage()) or f"{found.describe() or 'they are empty'}."
        raise ValueError(f"There is no whole episode in these files: {why}")
    with closing(inline_store(schema, config, print)) as store:
        before = store.stats()
        number, steps = append_episodes(store, _told(chain([first], rows), "imported"), fresh_streams(store))
        after = store.stats()
    print(
        f"{counted(number, 'episode')}, {counted(steps, 'step')}: {known.into} now has "
        f"{counted(round(after['items']), 'sequence')} of {store.length}."
    )
    if found.describe():
        print(f"Not whole and left out: {found.describe()}.")
    for line in (damaged := damage()):
        print(line)
    if number and after["items"] == before["items"] and after["evicted"] == before["evicted"]:
        print(f"They give no new sequence of {store.length} steps: import more of them at once.")
    if after["evicted"] > before["evicted"]:
        print(f"They did not all fit: raise --replay.capacity ({config.replay.capacity:,} steps) and import them anew.")
    options = options_for(load_config(known.like)) if known.like else rest
    again = ["nexus", "train", config.task if spaces else "TASK", *options, "--offline", known.into]
    print(f"Learn from them alone: {shlex.join(again)}")
    return 1 if damaged else 0


def _require_no_rollback(into: Path) -> None:
    """ValueError: what is imported there would be lost when the run that it belongs to continues."""
    run = into.resolve().parent
    if (run / FILE).exists():
        config = replace(load_config(run), logdir=str(run))
        if rolls_back(config) and replay_directory(config) == into.resolve():
            raise ValueError(
                f"--into {into} is the replay of the run {run}, which goes back to its newest checkpoint when it "
                "continues: what is imported would be lost. Import into a folder of its own, and learn from that with "
                "--offline or --replay.directory."
            )


def _open(
    known: argparse.Namespace, stack: ExitStack, down: list[str] | None = None, damaged: list[str] | None = None
) -> list[Reader]:
    readers: list[Reader] = []
    for where in known.source:
        try:
            some = open_sources(where, known.prefix, down, damaged)
        except ShardDownError as error:
            raise ValueError(str(error)) from error
        readers += [stack.enter_context(closing(reader)) for reader in some]
    return readers


def _episodes(readers: Sequence[Reader], number: int | None, found: Found) -> Iterator[Episode]:
    if number is None:
        for reader in readers:
            yield from episodes(reader, found)
        return
    ends = [(episode.first + episode.length, i, episode) for i, reader in enumerate(readers)
            for episode in newest_episodes(reader, number, found)]  # fmt: skip
    yield from (episode for _, _, episode in sorted(ends, key=lambda one: one[:2])[-number:])


def _known_spaces(known: argparse.Namespace) -> tuple[str, tuple[Spaces, Spaces] | None]:
    """Task and spaces of what is exported, as far as the source or --task tells."""
    if known.task:
        from deploy.task import spaces_of

        return known.task, spaces_of(RunConfig(task=known.task))
    for source in map(Path, known.source):
        folders = [source, source.parent]
        if (source / FILE).exists():
            checkpoints = Checkpoints(source / "checkpoints")
            folders = [checkpoints.path(number) for number in reversed(checkpoints.numbers())]
        for folder in folders:
            try:
                verify(folder, ["config.json"])
                document = read_document(folder / "config.json")
                spaces = [
                    {k: Space.from_json(v) for k, v in document[part].items()} for part in ("observation", "action")
                ]
                return str(document["task"]), (spaces[0], spaces[1])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        if (source / FILE).exists():
            from deploy.task import spaces_of

            config = load_config(source)
            return config.task, spaces_of(config)
    return "", None


def _require_spaces(fields: Mapping[str, Any], spaces: tuple[Spaces, Spaces], task: str) -> None:
    for key, space in (spaces[0] | spaces[1]).items():
        if key not in fields or (fields[key].dtype, fields[key].shape) != (space.dtype, space.shape):
            there = f"{fields[key].dtype} {list(fields[key].shape)}" if key in fields else "not there"
            raise ValueError(
                f"The steps are not those of {task}: {key!r} is {there}, the task has {space.dtype} "
                f"{list(space.shape)}."
            )


def _target(
    known: argparse.Namespace, rest: Sequence[str], indices: Sequence[Mapping[str, Any]]
) -> tuple[RunConfig, Schema, tuple[Spaces, Spaces] | None]:
    """Configuration of a run whose replay is to be filled, its steps, and the spaces of its task if it has one."""
    from deploy.task import replay_schema, spaces_of

    tasks = {str(index["task"]) for index in indices if index.get("task")}
    exported = tasks.pop() if len(tasks) == 1 else ""
    task = known.task or exported
    if known.into.startswith(URLS):
        place: dict[str, Any] = {"store": known.into, "prefix": known.prefix or IMPORTED}
    else:
        place = {"store": "disk", "directory": known.into}
    if known.like is None and not known.task and not rest and (there := _what_is_there(known, place)):
        replay, length, schema = there
        learner = LearnerConfig(batch_length=length - CONTEXT, start_items=1)
        config = RunConfig(task=task or RunConfig().task, replay=replay, learner=learner)
        return config, schema, _spaces_in(indices) if task else None
    if known.like is not None:
        if rest or known.task:
            raise ValueError(f"--like takes everything from {known.like}; leave out --task and {' '.join(rest)}.")
        config = load_config(known.like)
    elif task:
        from deploy.cli import parse_train

        config = parse_train([task, *rest])
    else:
        raise ValueError("Whose steps are these? Say --task TASK, or --like LOGDIR for those of a run.")
    config = replace(config, replay=replace(config.replay, **place))
    brought = None if known.like or known.task else _spaces_in(indices)
    spaces = brought or spaces_of(config)
    return config, replay_schema(*spaces, config.model), spaces


def _spaces_in(indices: Sequence[Mapping[str, Any]]) -> tuple[Spaces, Spaces] | None:
    """Spaces that exported episodes bring with them."""
    for index in indices:
        if "observation" in index and "action" in index:
            return _spaces_from(index)
    return None


def _what_is_there(known: argparse.Namespace, place: dict[str, Any]) -> tuple[ReplayConfig, int, Schema] | None:
    """Settings, sequence length and steps of a replay that exists already; None: there is none."""
    try:
        readers = open_sources(known.into, place.get("prefix", ""))
    except ShardDownError as error:
        raise ValueError(str(error)) from error
    except ValueError:  # to be made; what cannot be, says so then
        return None
    facts = [reader.facts() for reader in readers]
    for reader in readers:
        reader.close()
    if "directory" in place and not (Path(known.into) / "shard-0").is_dir():
        raise ValueError(f"--into {known.into} is a part of a replay; name the folder that has its shards.")
    config = ReplayConfig(
        **place, shards=len(readers), capacity=sum(int(fact["capacity"]) for fact in facts),
        capacity_gb=sum(fact["max_gb"] for fact in facts) * (1 + 1e-9),
    )  # fmt: skip
    return config, readers[0].length, readers[0].schema


def _renamed(pairs: Sequence[str]) -> dict[str, str]:
    if bad := [pair for pair in pairs if pair.count("=") != 1]:
        raise ValueError(f"--rename takes THEIRS=OURS, got {bad[0]!r}.")
    return dict(pair.split("=") for pair in pairs)


def _sound(rows: Iterable[Rows], known: Spaces) -> Iterator[Rows]:
    """Rows whose values are finite and, as far as its spaces are known, inside the task's classes, else ValueError."""
    for number, episode in enumerate(rows):
        for key, value in episode.items():
            where = f"Episode {number}, key {key!r}"
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                step = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(1)))
                raise ValueError(f"{where}: row {step} is not finite ({value[step]}); mend or leave out that episode.")
            if key in known and known[key].discrete and value.dtype.kind == "i":
                low, high = int(value.min()), int(value.max())
                if low < 0 or high >= known[key].classes:
                    raise ValueError(
                        f"{where}: values from {low} to {high}, the task has classes 0 to {known[key].classes - 1}."
                    )
        yield episode


def _told(items: Iterable[T], done: str) -> Iterator[T]:
    """The same items, with a line now and then about how many they were."""
    said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said > _SAY:
            said = time.monotonic()
            print(f"{done} {counted(number, 'episode')} so far", flush=True)


def _spaces_from(document: Mapping[str, Any]) -> tuple[Spaces, Spaces]:
    observation, action = (
        {key: Space.from_json(fields) for key, fields in document[part].items()} for part in ("observation", "action")
    )
    return observation, action


def _spaces_json(spaces: tuple[Spaces, Spaces] | None) -> dict[str, Any]:
    if spaces is None:
        return {}
    return {
        part: {key: space.to_json() for key, space in group.items()}
        for part, group in zip(("observation", "action"), spaces, strict=True)
    }
