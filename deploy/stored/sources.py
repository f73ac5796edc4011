"""Opens stored replay by the names that users give. Torch-free."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from deploy.wiring.config import load_config
from deploy.wiring.stores import replay_directory, replay_prefix, shard_names
from learner.checkpoint import Checkpoints
from replay.memory.checkpoint_reader import CheckpointReader
from replay.reading.reader import Reader
from replay.redis_url import URLS, parse_servers
from replay.store import ShardDownError
from world_models.checkpoint_files import RUN_CONFIG

_PARTS = ("index.json", "state.safetensors", "manifest", "chunks")  # files of a checkpoint and of a disk store


def open_sources(
    where: str, prefix: str = "", down: list[str] | None = None, damaged: list[str] | None = None
) -> list[Reader]:
    """The shards of a run's logdir, a disk replay, a checkpoint's replay folder, or of comma-separated Redis URLs.

    Raises ValueError if there is nothing to read, ShardDownError if a server does not answer. If `down` is given and
    other servers answer, that server is left out instead and its error added to `down`; likewise for unreadable folders
    and `damaged`.
    """
    if where.startswith(URLS):
        parse_servers(where)  # reject bad URLs before connecting to any server
        return _servers(where.split(","), prefix, down)
    path, names = Path(where), list[str]()
    if (path / RUN_CONFIG).exists():
        config = replace(load_config(path), logdir=where)  # its path may have changed
        if config.replay.kind == "redis":
            return open_sources(config.replay.store, replay_prefix(config), down)
        if config.replay.kind == "disk":
            return _folders(replay_directory(config), shard_names(config), damaged)
        newest = Checkpoints.of(path).numbers()
        if not newest:
            raise ValueError(f"{path} has no checkpoint and thus no stored replay yet; let the run save one first.")
        path, names = Checkpoints.of(path).path(newest[-1]) / "replay", shard_names(config)
    elif (path / "replay").is_dir() and (path / "state.json").exists():  # a checkpoint of a run
        path = path / "replay"
    return _folders(path, names, damaged)


def open_all(
    sources: Sequence[str], prefix: str, stack: ExitStack, down: list[str] | None = None,
    damaged: list[str] | None = None,
) -> list[Reader]:  # fmt: skip
    """The shards of several sources, closed with `stack`. Raises ValueError also if a server does not answer."""
    readers: list[Reader] = []
    for where in sources:
        try:
            some = open_sources(where, prefix, down, damaged)
        except ShardDownError as error:
            raise ValueError(str(error)) from error
        readers += [stack.enter_context(closing(reader)) for reader in some]
    return readers


def _servers(urls: list[str], prefix: str, down: list[str] | None) -> list[Reader]:
    from replay.redis.redis_reader import open_replay

    readers: list[Reader] = []
    try:
        for i, url in enumerate(urls, start=1):
            try:
                readers.append(open_replay(url, prefix))
            except ShardDownError as error:
                if down is None or (i == len(urls) and not readers):
                    raise
                down.append(str(error))
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return readers


def _folders(path: Path, names: Sequence[str], damaged: list[str] | None) -> list[Reader]:
    """Shards in one folder each, at least those with these names, or a single one in `path` itself."""
    folders = [path] if _is_shard(path) else sorted(child for child in path.glob("*") if _is_shard(child))
    if not folders:
        raise ValueError(
            f"{path} holds no stored replay. Name the logdir of a run, a disk replay's folder, the replay folder of a "
            f"checkpoint, or Redis URLs ({', '.join(URLS)}). Convert episode files and Minari datasets by nexus replay "
            "import."
        )
    readers: list[Reader] = []
    for i, folder in enumerate(folders, start=1):
        try:
            readers.append(_open(folder))
        except ValueError as error:
            if damaged is None or (i == len(folders) and not readers):
                raise
            damaged.append(str(error))
    if gone := [f"{path / name} is not there." for name in names if not (path / name).is_dir()]:
        if damaged is None:
            raise ValueError(" ".join(gone))
        damaged += gone
    return readers


def holds_replay(path: Path) -> bool:
    """Whether a folder is a run's logdir, a checkpoint of one, or holds shards of replay."""
    run = (path / RUN_CONFIG).exists() or (path / "replay").is_dir() and (path / "state.json").exists()
    folders = [path, *path.glob("*")]
    return run or any((folder / name).exists() for folder in folders for name in _PARTS if name != "index.json")


def _is_shard(path: Path) -> bool:
    """Whether there is a shard here, even a damaged one."""
    return path.is_dir() and (path.name.startswith("shard-") or any((path / name).exists() for name in _PARTS))


def _open(path: Path) -> Reader:
    if (path / "index.json").exists() or (path / "state.safetensors").exists():
        if any(path.glob("*.npz")):
            raise ValueError(
                f"{path} holds exported episodes; nexus replay import {path} --into DIR makes a replay of them."
            )
        return CheckpointReader(path)
    from replay.disk.disk_reader import DiskReader

    return DiskReader(path)
