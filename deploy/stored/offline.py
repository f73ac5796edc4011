"""Offline training: copies stored replay into the run's own replay before the first update. Torch-free."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from deploy.stored.sources import open_sources
from deploy.stored.transfer_report import SAY
from deploy.wiring.config import RunConfig
from learner.sequence import start_items
from replay.counted import counted
from replay.reading.episodes import pieces
from replay.reading.reader import Reader
from replay.step import Rows, Schema
from replay.store import Store


def frames_per_update(config: RunConfig) -> int:
    """Frames replayed by one update, which count as the frames of an offline run; 0 if actors count frames."""
    batch = config.learner.batch_size * config.learner.batch_length
    return batch * config.environment.action_repeat if config.offline else 0


def fill(store: Store, config: RunConfig, note: Callable[[str], None]) -> list[str]:
    """Copy `config.offline` into `store`, continuing an earlier copy that was interrupted. Returns a line for each
    damaged part that was left out.

    Raises ValueError if its steps do not fit the task, or are fewer than training needs.
    """
    lost: list[str] = []
    with ExitStack() as stack:
        sources = open_sources(config.offline, damaged=lost)
        for source in sources:
            stack.callback(source.close)
        try:
            _copy(sources, store, config, note)
        finally:
            lost += [f"{source.where}: {text}" for source in sources for text in source.losses()]
            for text in lost:
                note(f"Damaged and left out: {text.rstrip('.')}.")
    return lost


def _copy(sources: Sequence[Reader], store: Store, config: RunConfig, note: Callable[[str], None]) -> None:
    for source in sources:
        _require_same_fields(store.schema, source.schema, config)
    total = sum(len(steps) for source in sources for steps in source.streams().values())
    if total > config.replay.capacity:
        kept = counted(config.replay.capacity, "step is", "steps are")
        note(f"Of the {total:,} steps in {config.offline} only {kept} kept: replay.capacity.")
    have = store.streams()
    copied, said = 0, time.monotonic()
    for source in sources:
        for stream, steps in sorted(source.streams().items()):
            target, begin, end = stream, steps.start, steps.start
            done = have.get(stream, range(0)).stop  # continue an interrupted copy here
            if done:
                _require_copy(store, source, stream, done, config)
            for position, rows in pieces(source, stream, range(min(steps.start + done, steps.stop), steps.stop)):
                if position > max(end, begin + done):
                    note(f"Steps {max(end, begin + done)} to {position - 1} of stream {stream} are missing.")
                    target, begin, done = _stream_behind(stream, position), position, 0
                n = len(next(iter(rows.values())))
                full = _with_latents(store.schema, source.schema, rows, n)
                copied += store.append(target, position - begin, full)  # the start of a stream may be lost
                end = position + n
                if time.monotonic() - said > SAY:
                    said = time.monotonic()
                    note(f"copying {config.offline} into replay: {copied:,} of {counted(total, 'step')}")
    if (items := len(store)) < (needed := min(start_items(config.learner), config.replay.capacity)):
        raise ValueError(
            f"{config.offline} gives {counted(items, 'sequence')} of {store.length} steps, training starts at "
            f"{needed:,}; lower --learner.start-items, or shorten --learner.batch-length."
        )
    what = f"{counted(items, 'sequence')} of {counted(total, 'step')}"
    note(f"Offline: {what} from {config.offline}, {copied:,} copied now.")


def _require_copy(store: Store, source: Reader, stream: int, done: int, config: RunConfig) -> None:
    """Raises ValueError if the `done` steps of this stream in the replay were written by another run sharing it."""
    steps = source.streams()[stream]
    own = done <= len(steps)
    try:
        stored = store.read(stream, done - 1, 1) if own else {}
    except ValueError:  # evicted
        return
    last = steps.start + done - 1
    for _, rows in pieces(source, stream, range(last, last + 1)) if own else ():
        own = all(np.array_equal(rows[key], stored[key]) for key in source.schema.fields)
    if not own:
        raise ValueError(
            f"The run's replay already has a stream {stream} whose steps are not those of {config.offline}: another "
            "run wrote them. Give this run its own --replay.prefix or --replay.directory."
        )


def _stream_behind(stream: int, step: int) -> int:
    """The stream for the steps after a gap; the same in every copy."""
    return int.from_bytes(hashlib.blake2b(f"{stream}/{step}".encode(), digest_size=8).digest()) >> 1


def _require_same_fields(schema: Schema, source: Schema, config: RunConfig) -> None:
    if source.fields == schema.fields:
        return
    differ = [
        f"  {key}: {source.fields.get(key)} there, {schema.fields.get(key)} here"
        for key in sorted({*source.fields, *schema.fields})
        if source.fields.get(key) != schema.fields.get(key)
    ]
    raise ValueError(
        f"The steps in {config.offline} are not those of {config.task}:\n" + "\n".join(differ) + "\nGive the task and "
        "the --environment options that the replay was made with."
    )


def _with_latents(schema: Schema, source: Schema, rows: Rows, n: int) -> Rows:
    """Latents of the source if its networks have the same size, else zeros, which the learner refreshes."""
    if source.latents == schema.latents:
        return rows
    fresh = {key: np.zeros((n, *field.shape), field.dtype) for key, field in schema.latents.items()}
    return {key: rows[key] for key in schema.fields} | fresh
