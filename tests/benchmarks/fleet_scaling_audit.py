"""Whether replay holds every step that actors have reported, and each of them once. Legend: n steps of a piece."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deploy.stored.sources import open_sources
from replay.keys import stream_id
from replay.reading.episodes import pieces
from tests.benchmarks.fleet_scaling_witness import Life


class Stored(NamedTuple):
    """What replay holds."""

    streams: dict[int, range]
    """Step ids of each stream."""
    gaps: list[str]
    twice: int
    """Observations that are stored more than once."""


def read(logdir: Path) -> Stored:
    """Every step of a run that has ended. Each observation of CartPole is as good as unique, that of a reset too as
    long as no seed repeats, so one that is there twice was stored twice."""
    streams: dict[int, range] = {}
    gaps: list[str] = []
    seen: set[bytes] = set()
    count = 0
    for reader in open_sources(str(logdir)):
        try:
            for stream, steps in reader.streams().items():
                if stream in streams:
                    gaps.append(f"stream {stream} is in two shards")
                streams[stream], next_step = steps, steps.start
                for first, rows in pieces(reader, stream, steps):
                    if first != next_step:
                        gaps.append(f"stream {stream} lacks steps {next_step} to {first - 1}")
                    next_step = first + len(rows["is_first"])
                    count += len(rows["is_first"])
                    seen.update(np.ascontiguousarray(row).tobytes() for row in rows["vector"])
                if next_step != steps.stop:
                    gaps.append(f"stream {stream} lacks steps {next_step} to {steps.stop - 1}")
        finally:
            reader.close()
    return Stored(streams, gaps, count - len(seen))


def compare(lives: Sequence[Life], streams: Mapping[int, range]) -> list[str]:
    """Where the steps of replay differ from what each life has reported."""
    wrong = [f"stream {stream} begins at step {steps.start}" for stream, steps in streams.items() if steps.start]
    theirs: set[int] = set()
    for life in lives:
        own = {stream_id(life.worker, number, slot) for number in life.incarnations for slot in life.slots}
        if again := own & theirs:
            wrong.append(f"worker {life.worker} writes streams of another life: {sorted(again)}")
        theirs |= own
        stored = sum(len(streams[stream]) for stream in own if stream in streams)
        if stored != life.rows:
            wrong.append(
                f"worker {life.worker}, incarnation {life.incarnations}: {life.rows} reported, {stored} stored"
            )
    if strangers := streams.keys() - theirs:
        wrong.append(f"nobody has reported streams {sorted(strangers)}")
    return wrong


def scores_between(lines: Iterable[Mapping[str, Any]], first: int, last: int) -> list[float]:
    """Scores of the training episodes that ended at frames `first + 1` to `last`."""
    return [line["score"] for line in lines if line["kind"] == "train" and first < line["frames"] <= last]
