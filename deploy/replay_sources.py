"""Stored replay to read from, named as a user names it. Torch-free."""

from pathlib import Path

from deploy.config import FILE, load_config
from deploy.stores import replay_directory, replay_prefix
from learner.checkpoint import Checkpoints
from replay.config import URLS
from replay.episodes import Source
from replay.snapshot import Snapshot


def open_sources(where: str, prefix: str = "") -> list[Source]:
    """The shards of a run's logdir, a disk replay, a checkpoint's replay folder, or of Redis URLs joined by commas.

    ValueError: there is nothing to read.
    """
    if where.startswith(URLS):
        from replay.redis_reader import open_replay

        return [open_replay(url, prefix) for url in where.split(",")]
    path = Path(where)
    if (path / FILE).exists():
        config = load_config(path)
        if config.replay.kind == "redis":
            return open_sources(config.replay.store, replay_prefix(config))
        if config.replay.kind == "disk":
            return _folders(replay_directory(config))
        newest = Checkpoints(path / "checkpoints").numbers()
        if not newest:
            raise ValueError(f"{path} has no checkpoint, so no stored replay yet; let the run save one first.")
        path = Checkpoints(path / "checkpoints").path(newest[-1]) / "replay"
    elif (path / "replay").is_dir() and (path / "state.json").exists():  # a checkpoint of a run
        path = path / "replay"
    return _folders(path)


def _folders(path: Path) -> list[Source]:
    """Shards in a folder each, or a single one in `path` itself."""
    folders = [path] if _is_shard(path) else sorted(child for child in path.glob("*") if _is_shard(child))
    if not folders:
        raise ValueError(
            f"{path} holds no replay. Give the logdir of a run, a disk replay's folder, the replay folder of a "
            f"checkpoint, or Redis URLs ({', '.join(URLS)})."
        )
    return [_open(folder) for folder in folders]


def _is_shard(path: Path) -> bool:
    return (path / "index.json").exists() or (path / "manifest").exists()


def _open(path: Path) -> Source:
    if (path / "index.json").exists():
        return Snapshot(path)
    from replay.disk_reader import DiskReader

    return DiskReader(path)
