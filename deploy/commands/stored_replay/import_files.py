"""`nexus replay import`: fills a replay from files."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from tyro.conf import Positional, arg

from deploy.commands.parsing import OptionalPath, option_names, parse_known, several
from deploy.commands.train import Train, parse_train
from deploy.exit_codes import FAILED
from deploy.stored.known_spaces import recorded_spaces
from deploy.stored.sources import open_sources
from deploy.stored.transfer_report import left_out, told
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.output_path import require_writable_folder
from deploy.wiring.presets import options_for
from deploy.wiring.stores import replay_directory, rolls_back
from learner.config import LearnerConfig
from learner.sequence import CONTEXT
from replay.config import ReplayConfig
from replay.counted import counted
from replay.reading.episodes import Found, append_episodes, fresh_streams
from replay.redis_url import URLS, parse_servers
from replay.step import Rows, Schema
from replay.store import ShardDownError
from world_models.checkpoint_files import RUN_CONFIG
from world_models.space import Spaces

IMPORTED = "nexus:imported"


@dataclass(frozen=True, kw_only=True)
class Import:
    """Fill a replay from files of episodes.

    Takes the options of `nexus train` too, for a replay that is new.
    """

    files: Annotated[Positional[tuple[Path, ...]], several("FILE")]
    """Folders or .npz files from `nexus replay export`, DreamerV3 or its ports; Minari datasets."""
    into: Annotated[str, arg(metavar="DIR|URL")]
    """Replay on disk, new or existing, or Redis URLs separated by commas."""
    task: Annotated[str, arg(metavar="TASK", help_behavior_hint="(optional)")] = ""
    """Task that the steps come from; files exported by Nexus record it."""
    like: OptionalPath = None
    """Take the task and all settings from the run in this logdir."""
    prefix: Annotated[str, arg(help_behavior_hint=f"(default: {IMPORTED})")] = ""
    """Prefix of the keys on Redis."""
    actions: Literal["auto", "chosen", "leading"] = "auto"
    """Action in a row of an .npz file: `chosen` after its observation, `leading` to it, or `auto`: detect which."""
    rename: Annotated[tuple[str, ...], arg(metavar="THEIRS=OURS [...]", help_behavior_hint="(optional)")] = ()
    """Rename keys of .npz files."""
    ignore: Annotated[tuple[str, ...], arg(metavar="KEY [...]", help_behavior_hint="(optional)")] = ()
    """Leave out these keys of .npz files."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code: 1 if something was damaged and left out."""
    given, rest = parse_known(
        Import, arguments, prog="nexus replay import", others=tuple(option_names(Train)),
        example="nexus replay import episodes --into demos --task dmc_walker_walk",
    )  # fmt: skip
    from deploy.stored.episode_files import NpzEpisodes, read_index
    from deploy.stored.gymnasium_data import is_action
    from deploy.stored.minari_files import MinariEpisodes, read_facts
    from deploy.wiring.stores import inline_store
    from learner.datasets.minari import is_minari
    from replay.foreign_rows import Reading

    if given.into.startswith(URLS):
        parse_servers(given.into)
    else:
        _require_no_rollback(Path(given.into))
        require_writable_folder(Path(given.into), "--into")
    if absent := [str(path) for path in given.files if not path.exists()]:
        raise ValueError(f"{', '.join(absent)}: no such file or folder; name episode files or Minari datasets.")
    datasets = [path for path in given.files if is_minari(path)]
    files = [path for path in given.files if path not in datasets]
    indices = [index for path in files if path.is_dir() and (index := read_index(path))]
    indices += [facts for path in datasets if (facts := read_facts(path))]
    config, schema, spaces = _target(given, rest, indices)
    actions = frozenset(spaces[1] if spaces else filter(is_action, schema.fields))
    rename, ignore = _renamed(given.rename), frozenset(given.ignore)
    reading = Reading(schema=schema, actions=actions, rename=rename, ignore=ignore)
    found = Found()
    sources: list[NpzEpisodes | MinariEpisodes] = []
    if files:
        npz = NpzEpisodes(files, reading, given.actions)
        found, sources = npz.found, [npz]
    if datasets:
        sources.append(MinariEpisodes(datasets, schema, spaces[1] if spaces else None))

    def damage() -> list[str]:
        return left_out([text for source in sources for text in source.damaged.values()])

    rows = _sound((one for source in sources for one in source), spaces[0] | spaces[1] if spaces else {})
    first = next(rows, None)  # what does not fit is reported before anything is created
    if first is None:
        why = " ".join(damage()) or f"{found.describe() or 'they are empty'}."
        raise ValueError(f"There is no whole episode in these files: {why}")
    with closing(inline_store(schema, config, print)) as store:
        before = store.stats()
        number, steps = append_episodes(store, told(chain([first], rows), "imported"), fresh_streams(store))
        after = store.stats()
    print(
        f"{counted(number, 'episode')}, {counted(steps, 'step')}: {given.into} now has "
        f"{counted(round(after['items']), 'sequence')} of {store.length}."
    )
    if found.describe():
        print(f"Incomplete and left out: {found.describe()}.")
    for line in (damaged := damage()):
        print(line)
    if number and after["items"] == before["items"] and after["evicted"] == before["evicted"]:
        print(f"They add no new sequence of {store.length} steps: import more episodes at once.")
    if after["evicted"] > before["evicted"]:
        print(f"Not all of them fit: raise --replay.capacity ({config.replay.capacity:,} steps) and import them again.")
    options = options_for(load_config(given.like)) if given.like else rest
    again = ["nexus", "train", config.task if spaces else "TASK", *options, "--offline", given.into]
    print(f"Train on them alone: {shlex.join(again)}")
    return FAILED if damaged else 0


