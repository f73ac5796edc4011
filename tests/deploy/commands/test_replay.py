"""`nexus replay` on what a real run left: in memory checkpoints, on disk, on Redis servers; from there and back."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import main
from deploy.commands.train import parse_train
from deploy.stored.sources import open_sources
from deploy.wiring.config_file import save_config
from replay.files.npz import read_npz, write_npz
from replay.reading.episodes import Found, episodes
from replay.redis.redis_connection import Connection
from replay.redis_url import PASSWORD_VARIABLE, parse
from replay.step import Rows
from tests.integration.runs import command, run
from tests.replay.cartpole import LENGTH, assert_same, play, whole
from tests.replay.redis.redis_servers import RedisServer

Nexus = Callable[..., str]
CARTPOLE = ["--task", "gym:CartPole-v1", "--preset", "quick", "--replay.capacity", "20000"]
ARGUMENTS = ("--mode", "inline", "--frames", "700", "--learner.train-ratio", "2", "--replay.capacity", "5000")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder; its replay is in its last checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    done = run(folder, command("gym:CartPole-v1", Path("run"), *ARGUMENTS))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    out = trained.parent / "episodes"
    with pytest.raises(SystemExit):
        main(["replay", "export", str(trained), "--out", str(out)])
    return out


@pytest.fixture
def nexus(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nexus:
    """Runs `nexus replay ...` in this process; what it printed, its errors too."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["replay", *map(str, arguments)])
        out, error = capsys.readouterr()
        assert ended.value.code == code, out + error
        return out if code != 2 else error

    return call


@pytest.fixture(scope="module")
def servers() -> Iterator[list[RedisServer]]:
    with RedisServer(password="secret") as one, RedisServer(tcp=True, password="secret", appendonly=True) as two:
        yield [one, two]


def all_of(where: object, prefix: str = "") -> list[Rows]:
    """All whole episodes of a replay, in an order that only depends on them."""
    readers = open_sources(str(where), prefix)
    rows = [one for reader in readers for one in whole(reader)]
    for reader in readers:
        reader.close()
    return sorted(rows, key=lambda one: one["vector"].tobytes())


def test_a_runs_replay_is_described(trained: Path, nexus: Nexus) -> None:
    text = nexus("inspect", trained)
    assert f"checkpoint of replay in memory: {trained}/checkpoints/" in text and "(2 shards)" in text
    for part in (
        "shard-0",
        "shard-1",
        "vector",
        "float32  [4]",
        "latent, refreshed by the learner",
        "whole episodes",
        "policy versions 0 to",
        "checksums match: ",
    ):
        assert part in text, text  # fmt: skip
    report = json.loads(nexus("inspect", trained, "--json"))
    scores = [json.loads(line) for line in (trained / "scores.jsonl").read_text().splitlines()]
    scores = [line["score"] for line in scores if line["kind"] == "train"]
    assert report["episodes"]["whole"] == len(scores)
    running = report["episodes"]["running"]  # of 4 environments; those whose newest row is a last one are between two
    assert 0 < running <= 4 and f"{running} without their end yet" in text
    assert report["episodes"]["mean_return"] == pytest.approx(np.mean(scores))
    assert report["total"]["steps"] == report["looked_at"] >= 700
    assert report["total"]["items"] == report["total"]["steps"] - 4 * (report["length"] - 1)
    assert report["healthy"] and report["schema"]["latents"]["deter"] == {
        "dtype": "float16",
        "shape": [16],
        "bytes": 32,
    }
    checkpoint = max((trained / "checkpoints").glob("[0-9]*"))
    for source in (checkpoint, checkpoint / "replay", checkpoint / "replay" / "shard-0"):
        assert json.loads(nexus("inspect", source, "--json", "--quick"))["length"] == report["length"]


