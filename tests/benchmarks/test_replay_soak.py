"""The soak runs, a little; and notices what it is there to notice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from replay.memory.memory_store import MemoryStore
from replay.writer import Writer
from tests.benchmarks.replay_soak_ledger import JITTER, Audit, Ledger, Loss
from tests.benchmarks.replay_soak_rows import LENGTH, SCHEMA, Checker, Environments, TornError, latents
from tests.benchmarks.replay_soak_workers import audit

ROOT = Path(__file__).parents[2]
CHUNK = 8
FAULTS = ["writer killed", "server killed", "process killed", "byte of a chunk flipped", "manifest truncated"]


def test_a_few_seconds_of_it() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.replay_soak", "--minutes", "0.1", "--faults", "2", "--json"]
    done = subprocess.run(
        [*command, "--only", ",".join(FAULTS)], cwd=ROOT, capture_output=True, text=True, timeout=500
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    report = json.loads(line)
    assert (report["name"], report["unit"]) == ("replay/soak", "sequences")
    assert report["torn"] == 0 == len(report["failed"]) and report["value"] == report["sequences"] > 50
    assert report["faults"] == sum(each["times"] for each in report["by_kind"].values()) >= 4
    assert {kind.split(": ")[1] for kind in report["by_kind"]} <= set(FAULTS)
    assert {kind.split(": ")[0] for kind in report["by_kind"]} == {"redis", "disk"}
    assert report["steps_written"] > 500 < report["steps_audited"] and report["latents_written"] > 500
    assert all(each["lost_steps_max"] == 0 for each in report["by_kind"].values() if each["window"] == "nothing")


# --- what a sampler checks


def filled(steps: int = 60) -> MemoryStore:
    store = MemoryStore(SCHEMA, length=LENGTH, capacity=1000, chunk_length=CHUNK, streams=4)
    environments = Environments(actor=3, count=2, life=7)
    writer = Writer(store, environments.origins.tolist())
    for _ in range(steps):
        writer.add(environments.step())
    writer.flush()
    return store


def test_batches_pass_as_they_were_stored_and_refreshed() -> None:
    store, checker, rng = filled(), Checker(), np.random.default_rng(0)
    for number in range(2, 30):
        batch, keys = store.sample(8, LENGTH, rng)
        tally = checker.batch(batch, keys)
        assert (tally.sequences, tally.stale, tally.older) == (8, 0, 0)
        made = latents(batch["origin"], batch["number"], np.full(keys.shape[:2], number))
        store.write_back(keys, made)
        checker.written(keys, number, True)
    there = audit(store, CHUNK)
    assert {stream: sum(b - a for a, b in parts) for stream, parts in there.there.items()} == dict.fromkeys(
        store.streams(), 60
    )


@pytest.mark.parametrize("key", [*SCHEMA.fields, *SCHEMA.latents])
def test_one_other_bit_is_torn(key: str) -> None:
    batch, keys = filled().sample(4, LENGTH, np.random.default_rng(1))
    Checker().batch(batch, keys)
    batch[key] = batch[key].copy()
    batch[key].reshape(-1).view(np.uint8).reshape(4, -1)[2, -1] ^= 1
    with pytest.raises(TornError):
        Checker().batch(batch, keys)


def test_steps_in_the_wrong_place_are_torn() -> None:
    batch, keys = filled().sample(4, LENGTH, np.random.default_rng(1))
    other = keys.copy()
    other[1, 3:, 1] += 1
    with pytest.raises(TornError, match="not consecutive"):
        Checker().batch(batch, other)
    checker = Checker()
    checker.batch(batch, keys)
    other = keys.copy()
    other[1, :, 1] += 1  # all of it moved by one, as no sequence by itself can tell
    with pytest.raises(TornError, match="moved by"):
        checker.batch(batch, other)


def test_latents_are_stale_as_a_whole_and_never_go_back() -> None:
    batch, keys = filled().sample(4, LENGTH, np.random.default_rng(1))
    checker = Checker()
    checker.written(keys, 2, True)
    with pytest.raises(TornError, match="latents 1, 2 were stored before"):
        checker.batch(batch, keys)
    assert checker.batch(batch, keys, servers="restarted").older == 4
    for key in SCHEMA.latents:
        batch[key][1] = 0
        if key != [*SCHEMA.latents][-1]:
            with pytest.raises(TornError):
                Checker().batch(batch, keys)
    assert Checker().batch(batch, keys).stale == 1


# --- what an audit finds


def seen(there: dict[int, list[tuple[int, int]]], began: float) -> Audit:
    items = [(s, step) for s, parts in there.items() for a, b in parts for step in range(a, b)]
    return Audit(began, there, np.array(items, np.int64).reshape(-1, 2), {}, 0)


def ledger() -> Ledger:
    """Two streams, a step of each a second, in blocks of four."""
    it = Ledger(length=4, chunk=CHUNK)
    for first in range(0, 40, 4):
        it.take(first + 3.0, [(1, first, 4), (2, first, 4)])
    assert it.steps == 80 and it.ends() == {1: 40, 2: 40}
    return it


def test_everything_there_is_no_loss_and_the_next_audit_begins_with_it() -> None:
    it = ledger()
    for began in (100.0, 200.0):
        settled = it.settle(seen({1: [(0, 40)], 2: [(0, 40)]}, began), lambda steps: False)
        assert (settled.losses, settled.known, settled.kept) == ([], 80, 80)
    assert it.settle(seen({}, 20.5), lambda steps: False).known == 2 * 20  # the others were not acknowledged yet


def test_a_lost_end_a_hole_and_a_lost_stream() -> None:
    settled = ledger().settle(seen({1: [(0, 30)], 2: [(0, 8), (16, 40)]}, 100.0), lambda steps: False)
    assert settled.losses == [
        Loss(1, 30, 32, 31.0, 31.0, True),
        Loss(1, 32, 40, 35.0, 39.0, True),
        Loss(2, 8, 16, 11.0, 15.0, False),
    ]
    it = ledger()
    settled = it.settle(seen({1: [(0, 40)]}, 100.0), lambda steps: False)
    assert sum(loss.stop - loss.first for loss in settled.losses) == 40 and settled.kept == 40
    assert it.settle(seen({1: [(0, 40)]}, 200.0), lambda steps: False).losses == []


def test_what_is_old_was_evicted() -> None:
    there = {1: [(16, 40)], 2: [(16, 40)]}
    assert ledger().settle(seen(there, 100.0), lambda steps: True).losses == []
    assert len(ledger().settle(seen(there, 100.0), lambda steps: False).losses) == 4
    settled = ledger().settle(seen({1: [(0, 40)]}, 100.0), lambda steps: True)  # all of 2, and nothing of 1
    assert settled.limit == 7 + JITTER
    assert [(loss.first, loss.stop) for loss in settled.losses] == [(5, 8), (8, 16), (16, 24), (24, 32), (32, 40)]


def test_steps_that_were_acknowledged_are_not_written_again() -> None:
    it = ledger()
    it.take(50.0, [(1, 36, 4)])  # the answer was lost, perhaps
    with pytest.raises(AssertionError):
        it.take(50.0, [(1, 20, 4)])
    it.settle(seen({1: [(0, 20)], 2: [(0, 40)]}, 100.0), lambda steps: False)
    it.take(150.0, [(1, 20, 4)])
