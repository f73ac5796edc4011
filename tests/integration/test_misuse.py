"""What a user can do wrong, or a machine can do to him, and what the run then says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import main
from tests.integration.runs import MY_MODULE, checkpoints, command, environment, lines, run, start, wait_for
from tests.small_disk import fill, small_disk

INLINE = ["--mode", "inline", "--learner.train-ratio", "8", "--checkpoint-every", "20", "--log-every", "10"]


def _train(directory: Path, frames: int, *more: str, task: str = "gym:CartPole-v1") -> subprocess.CompletedProcess[str]:
    return run(directory, command(task, directory / "run", *INLINE, "--frames", str(frames), *more))


def _nexus(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(directory, [sys.executable, "-m", "deploy.cli", *arguments])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "the TASK is missing"),
        (["train", "--logdir", "x", "gym:CartPole-v1"], "TASK comes first"),
        (["train", "gym:CartPol-v1"], "gym:CartPole-v1"),
        (["train", "dmc_walker_wakl"], "dmc_walker_walk"),
        (["train", "gym:CartPole-v1", "--preset", "quik"], "nearest: quick"),
        (["train", "gym:CartPole-v1", "--size", "size13m"], "size12m"),
        (["train", "gym:CartPole-v1", "--learner.batchsize", "3"], "--learner.batch-size"),
        (["train", "gym:CartPole-v1", "--learner.batch-length", "1"], "must be at least 2"),
        (["train", "gym:CartPole-v1", "--model.rssm.blocks", "7"], "must be a multiple of"),
        (["eval", "nowhere"], "give a run directory"),
        (["plot", "nowhere", "--out", "x.png"], "nowhere"),
        (["check-env", "gym:no_such_module:X-v0"], "no_such_module"),
    ],
)  # fmt: skip
def test_wrong_command_lines_name_the_remedy(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, error = capsys.readouterr()
    assert ended.value.code == 2, out + error
    assert expected in out + error


def test_a_process_ends_with_the_message_alone(tmp_path: Path) -> None:
    done = _nexus(tmp_path, "trian")
    assert done.returncode == 2 and done.stderr.strip().endswith("did you mean train or pretrain?")
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with two checkpoints, for tests to copy."""
    folder = tmp_path_factory.mktemp("trained")
    done = _train(folder, 150)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    "arguments",
    [["replay", "inspect", "run"], ["replay", "export", "run", "--out", "episodes"], ["plot", "run"]],
    ids=["inspect", "export", "plot"],
)
def test_a_command_into_head_ends_in_silence(trained: Path, tmp_path: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for errors in (subprocess.PIPE, writing):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments], cwd=tmp_path, env=environment(), stdout=writing,
            stderr=errors, text=True, timeout=500,
        )  # fmt: skip
        assert done.returncode == 130 and not done.stderr
        shutil.rmtree(tmp_path / "episodes", ignore_errors=True)
    os.close(writing)


def test_another_configuration_is_refused_and_its_differences_listed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "run" / "config.yaml").read_text()
    again = _train(tmp_path, 60, "--learner.batch-size", "5", "--seed", "3", "--model.horizon", "10", "--mode", "local")
    assert again.returncode == 2
    for line in ("learner.batch_size: 4 there, 5 now", "seed: 0 there, 3 now", "model.horizon: 333 there, 10 now",
                 "mode: 'inline' there, 'local' now"):  # fmt: skip
        assert line in again.stderr
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_one_directory_holds_one_run_at_a_time_which_saves_when_its_output_is_closed(tmp_path: Path) -> None:
    evaluations = ["--evaluation.every", "10", "--evaluation.episodes", "1"]  # a line at each of them
    arguments = command("gym:CartPole-v1", tmp_path / "run", *INLINE, *evaluations, "--frames", "100000")
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout and first.stderr
        try:
            wait_for(lambda: checkpoints(tmp_path / "run"), "the first run's checkpoint")
            second = _train(tmp_path, 100_000, *evaluations)
            assert second.returncode == 2 and f"in use by process {first.pid}" in second.stderr
            first.stdout.close()  # as `nexus train ... | head` does
            assert first.wait(300) == 130
            said = first.stderr.read()
        finally:
            first.kill()
    assert said.startswith("Stopped and saved. Continue with:\n  nexus train") and len(said.splitlines()) == 2
    _nothing_is_lost(tmp_path / "run")


def _nothing_is_lost(logdir: Path) -> None:
    newest = checkpoints(logdir)[-1]
    counters = json.loads((logdir / "checkpoints" / f"{newest:010d}" / "state.json").read_text())["actor"]
    episodes = lines(logdir / "scores.jsonl")
    assert episodes and counters["frames"] >= episodes[-1]["frames"]
    assert newest >= lines(logdir / "metrics.jsonl")[-1]["updates"]


