"""`nexus replay export`: writes whole episodes to files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from deploy.commands.numbers import PositiveOrNone
from deploy.commands.parsing import parse
from deploy.commands.stored_replay.source import ReplaySource
from deploy.exit_codes import FAILED
from deploy.stored.known_spaces import known_spaces
from deploy.stored.sources import open_all
from deploy.stored.transfer_report import left_out, told
from deploy.wiring.output_path import require_new_folder
from learner.checkpoint import disk_is_full
from replay.counted import counted
from replay.reading.episodes import Found, StoredEpisode, episodes, newest_episodes
from replay.reading.reader import Reader
from replay.store import ShardDownError
from world_models.space import Spaces


@dataclass(frozen=True, kw_only=True)
class Export(ReplaySource):
    """Write the complete episodes of a replay to files."""

    out: Path
    """New folder for the files."""
    format: Literal["npz", "minari"] = "npz"
    """One compressed .npz file per episode, or a Minari dataset."""
    episodes: Annotated[PositiveOrNone, arg(help_behavior_hint="(default: all)")] = None
    """Export only the newest INT episodes."""
    task: Annotated[str, arg(metavar="TASK", help_behavior_hint="(optional)")] = ""
    """Task whose spaces and actions to write, if SOURCE does not record it."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code: 1 if something was damaged and left out."""
    given = parse(
        Export, arguments, prog="nexus replay export", example="nexus replay export runs/walker --out episodes"
    )
    require_new_folder(given.out, "--out")
    lost: list[str] = []
    with ExitStack() as stack:
        readers = open_all(given.sources, given.prefix, stack, damaged=lost)
        schema = readers[0].schema
        if odd := [reader.where for reader in readers if reader.schema.fields != schema.fields]:
            raise ValueError(f"{odd[0]} and {readers[0].where} have different keys; export them separately.")
        task, spaces = known_spaces(given.sources, given.task)
        if spaces:
            _require_spaces(schema.fields, spaces, task)
        found = Found()
        source = told(_episodes(readers, given.episodes, found), "exported")
        first = next(source, None)
        if first is None:
            raise ValueError(" ".join(["There is no whole episode to export.", *_damage(lost, readers)]))
        source = chain([first], source)
        facts = {"task": task} | _spaces_json(spaces)
        try:
            if given.format == "npz":
                from deploy.stored.episode_files import write_episodes

                counts = write_episodes(given.out, schema, source, facts)["counts"]
            else:
                from deploy.stored.minari_files import write_minari

                counts = write_minari(given.out, schema, source, spaces, facts)
        except ShardDownError as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            remedy = "Free some space, or name" if disk_is_full(error) else "Name"
            raise ValueError(
                f"{given.out} cannot be written: {error.strerror or error}; no part of it was kept. {remedy} another "
                "folder with --out."
            ) from error
        damage = _damage(lost, readers)
    rest = found.describe()
    print(f"{counted(counts['episodes'], 'episode')}, {counted(counts['steps'], 'step')}: {given.out}")
    if rest:
        print(f"Incomplete and left out: {rest}.")
    for line in damage:
        print(line)
    if given.format == "minari":
        parent = given.out.absolute().parent
        print(f'MINARI_DATASETS_PATH={parent} python -c "import minari; minari.load_dataset({given.out.name!r})"')
    return FAILED if damage else 0


def _damage(lost: Sequence[str], readers: Sequence[Reader]) -> list[str]:
    """A line for each part of stored replay that was found damaged."""
    return left_out([*lost, *(f"{reader.where}: {text}" for reader in readers for text in reader.losses())])


def _episodes(readers: Sequence[Reader], number: int | None, found: Found) -> Iterator[StoredEpisode]:
    if number is None:
        for reader in readers:
            yield from episodes(reader, found)
        return
    ends = [(episode.first + episode.length, i, episode) for i, reader in enumerate(readers)
            for episode in newest_episodes(reader, number, found)]  # fmt: skip
    yield from (episode for _, _, episode in sorted(ends, key=lambda one: one[:2])[-number:])


def _require_spaces(fields: Mapping[str, Any], spaces: tuple[Spaces, Spaces], task: str) -> None:
    for key, space in (spaces[0] | spaces[1]).items():
        if key not in fields or (fields[key].dtype, fields[key].shape) != (space.dtype, space.shape):
            there = f"{fields[key].dtype} {list(fields[key].shape)}" if key in fields else "missing"
            raise ValueError(
                f"The steps are not from {task}: {key!r} is {there}, the task has {space.dtype} {list(space.shape)}."
            )


def _spaces_json(spaces: tuple[Spaces, Spaces] | None) -> dict[str, Any]:
    if spaces is None:
        return {}
    return {
        part: {key: space.to_json() for key, space in group.items()}
        for part, group in zip(("observation", "action"), spaces, strict=True)
    }