def test_only_the_newest_steps_of_a_large_replay_are_read(
    trained: Path, nexus: Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.stored.report.SCAN_BYTES", 72 * 200)
    assert "whole episodes in the newest 200 steps (--all reads all)" in nexus("inspect", trained)
    report = json.loads(nexus("inspect", trained, "--json"))
    assert report["versions"][0] == 0 and report["versions"][1] > 40
    assert json.loads(nexus("inspect", trained, "--json", "--all"))["episodes"]["whole"] > report["episodes"]["whole"]


def flip(file: Path, place: int) -> bytes:
    """Change one byte of a file; what it was before."""
    whole = file.read_bytes()
    content = bytearray(whole)
    content[place] ^= 1
    file.write_bytes(content)
    return whole


def test_damage_is_found_and_left_out(trained: Path, nexus: Nexus, tmp_path: Path) -> None:
    replay = tmp_path / "replay"
    shutil.copytree(max((trained / "checkpoints").glob("[0-9]*")) / "replay", replay)
    before = all_of(trained)
    files = sorted((replay / "shard-1").iterdir())
    assert len(files) >= 4
    for number, file in enumerate(files):
        for place in (20, -1):  # in its header, in its content
            whole = flip(file, place)
            assert "bad " in nexus("inspect", replay, code=1), file.name
            if number:  # index.json is wanted by all
                assert file.name in nexus("inspect", replay, "--quick", code=1)
            out = tmp_path / f"{file.name}-{place}"
            assert file.name in nexus("export", replay, "--out", out, code=1)
            kept = [read_npz(one) for one in sorted(out.glob("*.npz"))]
            assert_among(kept, before)
            assert len(kept) < len(before) or file.name.startswith(("latents", "items"))
            text = nexus("import", out, "--into", tmp_path / f"into-{file.name}-{place}", *CARTPOLE)
            assert f"{len(kept)} episodes" in text
            file.write_bytes(whole)
    for path in (replay / "shard-0").glob("[!s]*.safetensors"):
        flip(path, -1)
    assert "Damaged and left out: " in nexus("export", replay / "shard-0", "--out", tmp_path / "none", code=2)
    assert not (tmp_path / "none").exists()
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(max((tmp_path / "run" / "checkpoints").glob("[0-9]*")) / "replay" / "shard-1")
    assert "shard-1 is not there" in nexus("export", tmp_path / "run", "--out", tmp_path / "half", code=1)
    assert "shard-1 is not there" in nexus("inspect", tmp_path / "run", code=1)


def test_a_replay_that_its_run_would_put_back_takes_no_import(exported: Path, nexus: Nexus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_config(parse_train(["gym:CartPole-v1", "--mode", "inline", "--replay", "disk", "--logdir", "elsewhere"]), run)
    said = nexus("import", exported, "--into", run / "replay", code=2)
    assert said.startswith(f"--into {run / 'replay'} is the replay of the run {run}, which goes back to its newest")
    assert not (run / "replay").exists()
    assert "port" in nexus("import", exported, "--into", "redis://localhost:99999", code=2)


def test_offline_training_leaves_damage_out_and_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "source")
    latest = max((tmp_path / "source" / "checkpoints").glob("[0-9]*"))
    flip(latest / "replay" / "shard-1" / "state.safetensors", -1)
    arguments = ["--mode", "inline", "--frames", "64", "--offline", str(tmp_path / "source")]
    with pytest.raises(SystemExit) as ended:
        main(command("gym:CartPole-v1", tmp_path / "run", *arguments)[3:])
    out = capsys.readouterr().out
    assert ended.value.code == 1, out
    assert "Damaged and left out: " in out and "are damaged and were not used: " in out
    assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*")), "it has learned"


def assert_among(some: list[Rows], everything: list[Rows]) -> None:
    """Each of these episodes is one of those, to the bit."""
    known = {one["vector"].tobytes(): one for one in everything}
    for rows in some:
        assert_same([rows], [{key: known[rows["vector"].tobytes()][key] for key in rows}])


def test_damaged_files_of_episodes_are_left_out(exported: Path, nexus: Nexus, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "episodes")
    first, second, third, *_ = sorted((tmp_path / "episodes").glob("*.npz"))
    flip(first, first.stat().st_size // 2)
    second.unlink()
    third.write_bytes(third.read_bytes()[:-30])
    text = nexus("import", tmp_path / "episodes", "--into", tmp_path / "demos", *CARTPOLE, code=1)
    for file in (first, second, third):
        assert f"Damaged and left out: {file} cannot be read as .npz episodes: " in text
    kept = all_of(tmp_path / "demos")
    assert len(kept) == len(list(exported.glob("*.npz"))) - 3
    assert_among(kept, [read_npz(file) for file in exported.glob("*.npz")])
    text = nexus("import", first, third, "--into", tmp_path / "none", *CARTPOLE, code=2)
    assert "There is no whole episode in these files: Damaged and left out: " in text
    flip(tmp_path / "episodes" / "index.json", 300)
    assert "index.json" in nexus("import", tmp_path / "episodes", "--into", tmp_path / "none", *CARTPOLE, code=2)
    assert not (tmp_path / "none").exists()


def test_episodes_go_to_disk_and_back(exported: Path, trained: Path, nexus: Nexus, tmp_path: Path) -> None:
    index = json.loads((exported / "index.json").read_text())
    assert index["task"] == "gym:CartPole-v1" and index["action"]["action"]["classes"] == 2
    text = nexus("import", exported, "--into", tmp_path / "demos", *CARTPOLE)
    options = " ".join(CARTPOLE[2:])
    assert f"nexus train gym:CartPole-v1 {options} --offline {tmp_path / 'demos'}" in text
    before = all_of(trained)
    assert_same(all_of(tmp_path / "demos"), before)
    text = nexus("inspect", tmp_path / "demos")
    assert f"replay on disk: {tmp_path}/demos (2 shards)" in text and "intact latents: " in text and "bad" not in text
    nexus("export", tmp_path / "demos", "--out", tmp_path / "again")
    nexus("import", tmp_path / "again", "--into", tmp_path / "demos", "--task", "gym:CartPole-v1", *CARTPOLE[2:])
    assert_same(all_of(tmp_path / "demos"), sorted([*before, *before], key=lambda one: one["vector"].tobytes()))
    nexus("import", exported, "--into", tmp_path / "demos")  # what is there says how
    assert len(all_of(tmp_path / "demos")) == 3 * len(before)
    nexus("import", exported, "--into", tmp_path / "like", "--like", trained)
    (first, _) = open_sources(str(tmp_path / "like"))
    assert first.schema == open_sources(str(trained))[0].schema and first.length == open_sources(str(trained))[0].length


def test_the_newest_episodes_alone(trained: Path, nexus: Nexus, tmp_path: Path) -> None:
    nexus("export", trained, "--out", tmp_path / "few", "--episodes", 3)
    everything = [one for reader in open_sources(str(trained)) for one in episodes(reader, Found())]
    newest = sorted(one.first + one.length for one in everything)[-3:]
    index = json.loads((tmp_path / "few" / "index.json").read_text())
    assert [one["first_step"] + one["length"] for one in index["episodes"]] == newest
    assert "--episodes: must be at least 1, not 0." in nexus(
        "export", trained, "--out", tmp_path / "none", "--episodes", 0, code=2
    )


def test_minari_and_back(trained: Path, nexus: Nexus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.chdir(tmp_path)
    text = nexus("export", trained, "--out", "cartpole-v0", "--format", "minari")
    assert f"MINARI_DATASETS_PATH={tmp_path} python -c" in text
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("cartpole-v0")
    before = all_of(trained)
    assert dataset.total_episodes == len(before) and dataset.action_space.n == 2
    nexus("import", "cartpole-v0", "--into", "demos", *CARTPOLE)
    assert_same(all_of("demos"), before)
    nexus("import", "cartpole-v0", "--into", "told", "--preset", "quick", "--replay.capacity", "20000")  # task and all
    assert_same(all_of("told"), before)


def test_a_run_without_a_whole_checkpoint_is_pointed_to_its_replay(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, replay in (("run", "whole"), ("worse", "damaged")):
        shutil.copytree(trained, tmp_path / name)
        for folder in (tmp_path / name / "checkpoints").glob("[0-9]*"):
            flip(folder / "model.safetensors", -1)
            if replay == "damaged":
                flip(max((folder / "replay" / "shard-0").iterdir(), key=lambda file: file.stat().st_size), -1)
        with pytest.raises(SystemExit) as ended:
            main(command("gym:CartPole-v1", tmp_path / name, *ARGUMENTS)[3:])
        text = capsys.readouterr().err
        assert ended.value.code == 2 and "Every checkpoint in" in text
        assert (f"--offline {tmp_path / name} --logdir" in text) == (replay == "whole")


@pytest.mark.parametrize("which", [[0], [0, 1]])
def test_redis_and_back(
    which: list[int], exported: Path, trained: Path, nexus: Nexus, servers: list[RedisServer], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(PASSWORD_VARIABLE, "")  # whatever the command sets is forgotten afterwards
    chosen = [[servers[0].url_unix, servers[1].url_tcp][i] for i in which]
    for url in chosen:
        connection = Connection(parse(url))
        connection.call("FLUSHALL")
        connection.close()
    urls = ",".join(chosen)
    nexus("import", exported, "--into", urls, *CARTPOLE, "--prefix", "a")
    assert_same(all_of(urls, "a"), all_of(trained))
    nexus("import", exported, "--into", urls, *CARTPOLE)
    assert "has 2 replays; choose one with --prefix:\n  a: " in nexus("inspect", urls, code=2)
    text = nexus("inspect", urls, "--prefix", "a")
    assert "wrong" not in nexus("inspect", chosen[0].replace("secret", "wrong"), code=2)
    monkeypatch.setenv(PASSWORD_VARIABLE, "")
    assert "secret" not in text and "Redis 6.2" in text and "chunks of full size: " in text
    nexus("export", urls, "--prefix", "a", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "index.json").read_text())["counts"]["episodes"] == len(all_of(trained))
    connection = Connection(parse(chosen[0]))
    chunk = min(connection.call("KEYS", "a:c:*"))  # type: ignore[arg-type]
    connection.call("DEL", chunk)
    assert "missing: 1 chunk, such as a:c:" in nexus("export", urls, "--prefix", "a", "--out", tmp_path / "b", code=1)
    assert_among([read_npz(one) for one in (tmp_path / "b").glob("*.npz")], all_of(trained))
    connection.call("LPUSH", chunk, "x")
    said = f"another program's values are at {chunk.decode()} (list)"
    assert said in nexus("export", urls, "--prefix", "a", "--out", tmp_path / "c", code=1)
    assert said in nexus("inspect", urls, "--prefix", "a", code=1)
    connection.call("SET", "a:meta", "[1")
    assert "damaged or another program's: see a:meta" in nexus("inspect", urls, "--prefix", "a", code=2)
    assert "a: damaged" in nexus("inspect", urls, code=2)
    connection.close()


def test_other_programs_episodes_are_taken_in(exported: Path, trained: Path, nexus: Nexus, tmp_path: Path) -> None:
    before = all_of(trained)
    for i, rows in enumerate(before):
        led = np.eye(2, dtype=np.float32)[np.append(0, rows["action"][:-1])]
        led[0] = 0
        write_npz(tmp_path / f"2026-{i:04d}-{len(led)}.npz", {
            "observation": rows["vector"].astype(np.float64), "action": led, "reward": rows["reward"],
            "is_first": rows["is_first"], "discount": 1 - rows["is_terminal"].astype(np.float32),
            "extra": rows["reward"],
        })  # fmt: skip
    arguments = ("import", tmp_path, "--into", tmp_path / "demos", *CARTPOLE)
    assert "key 'observation' (float64" in nexus(*arguments, code=2)
    assert "key 'extra'" in nexus(*arguments, "--rename", "observation=vector", code=2)
    nexus(*arguments, "--rename", "observation=vector", "--ignore", "extra")
    assert_same(all_of(tmp_path / "demos"), [one | {"version": np.zeros_like(one["version"])} for one in before])


def test_values_that_no_environment_gives_are_refused(exported: Path, nexus: Nexus, tmp_path: Path) -> None:
    rows = read_npz(next(exported.glob("*.npz")))
    for key, value, message in (
        ("vector", np.nan, "key 'vector': row 2 is not finite"), ("action", 2, "the task has classes 0 to 1"),
    ):  # fmt: skip
        changed = {name: array.copy() for name, array in rows.items()}
        changed[key][2] = value
        file = tmp_path / f"{key}.npz"
        write_npz(file, changed)
        assert message in nexus("import", file, "--into", tmp_path / "demos", *CARTPOLE, code=2)


def test_what_cannot_be_done_is_said(trained: Path, exported: Path, nexus: Nexus, tmp_path: Path) -> None:
    for arguments, message in (
        (("inspect", tmp_path), "holds no stored replay. Name the logdir of a run"),
        (("inspect", exported), "holds exported episodes; nexus replay import"),
        (("inspect", "unix:///nowhere/socket"), "has not answered"),
        (("inspect", "unix:///nowhere/socket,"), "One of the comma-separated Redis URLs is empty"),
        (("inspect", "redis://h,redis://h/0"), "The Redis URLs name redis://h:6379 twice"),
        (("export", trained, "--out", trained), "already exists; name a new folder"),
        (("export", trained, "--out", "/proc/x"), "--out /proc/x cannot be written to: No such file"),
        (("export", trained, "--out", exported / "index.json" / "x"), "x cannot be written to: Not a directory."),
        (
            ("export", trained, "--out", tmp_path / "x", "--task", "gym:Pendulum-v1"),
            "The steps are not from gym:Pe",
        ),
        (("import", exported, "--into", exported / "index.json"), "index.json cannot be written to: it is a file"),
        (
            ("import", exported, "--into", exported / "index.json" / "x"),
            "x cannot be written to: Not a directory. Choose",
        ),
        (("import", exported, "--into", "/proc/x"), "--into /proc/x cannot be written to: No such file"),
        (
            ("import", next(exported.glob("*.npz")), "--into", tmp_path / "x"),
            "The task of these steps is unknown; give --task",
        ),
        (("import", exported, "--into", tmp_path / "x", "--task", "gym:Pendulum-v1"), "key 'vector' is float32 ["),
        (("import", tmp_path / "no.npz", "--into", tmp_path / "x", *CARTPOLE), "no.npz: no such file or folder"),
        (("import", exported, "--into", tmp_path / "y", *CARTPOLE, "--rename", "a"), "--rename takes THEIRS=OURS"),
    ):
        assert message in nexus(*arguments, code=2), arguments
    assert not list(tmp_path.iterdir())


def test_a_disk_replay_in_use_is_looked_into(tmp_path: Path, nexus: Nexus) -> None:
    from replay.disk.disk_store import DiskStore
    from tests.replay.cartpole import schema

    store = DiskStore(tmp_path / "shard-0", schema(), length=LENGTH, capacity=5000, chunk_length=16, streams=4)
    play(store, steps=200)
    store.checkpoint(tmp_path / "mark")  # waits until all full chunks are files
    assert f"note  process {os.getpid()} is using it" in nexus("inspect", tmp_path / "shard-0")
    nexus("export", tmp_path / "shard-0", "--out", tmp_path / "out")
    assert "in use by process" in nexus(
        "import", tmp_path / "out", "--into", tmp_path, "--task", "gym:CartPole-v1", code=2
    )
    store.close()
    assert "note" not in nexus("inspect", tmp_path / "shard-0")
    before, chunks = all_of(tmp_path / "shard-0"), tmp_path / "shard-0" / "chunks"
    next(chunks.glob("*-2.latents")).unlink()  # zeros until they are refreshed
    nexus("export", tmp_path / "shard-0", "--out", tmp_path / "stale")
    flip(next(chunks.glob("*-3.rows")), -5)
    assert "fails its checksum" in nexus("inspect", tmp_path / "shard-0", "--quick", code=1)
    assert "fails its checksum" in nexus("export", tmp_path / "shard-0", "--out", tmp_path / "less", code=1)
    kept = [read_npz(one) for one in sorted((tmp_path / "less").glob("*.npz"))]
    assert 0 < len(kept) < len(before)
    assert_among(kept, before)
    (tmp_path / "shard-0" / "manifest").unlink()
    assert "the next run that opens it writes a new one" in nexus("inspect", tmp_path / "shard-0", code=2)
