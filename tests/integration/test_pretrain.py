"""`nexus pretrain`: exact continuation, also of a process killed while it saves; several processes; what is refused."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from learner.checkpoint import Checkpoints
from tests.integration.pretraining import pretrain, write_clips, write_pictures
from tests.integration.processes import members, start_marked
from tests.integration.runs import NEXUS, checkpoints, differences, lines, run, start, wait_for
from tests.replay.redis.redis_servers import free_port
from tests.small_disk import small_disk
from world_models.frames import normalise
from world_models.loading import load_model


def state_of(logdir: Path, number: int) -> dict[str, Any]:
    folder = logdir / "checkpoints" / f"{number:010d}"
    state: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        state |= {f"{path.stem}/{key}": value for key, value in load_file(path).items()}
    values = json.loads((folder / "state.json").read_text())["board"]["values"]
    return state | {key: value for key, value in values.items() if not key.startswith("fps/")}


def test_killed_while_it_saves_it_continues_bit_for_bit(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    (tmp_path / "pictures" / "dark" / "000.png").write_bytes(b"no picture")
    options = ["--training.updates", "12", "--checkpoint-every", "6"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    done = run(tmp_path, pretrain("ijepa", tmp_path / "pictures", straight, *options))
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkpoints(straight) == [6, 12]

    process = start(tmp_path, pretrain("ijepa", tmp_path / "pictures", killed, *options))
    writing = killed / "checkpoints" / f".{12:010d}.new"
    while process.poll() is None and not (writing / "model.safetensors").exists():
        time.sleep(0.0002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(300) == -signal.SIGKILL, (tmp_path / "output.log").read_text()
    assert writing.exists() and checkpoints(killed) == [6]
    assert lines(killed / "metrics.jsonl")[-1]["updates"] == 12, "nothing to go back behind"
    assert Checkpoints.of(killed).newest(print) == killed / "checkpoints" / f"{6:010d}"

    again = run(tmp_path, pretrain("ijepa", tmp_path / "pictures", killed, *options))
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"Continuing {killed} at update 6." in again.stdout and not writing.exists()
    assert differences(state_of(straight, 12), state_of(killed, 12)) == []
    logged = lines(straight / "metrics.jsonl")
    assert logged == lines(killed / "metrics.jsonl")
    assert [line["updates"] for line in logged] == [0, 2, 4, 6, 8, 10, 12]
    assert logged[-1]["data/unreadable"] == 1 and logged[-1]["frames"] == 48
    assert logged[-1].keys() >= {"train/loss/total", "probe/linear_accuracy", "probe/effective_rank", "probe/loss"}
    assert (killed / "curve.png").exists() and list(killed.glob("events.out.tfevents.*"))
    shown = [line.strip() for line in again.stdout.split("To use it:\n")[1].splitlines()]
    images = torch.from_numpy(np.zeros((2, 1, 16, 16, 3), np.uint8))
    scope = {"images": images}
    exec("\n".join(shown), scope)
    assert scope["tokens"].shape == (2, 16, 16)


def test_ctrl_c_saves_and_another_configuration_is_refused(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    command = pretrain("vjepa2", tmp_path / "clips", tmp_path / "run", "--training.updates", "100000")
    process = start(tmp_path, command)
    wait_for(lambda: any(line["updates"] >= 4 for line in lines(tmp_path / "run" / "metrics.jsonl")), "update 4")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(300) == 130
    output = (tmp_path / "output.log").read_text()
    assert "Stopped and saved. Continue with:\n  nexus pretrain vjepa2 --data" in output
    (saved,) = checkpoints(tmp_path / "run")
    assert saved >= 4

    other = run(tmp_path, [*command, "--model.encoder.depth", "2", "--training.lr.top", "1"])
    assert other.returncode == 2
    assert "model.encoder.depth: 1 there, 2 now\n  training.lr.top: 0.001 there, 1.0 now" in other.stderr
    other = run(tmp_path, pretrain("ijepa", tmp_path / "clips", tmp_path / "run"))
    assert other.returncode == 2 and "it is a run of nexus pretrain vjepa2, not of nexus pretrain ijepa" in other.stderr
    other = run(tmp_path, [*NEXUS, "eval", str(tmp_path / "run")])
    assert other.returncode == 2 and "it is a run of nexus pretrain vjepa2, not of nexus train" in other.stderr


def test_two_processes_make_the_updates_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clips(tmp_path / "clips")
    options = ["--training.updates", "6", "--checkpoint-every", "3", "--keep-checkpoints", "9"]
    one, two = tmp_path / "one", tmp_path / "two"
    done = run(tmp_path, pretrain("vjepa2", tmp_path / "clips", one, *options))
    assert done.returncode == 0, done.stdout + done.stderr
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}  # as torchrun sets them
    started = []
    for rank in range(2):
        for name, value in (group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}).items():
            monkeypatch.setenv(name, value)
        started.append(start(tmp_path, pretrain("vjepa2", tmp_path / "clips", two, *options)))
    assert [process.wait(300) for process in started] == [0, 0], (tmp_path / "output.log").read_text()

    for a, b in zip(lines(one / "metrics.jsonl"), lines(two / "metrics.jsonl"), strict=True):
        assert a.keys() == b.keys() and a["updates"] == b["updates"]
        assert [b[key] for key in a] == pytest.approx([a[key] for key in a], rel=1e-4, abs=1e-6), (a, b)
    first, second = state_of(one, 6), state_of(two, 6)
    weights = [key for key in first if key.startswith("model/")]
    assert len(weights) > 20
    for key in weights:
        np.testing.assert_allclose(second[key], first[key], atol=2e-4, err_msg=key)


@pytest.mark.slow
def test_several_processes_stop_together_and_one_that_fails_ends_all(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    command = pretrain("ijepa", tmp_path / "pictures", tmp_path / "run", "--training.updates", "1000000")
    process = start_marked(tmp_path, [*command, "--processes", "2"])
    wait_for(lambda: len(lines(tmp_path / "run" / "metrics.jsonl")) > 3, "some updates")
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130, (tmp_path / "output.log").read_text()
    assert "Stopped and saved. Continue with:" in (tmp_path / "output.log").read_text()
    assert checkpoints(tmp_path / "run") and not members(tmp_path)

    process = start_marked(tmp_path, [*command, "--processes", "2"])
    before = len(lines(tmp_path / "run" / "metrics.jsonl"))
    wait_for(lambda: len(lines(tmp_path / "run" / "metrics.jsonl")) > before + 1, "more updates")
    (second,) = [p for p in members(tmp_path) if p.environ().get("RANK") == "1"]
    second.kill()
    assert process.wait(300) == 1
    assert not members(tmp_path)


def test_ac_learns_on_the_encoder_of_another_run_and_both_load(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    for command in (
        pretrain("vjepa2", tmp_path / "clips", tmp_path / "video", "--training.updates", "2"),
        pretrain("vjepa2-ac", tmp_path / "clips", tmp_path / "ac", "--encoder", str(tmp_path / "video"),
                 "--training.updates", "4", "--checkpoint-every", "2"),
    ):  # fmt: skip
        done = run(tmp_path, command)
        assert done.returncode == 0, done.stdout + done.stderr
    video, ac = load_model(tmp_path / "video"), load_model(tmp_path / "ac")
    for key, value in ac.get_submodule("encoder").state_dict().items():
        assert torch.equal(value, video.get_submodule("target_encoder").state_dict()[key])
    assert (ac.config.action, ac.config.state) == (2, 2)  # type: ignore[union-attr]
    clips = normalise(torch.zeros(2, 4, 16, 16, 3, dtype=torch.uint8))
    assert video.encode(clips).shape == (2, 32, 16) and ac.encode(clips).shape == (2, 4, 16, 16)  # type: ignore[operator]
    assert {"train/loss/teacher_forcing", "train/loss/rollout"} <= lines(tmp_path / "ac" / "metrics.jsonl")[-1].keys()


def test_a_full_disk_is_said_and_nothing_half_written_counts(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 8)
    with small_disk(tmp_path / "disk", 1):
        command = pretrain("ijepa", tmp_path / "pictures", tmp_path / "disk" / "run", "--training.updates", "2")
        done = run(tmp_path, [*command, "--model.encoder.width", "128"])
        assert done.returncode == 1 and "The disk is full" in done.stderr, done.stdout + done.stderr
        assert "starts over, since there is no checkpoint yet:\n  nexus pretrain ijepa --data" in done.stderr
        assert not checkpoints(tmp_path / "disk" / "run")


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 4)
    data = ["--data", str(tmp_path / "pictures")]
    for arguments, message in (
        (["ijepa"], "nexus pretrain ijepa needs --data WHERE, e.g. nexus pretrain ijepa --data generated:digits"),
        (["ijeap", *data], "nexus pretrain has no command 'ijeap'; did you mean ijepa?"),
        (["ijepa", *data, "--training.batchsize", "3"], "no option --training.batchsize; nearest: --training.batch"),
        (["ijepa", *data, "--preset", "vith41"], "nexus pretrain ijepa has no preset 'vith41'; the nearest: vith14"),
        (["ijepa", "--data", "nowhere"], "There is no file or folder nowhere. Name a folder of pictures"),
        (["vjepa2", *data], "of which a clip spans 8, and no folder has more than 2. Name videos"),
        (["vjepa2-ac", *data], "nexus pretrain vjepa2-ac needs --encoder, a run of nexus pretrain vjepa2, e.g. "),
        (["vjepa2-ac", *data, "--encoder", "nowhere"], "nowhere is no directory; give a run directory"),
        (["ijepa", *data, "--training.momentum.top", "1.5"], "must lie in 0 to 1 everywhere"),
    ):  # fmt: skip
        done = run(tmp_path, [*NEXUS, "pretrain", *arguments])
        assert done.returncode == 2 and message in done.stderr, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
