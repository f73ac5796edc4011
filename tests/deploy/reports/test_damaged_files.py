"""Every reader of a text file meets a file that is none, or holds nonsense: one line that names it, no traceback."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save

from actors.policy import load_policy
from deploy.distributed.supervisor.restart_log import RestartLog
from deploy.distributed.supervisor.scaling_log import ScalingLog
from deploy.reports.curves import load_baselines, load_runs
from deploy.reports.event_file import PATTERN, read_events
from deploy.reports.metrics import MetricsWriter, read_lines
from deploy.reports.plot import plot
from deploy.reports.scoreboard import Scoreboard, best_score, solved_before
from deploy.stored.episode_files import read_index
from deploy.stored.minari_files import read_facts
from deploy.stored.sources import open_sources
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.config_file import save_config
from deploy.wiring.incarnations import Incarnations
from learner.checkpoint import Checkpoints
from replay.disk.disk_store import DiskStore
from replay.disk.manifest import read_manifest
from replay.files.checkpoint import verified
from replay.redis.redis_rights import parse_meta
from tests.deploy.reports.test_curves import make_run
from tests.replay.cartpole import LENGTH, schema
from world_models.checkpoint_files import read_document, verify

DEEP, TOO_LONG = b"[" * 20_000, b'{"frames": ' + b"9" * 5000 + b"}"
DAMAGES: dict[str, bytes | None] = {
    "folder": None, "deep list": DEEP + b"\n", "deep object": b'{"a":' * 20_000 + b"\n",
    "not UTF-8": b'"\xff\xfe\x81"\n',
    "gigantic integer": TOO_LONG + b"\n",
}  # fmt: skip
OTHER_JSON = {name: text + b"\n" for name, text in {"list": b"[1]", "nothing": b"null", "object": b'{"a": 1}'}.items()}


def put(path: Path, content: bytes | None) -> None:
    """Replace what lies at `path`; None: by a folder."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if content is None else path.write_bytes(content)


Reader = Callable[[Path], object]
"""Reads from a directory."""
LINES: dict[str, tuple[str, Reader]] = {
    "plot": ("scores.jsonl", lambda run: _raise_first(load_runs([run], note=lambda text: None).damaged)),
    "restarts": ("restarts.jsonl", lambda run: RestartLog(run, [])),
    "scaling": ("scaling.jsonl", ScalingLog),
    "continuing": ("metrics.jsonl", lambda run: MetricsWriter(run).truncate(frames=9, updates=9)),
    "evaluations": ("scores.jsonl", lambda run: Scoreboard(RunConfig(), run).reload(10**9, 10**9)),
}
DOCUMENTS: dict[str, tuple[str, Reader]] = {
    "configuration": ("config.yaml", load_config),
    "plot": ("config.yaml", lambda run: _raise_first(load_runs([make_scores(run)], note=lambda text: None).damaged)),
    "baselines": ("x.json", lambda folder: load_baselines([folder / "x.json"])),
    "checksums": ("manifest.json", verify),
    "counters": ("state.json", lambda folder: read_document(folder / "state.json")),
    "replay checkpoint": ("index.json", lambda folder: verified(folder, "any")),
    "exported episodes": ("index.json", read_index),
    "policy": ("config.json", lambda folder: load_policy(make_weights(folder))),
}


def _raise_first(damaged: list[str]) -> None:
    raise ValueError(*damaged)


def make_scores(run: Path) -> Path:
    (run / "scores.jsonl").write_text("")
    return run


def make_weights(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(save({}))
    return folder


def assert_one_line_naming(path: Path, directory: Path, read: Reader) -> str:
    with pytest.raises(ValueError) as caught:
        read(directory)
    message = str(caught.value)
    assert path.name in message and str(directory) in message
    assert "\n" not in message and len(message) < 500, message
    return message


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "read"), [*LINES.values(), *DOCUMENTS.values()], ids=[*LINES, *DOCUMENTS])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, read: Reader, damage: str) -> None:
    save_config(RunConfig(), tmp_path)
    content = DAMAGES[damage]
    if content and name.endswith(".yaml"):  # PyYAML takes seconds for such a line
        content = content.replace(b"[", b"[\n").replace(b"{", b"{\n")
    put(tmp_path / name, content)
    assert_one_line_naming(tmp_path / name, tmp_path, read)


@pytest.mark.parametrize("text", OTHER_JSON.values(), ids=OTHER_JSON)
@pytest.mark.parametrize(("name", "read"), LINES.values(), ids=LINES)
def test_a_line_of_something_else_is_named(tmp_path: Path, name: str, read: Reader, text: bytes) -> None:
    save_config(RunConfig(), tmp_path)
    put(tmp_path / name, text)
    assert "line 1 " in assert_one_line_naming(tmp_path / name, tmp_path, read)


