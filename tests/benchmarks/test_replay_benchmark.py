"""The replay benchmark says what it measured, and notices every wrong byte."""

import json

import numpy as np
import pytest

from replay.memory.memory_store import MemoryStore
from tests.benchmarks.replay import main
from tests.benchmarks.replay_stores import SYSTEMS
from tests.benchmarks.replay_systems import BATCH, LENGTH, Job, measure
from tests.benchmarks.replay_work import Content, WrongBytesError, payload, schema
from tests.contracts.ray_stores import actor

REPORT = {
    "name", "value", "unit", "device", "versions", "matmul_gflops", "batch", "step_bytes", "steps", "streams", "rounds",
}  # fmt: skip
FIGURES = {
    "sample_batches_s", "share", "insert_steps_s", "insert_blocks_steps_s", "fill_steps_s", "write_back_batches_s",
    "mean_sample_batches_s", "cpu_ms_batch", "server_cpu_ms_batch", "page_faults_batch", "kept_over_raw", "sampler",
    "samplers",
}  # fmt: skip
TIMES = {"times_redis_py", "times_redis_py_best"}
QUICK = ["--steps", "1024", "--streams", "4", "--rounds", "1", "--seconds", "0.01", "--batches", "2", "--json"]


def test_one_run_reports_the_ceiling_and_every_store_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    actor()  # Ray, once for all tests of this process
    assert main(QUICK) == 0
    [line] = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report.keys() == REPORT | set(SYSTEMS)
    assert report["name"] == "replay/memory" and report["value"] == report["memory"]["sample_batches_s"]
    for name in SYSTEMS:
        assert report[name].keys() == FIGURES | (TIMES if name in ("redis_unix", "redis_tcp") else set())
        assert all(report[name][key] > 0 for key in FIGURES if key.endswith("_s"))
        share = report[name]["sample_batches_s"] / report["ceiling"]["sample_batches_s"]
        assert report[name]["share"] == pytest.approx(share)
    assert report["ceiling"]["samplers"].keys() == {"fresh", "reused", "whole_rows"}
    assert report["ray"]["sampler"] == "prefetch_2" and report["ray"]["server_cpu_ms_batch"] > 0
    theirs = report["redis_py_tcp"]["samplers"]
    ours = report["redis_tcp"]["sample_batches_s"]
    assert report["redis_tcp"]["times_redis_py"] == pytest.approx(ours / theirs["loop"])
    assert report["redis_tcp"]["times_redis_py_best"] == pytest.approx(ours / max(theirs.values()))
    for name in ("disk", "redis_unix"):
        assert 0.99 < report[name]["kept_over_raw"] < 3  # chunks are long for so few steps


def test_scale_reports_each_of_its_three(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--items", "2000", "20000", "--disk-gb", "0.05", "--steps", "16384"]
    assert main([*QUICK, "--scale", *sizes, "--only", "memory,disk"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["name"] == "replay/scale" and report["value"] == report["items"]["draw_ratio"] > 0
    assert report["items"]["items"] == [2000, 20000] and report["items"]["batch_ratio"] > 0
    assert report["disk"]["payload"] == "real" and report["disk"]["files"] > 4
    assert report["disk"]["disk_gb"] >= report["disk"]["gb"] > 0.03
    assert report["disk"]["open_seconds"] > 0 < report["disk"]["first_batch_seconds"]
    for name in ("memory", "disk"):
        assert report["writers"][name]["insert_steps_s_64_streams"] > 0


def test_the_work_item_is_the_one_all_figures_are_about() -> None:
    assert payload(schema()) == 64 * 64 * 3 + 4 * (24 + 6 + 1) + 3 + 2 * 2048 + 32
    assert schema(1000).nbytes == 1000


def filled(steps: int = 300) -> tuple[MemoryStore, Content]:
    content = Content(schema(), streams=3)
    store = MemoryStore(content.schema, length=LENGTH, capacity=3 * steps, streams=3)
    for blocks in content.blocks(steps, 50):
        store.append_checked(blocks)
    return store, content


def test_batches_pass_with_their_latents_of_whatever_write_back() -> None:
    store, content = filled()
    rng = np.random.default_rng(0)
    for _ in range(5):
        sample = store.sample(BATCH, LENGTH, rng)
        content.check(sample)
        store.write_back(sample[1], content.refreshed(sample[1]))


@pytest.mark.parametrize("key", [key for key in schema().all])
def test_one_flipped_bit_anywhere_is_noticed(key: str) -> None:
    store, content = filled()
    batch, keys = store.sample(BATCH, LENGTH, np.random.default_rng(0))
    value = batch[key]
    place = (7, 33)[: 1 if key in content.schema.latents else 2]
    raw = value[place].reshape(-1).view(np.uint8)
    raw[-1] ^= 1
    value[place] = raw.view(value.dtype).reshape(value.shape[len(place) :])
    with pytest.raises(WrongBytesError, match=f"Key '{key}' of stream"):
        content.check((batch, keys))


def test_another_step_and_another_stream_and_older_latents_are_noticed() -> None:
    store, content = filled()
    rng = np.random.default_rng(0)
    for shift in ([0, 1], [0, -1]):
        batch, keys = store.sample(BATCH, LENGTH, rng)
        with pytest.raises(WrongBytesError):
            content.check((batch, keys + shift))
    batch, keys = store.sample(BATCH, LENGTH, rng)
    with pytest.raises(WrongBytesError):
        content.check((batch, keys + [1, 0]))
    broken = keys.copy()
    broken[3, 20:, 1] += 1
    with pytest.raises(WrongBytesError, match="not consecutive"):
        content.check((batch, broken))
    with pytest.raises(WrongBytesError, match="never written"):
        content.check((batch, keys + [0, 10_000]))
    content.refreshed(keys)  # the store is not given them
    with pytest.raises(WrongBytesError, match="'deter'"):
        content.check((batch, keys))


def test_rates_leave_out_making_and_checking() -> None:
    checked = list[int]()
    tally = measure(lambda: Job(lambda: 1, 3, checked.append), 60.0, 4)
    assert tally.units == 12 and checked == [1] * 4
    assert measure(lambda: Job(lambda: 1, 3), 0.0, 4).units == 3


def test_what_cannot_be_measured_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--only", "memroy"], ["--steps", "1000"]):
        with pytest.raises(SystemExit):
            main(wrong)
        assert "memory" in capsys.readouterr().err
