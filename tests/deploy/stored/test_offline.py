"""Copying stored replay into a run's own."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import main
from deploy.stored.offline import fill, frames_per_update
from deploy.wiring.claim import _LOCKS
from deploy.wiring.config import RunConfig
from deploy.wiring.presets import apply
from deploy.wiring.stores import inline_store
from deploy.wiring.task import replay_schema, spaces_of
from replay.disk.disk_store import DiskStore
from replay.step import Rows, Schema
from replay.store import Store


def _config(tmp_path: Path, **options: object) -> RunConfig:
    config = apply(RunConfig(task="gym:CartPole-v1"), "quick")
    learner = replace(config.learner, batch_size=4, batch_length=8)
    return replace(config, logdir=str(tmp_path / "run"), mode="inline", learner=learner, **options)  # type: ignore[arg-type]


def _schema(config: RunConfig) -> Schema:
    return replay_schema(*spaces_of(config), config.model)


def _rows(schema: Schema, stream: int, first: int, n: int) -> Rows:
    rows = {key: np.zeros((n, *field.shape), field.dtype) for key, field in schema.all.items()}
    rows["reward"][:] = stream * 1000 + np.arange(first, first + n)
    rows["deter"][:] = 0.5
    return rows


def _source(directory: Path, schema: Schema) -> None:
    store = DiskStore(directory, schema, length=9, capacity=1000, chunk_length=16, streams=4)
    for stream in (3, 8):
        store.append(stream, 0, _rows(schema, stream, 0, 70))
    store.close()


def _own(config: RunConfig) -> Store:
    return inline_store(_schema(config), config, lambda line: None)


def test_everything_is_copied_once_and_latents_of_other_networks_are_not(tmp_path: Path) -> None:
    config = _config(tmp_path, offline=str(tmp_path / "source"))
    other = replace(config, model=replace(config.model, rssm=replace(config.model.rssm, deter=64)))
    _source(tmp_path / "source", _schema(config))
    for run, deter in ((config, 0.5), (other, 0.0)):
        store = _own(run)
        fill(store, run, lambda line: None)
        fill(store, run, lambda line: None)
        assert store.streams() == {3: range(70), 8: range(70)}
        rows = store.read(8, 0, 70)
        np.testing.assert_array_equal(rows["reward"], 8000 + np.arange(70, dtype=np.float32))
        assert (rows["deter"] == deter).all()
    assert frames_per_update(config) == 32


def test_a_copy_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    config = _config(tmp_path, offline=str(tmp_path / "source"))
    schema = _schema(config)
    _source(tmp_path / "source", schema)
    store = _own(config)
    store.append(3, 0, _rows(schema, 3, 0, 70))
    store.append(8, 0, _rows(schema, 8, 0, 20))
    notes: list[str] = []
    fill(store, config, notes.append)
    assert store.streams() == {3: range(70), 8: range(70)}
    assert "50 copied now" in notes[-1]


def test_streams_of_another_run_are_not_taken_for_an_earlier_copy(tmp_path: Path) -> None:
    config = _config(tmp_path, offline=str(tmp_path / "source"))
    schema = _schema(config)
    _source(tmp_path / "source", schema)
    for rows in (_rows(schema, 5, 0, 20), _rows(schema, 8, 0, 71)):
        store = _own(config)
        store.append(8, 0, rows)
        with pytest.raises(ValueError, match=r"already has a stream 8 .* Give this run its own --replay.prefix"):
            fill(store, config, lambda line: None)
        assert store.streams()[8] == range(len(rows["reward"]))


def test_what_follows_a_damaged_chunk_becomes_a_stream_of_its_own(tmp_path: Path) -> None:
    config = _config(tmp_path, offline=str(tmp_path / "source"))
    schema = _schema(config)
    _source(tmp_path / "source", schema)
    next((tmp_path / "source" / "chunks").glob("8-1.*")).unlink()  # steps 16 to 31
    notes: list[str] = []
    store = _own(config)
    lost = fill(store, config, notes.append)
    assert any("chunk files are missing, such as 8-1.rows" in text for text in lost)
    assert all(any(text.rstrip(".") in line for line in notes) for text in lost)
    streams = store.streams()
    assert len(streams) == 3 and streams[8] == range(16)
    (rest,) = streams.keys() - {3, 8}
    np.testing.assert_array_equal(store.read(rest, 0, 38)["reward"], 8032 + np.arange(38, dtype=np.float32))
    assert any("Steps 16 to 31 of stream 8 are missing" in line for line in notes)
    fill(store, config, notes.append)
    assert store.streams() == streams


def test_a_source_of_another_task_or_too_small_a_one_is_refused(tmp_path: Path) -> None:
    config = _config(tmp_path, offline=str(tmp_path / "source"))
    _source(tmp_path / "source", _schema(config))
    other = replace(config, task="gym:MountainCarContinuous-v0")
    with pytest.raises(ValueError, match="not those of gym:MountainCarContinuous-v0:\n  action: .*\n  vector"):
        fill(_own(other), other, lambda line: None)
    large = replace(config, learner=replace(config.learner, start_items=500))
    with pytest.raises(ValueError, match="gives 124 sequences of 9 steps, training starts at 500"):
        fill(_own(large), large, lambda line: None)
    missing = replace(config, offline=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere"):
        fill(_own(missing), missing, lambda line: None)


def test_a_run_copies_from_one_source_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy that was refused, or cut off, is not joined by that of another source."""
    logdir, schema = tmp_path / "run", _schema(_config(tmp_path))
    options = ["--preset", "quick", "--mode", "inline", "--replay", "disk", "--replay.capacity", "5000"]
    for name, said in (("one", "training starts at 4,000"), ("two", "belongs to a run with another configuration")):
        _source(tmp_path / name, schema)
        place = ["--offline", str(tmp_path / name), "--logdir", str(logdir), "--learner.start-items", "4000"]
        with pytest.raises(SystemExit) as ended:
            main(["train", "gym:CartPole-v1", *options, *place])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and said in error, error
        _LOCKS.pop(logdir, ExitStack()).close()  # this process would still hold it