@pytest.mark.parametrize("text", [b"[1]", b"null", b"{}", b"3"])
@pytest.mark.parametrize("reader", ["configuration", "plot", "baselines", "checksums", "replay checkpoint", "policy"])
def test_a_document_of_something_else_is_named(tmp_path: Path, reader: str, text: bytes) -> None:
    name, read = DOCUMENTS[reader]
    save_config(RunConfig(), tmp_path)
    put(tmp_path / name, text)
    assert_one_line_naming(tmp_path / name, tmp_path, read)


@pytest.mark.parametrize("content", [*DAMAGES.values(), *OTHER_JSON.values()], ids=[*DAMAGES, *OTHER_JSON])
def test_what_a_run_can_do_without_is_passed_over(tmp_path: Path, content: bytes | None) -> None:
    """The score of the best policy, for the display; what a Minari dataset of ours says of its task."""
    best = tmp_path / "checkpoints" / "best" / "score.json"
    put(best, content)
    assert best_score(Checkpoints(tmp_path / "checkpoints")) is None and solved_before(RunConfig(), tmp_path) == ""
    put(tmp_path / "data" / "metadata.json", content)
    assert read_facts(tmp_path) is None
    assert content is None or parse_meta(content) is None


@pytest.mark.parametrize("kind", ["scores.jsonl", "config.yaml"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    good, bad = make_run(tmp_path / "good"), make_run(tmp_path / "bad", seed=1)
    (bad / kind).unlink()
    os.mkfifo(bad / kind)
    notes: list[str] = []
    (damaged,) = plot([good, bad], out=tmp_path / "p.png", note=notes.append)
    assert f"{bad / kind} " in damaged and "regular file" in damaged and notes == [f"Left out: {damaged}"]
    if kind == "config.yaml":
        with pytest.raises(ValueError, match="regular file"):
            load_config(bad)


def test_a_run_with_a_line_nested_almost_too_deeply_is_left_out(tmp_path: Path) -> None:
    """Python can read some lists that it cannot write again for the message."""
    good, bad = make_run(tmp_path / "good"), make_run(tmp_path / "bad", seed=1)
    for depth in range(880, 1000, 7):
        (bad / "scores.jsonl").write_text("[" * depth + "]" * depth + "\n")
        (damaged,) = load_runs([good, bad], note=lambda text: None).damaged
        assert f"{bad}/scores.jsonl, line 1 " in damaged and len(damaged) < 500


def test_compressed_baselines_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for content in (DEEP, TOO_LONG, b'"\xff"'):
        put(tmp_path / "x.json.gz", gzip.compress(content))
        with pytest.raises(ValueError, match=r"x\.json\.gz "):
            load_baselines([tmp_path / "x.json.gz"])


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"7 lives", b"9" * 5000])
def test_a_number_of_lives_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    put(tmp_path / "incarnation", content)
    assert_one_line_naming(tmp_path / "incarnation", tmp_path, Incarnations)


def test_a_folder_in_place_of_a_manifest_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "shard-0"
    put(shard / "manifest", None)
    for read in (
        read_manifest,
        lambda shard: open_sources(str(shard.parent)),
        lambda shard: DiskStore(shard, schema(), length=LENGTH, capacity=100),
    ):
        assert "Is a directory" in assert_one_line_naming(shard / "manifest", shard, read)


def test_a_torn_last_line_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n' + DEEP)
    assert list(read_lines(tmp_path / "x.jsonl")) == [{"a": 1}]


def test_an_evaluation_whose_score_was_not_finite_does_not_stop_a_run_from_continuing(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"frames": 1, "updates": n, "score": score, "length": 1, "seed": 0, "kind": kind}
        for kind in ("train", "eval") for n, score in enumerate((1.0, None))
    ]  # fmt: skip
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    board = Scoreboard(RunConfig(), tmp_path)
    board.reload(10, 10)
    assert (board.episodes, list(board.scores), board.best) == (2, [1.0], 1.0)


def test_tensorboard_events_end_before_what_is_damaged(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as logs:
        for n in range(3):
            logs.metrics(n, n, {"x": n})
    (file,) = tmp_path.glob(PATTERN)
    records = [record for record, _ in read_events(file)]
    file.write_bytes(b"".join(records[:-1]) + records[-1][:12] + b"\xff" * (len(records[-1]) - 12))
    assert [record for record, _ in read_events(file)] == records[:-1]
    MetricsWriter(tmp_path).truncate(frames=9, updates=9)
    assert file.read_bytes() == b"".join(records[:-1])