@pytest.mark.parametrize("damaged", ["model.safetensors", "state.json", "replay"])
def test_a_damaged_checkpoint_is_recognised_and_the_one_before_it_used(
    trained: Path, tmp_path: Path, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    older, newest = checkpoints(tmp_path / "run")[-2:]
    folder = tmp_path / "run" / "checkpoints" / f"{newest:010d}"
    path = folder / damaged
    if path.is_dir():
        path = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main(command("gym:CartPole-v1", tmp_path / "run", *INLINE, "--frames", "170")[3:])
    out, error = capsys.readouterr()
    assert ended.value.code == 0, out + error
    assert "Trying the previous checkpoint" in out and f"update {older}" in out


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "run", 2):
        options = [*INLINE, "--frames", "20000", "--replay.capacity", "1000", "--checkpoint-every", "4"]
        with start(tmp_path, command("gym:CartPole-v1", tmp_path / "run", *options)) as training:
            wait_for(lambda: checkpoints(tmp_path / "run"), "a checkpoint")
            fill(tmp_path / "run")
            assert training.wait(300) == 1
        said = (tmp_path / "output.log").read_text()
        assert "The disk is full" in said and "nexus train gym:CartPole-v1" in said and "Traceback" not in said
        kept = checkpoints(tmp_path / "run")
        assert f"this command continues from the checkpoint of update {kept[-1]:,}:" in said
        (tmp_path / "run" / "rest").unlink()
        (frames,) = {
            json.loads((tmp_path / "run" / "checkpoints" / f"{kept[-1]:010d}" / "state.json").read_text())["actor"][
                "frames"
            ]
        }
        again = _train(tmp_path, frames + 40, "--replay.capacity", "1000", "--checkpoint-every", "4")
        assert again.returncode == 0, again.stdout + again.stderr
        assert f"update {kept[-1]:,}" in again.stdout
        fill(tmp_path / "run")
        scored = _nexus(tmp_path, "eval", "run", "--episodes", "1", "--video", "run/new.mp4")
        assert scored.returncode == 1 and "trained: mean " in scored.stdout, scored.stdout + scored.stderr
        remedy = "Free some space, or write somewhere else."
        assert scored.stderr == f"nexus eval failed: run/new.mp4: No space left on device. {remedy}\n"


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    done = _train(tmp_path, 2000, "--learner.optimizer.lr", "1e30", "--learner.optimizer.warmup", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "non-finite" in done.stderr and "Traceback" not in done.stderr
    (folder,) = (tmp_path / "run" / "faults").iterdir()
    assert (folder / "batch.safetensors").exists()
    assert json.loads((folder / "report.json").read_text())["not_finite"]


def test_an_environment_of_ones_own_trains_and_passes_the_check(tmp_path: Path) -> None:
    closing = "    def close(self):\n        open('closed', 'a').write('x')\n\ngym.register"
    (tmp_path / "my_module.py").write_text(MY_MODULE.replace("gym.register", closing))
    task = "gym:my_module:MyEnv-v0"
    checked = _nexus(tmp_path, "check-env", task, "--steps", "100")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (tmp_path / "closed").unlink()
    code = (
        "from pathlib import Path\n"
        "from deploy.commands.train import parse_train\n"
        "from deploy.inline_run import InlineRun\n"
        f"config = parse_train({command(task, tmp_path / 'run', *INLINE, '--frames', '120')[4:]!r})\n"
        "Path('closed').write_text('')\n"
        "InlineRun(config, Path(config.logdir)).run()\n"
    )
    done = run(tmp_path, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines(tmp_path / "run" / "scores.jsonl")
    assert (tmp_path / "closed").read_text() == "xxxx", "all four are closed, the first of which told the spaces"
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.split("### A run directory")[1].split("The x-axis")[0]
    left = {path.name for path in (tmp_path / "run").iterdir()} - {".lock"}
    assert not [name for name in left if name not in section and not name.startswith("events.out.tfevents")], left


def test_inline_mode_imports_only_what_its_environment_needs(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deploy.commands.train import parse_train\n"
        "from deploy.inline_run import InlineRun\n"
        f"config = parse_train({command('gym:CartPole-v1', tmp_path / 'run', *INLINE, '--frames', '60')[4:]!r})\n"
        "InlineRun(config, Path(config.logdir)).run()\n"
        "print(sorted({'ray', 'redis', 'mujoco', 'dm_control', 'fastapi'} & sys.modules.keys()))\n"
    )
    done = run(tmp_path, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_supervisor_imports_no_torch() -> None:
    code = "import sys, deploy.cli, deploy.distributed.supervisor.local_run; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=500)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_rays_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(0o644)
    for token in (path, tmp_path / "fresh" / "token"):
        code = (
            "from deploy.distributed.ray_cluster import secure_token; print(oct(secure_token().stat().st_mode & 0o777))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment() | {"RAY_AUTH_TOKEN_PATH": os.fspath(token)},
            capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert done.stdout.strip() == "0o600", done.stderr
    assert path.read_text() == "secret"


BROKEN = """
import gymnasium as gym, numpy as np

class Broken(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2, start=3)
    left = 60
    def reset(self, seed=None, options=None):
        return np.zeros(2, np.float32), {}
    def step(self, action):
        assert action in (3, 4)
        Broken.left -= 1
        if not Broken.left:
            raise ValueError("bad")
        return np.zeros(2, np.float32), 0.0, False, False, {}

gym.register("Broken-v0", Broken)
"""


def test_an_environment_that_raises_is_named_and_progress_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    (tmp_path / "replay.py").write_text("raise SystemExit('not the package')")
    done = _train(tmp_path, 2000, task="gym:mine:Broken-v0")
    assert done.returncode == 1, done.stdout + done.stderr
    for part in ("raised ValueError: bad", "mine.py, line 13", "environment 3", "at frame 14"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr and checkpoints(tmp_path / "run")


def test_a_run_that_cannot_be_scored_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN.replace("left = 60", "left = 80"))
    done = _train(tmp_path, 60, task="gym:mine:Broken-v0")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("scores:     none", "raised ValueError: bad", "curve:      none", "checkpoint: "):
        assert part in done.stdout


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for logdir, reason in (("file", "it is a file"), ("/proc/x", "No such file")):
        done = run(tmp_path, command("gym:CartPole-v1", Path(logdir), *INLINE))
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert f"--logdir {logdir} cannot be written to: {reason}" in done.stderr