def _require_no_rollback(into: Path) -> None:
    """ValueError: steps imported there would be lost when the run that owns the replay continues."""
    run = into.resolve().parent
    if (run / RUN_CONFIG).exists():
        config = replace(load_config(run), logdir=str(run))
        if rolls_back(config) and replay_directory(config) == into.resolve():
            raise ValueError(
                f"--into {into} is the replay of the run {run}, which goes back to its newest checkpoint when it "
                "continues: imported steps would be lost. Import into a separate folder, and train on that with "
                "--offline or --replay.directory."
            )


def _target(
    given: Import, rest: Sequence[str], indices: Sequence[Mapping[str, Any]]
) -> tuple[RunConfig, Schema, tuple[Spaces, Spaces] | None]:
    """Configuration of the run whose replay is filled, schema of its steps, and spaces of its task if known."""
    from deploy.wiring.task import replay_schema, require_trainable, spaces_of

    own: tuple[Spaces, Spaces] | None = None
    tasks = {str(index["task"]) for index in indices if index.get("task")}
    exported = tasks.pop() if len(tasks) == 1 else ""
    task = given.task or exported
    if given.into.startswith(URLS):
        place: dict[str, Any] = {"store": given.into, "prefix": given.prefix or IMPORTED}
    else:
        place = {"store": "disk", "directory": given.into}
    if given.like is None and not given.task and not rest and (there := _what_is_there(given, place)):
        replay, length, schema = there
        learner = LearnerConfig(batch_length=length - CONTEXT, start_items=1)
        config = RunConfig(task=task or RunConfig().task, replay=replay, learner=learner)
        return config, schema, _spaces_in(indices) if task else None
    if given.like is not None:
        if rest or given.task:
            raise ValueError(f"--like takes everything from {given.like}; leave out --task and {' '.join(rest)}.")
        config = load_config(given.like)
    elif task:
        config = parse_train([task, *rest])
        own = spaces_of(config)
        require_trainable(config, own)
    else:
        raise ValueError("The task of these steps is unknown; give --task TASK, or --like LOGDIR for that of a run.")
    config = replace(config, replay=replace(config.replay, **place))
    brought = None if given.like or given.task else _spaces_in(indices)
    spaces = brought or own or spaces_of(config)
    return config, replay_schema(*spaces, config.model), spaces


def _spaces_in(indices: Sequence[Mapping[str, Any]]) -> tuple[Spaces, Spaces] | None:
    """The spaces that exported episodes record."""
    return next(filter(None, map(recorded_spaces, indices)), None)


def _what_is_there(given: Import, place: dict[str, Any]) -> tuple[ReplayConfig, int, Schema] | None:
    """Settings, sequence length and schema of the replay at --into; None if there is none yet."""
    try:
        readers = open_sources(given.into, place.get("prefix", ""))
    except ShardDownError as error:
        raise ValueError(str(error)) from error
    except ValueError:  # not there yet; what prevents its creation is reported then
        return None
    facts = [reader.facts() for reader in readers]
    for reader in readers:
        reader.close()
    if "directory" in place and not (Path(given.into) / "shard-0").is_dir():
        raise ValueError(f"--into {given.into} is one shard of a replay; name the folder that holds its shards.")
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
    """The same rows. ValueError: a value is not finite, or outside the classes of its space (`known`)."""
    for number, episode in enumerate(rows):
        for key, value in episode.items():
            where = f"Episode {number}, key {key!r}"
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                step = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(1)))
                raise ValueError(f"{where}: row {step} is not finite ({value[step]}); fix or leave out that episode.")
            if key in known and known[key].discrete and value.dtype.kind == "i":
                low, high = int(value.min()), int(value.max())
                if low < 0 or high >= known[key].classes:
                    raise ValueError(
                        f"{where}: values from {low} to {high}, the task has classes 0 to {known[key].classes - 1}."
                    )
        yield episode
