"""How often, and in which processes, the environment of a run is made; what is said of one that cannot be."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from actors.config import EnvironmentConfig
from deploy.wiring.config import RunConfig
from deploy.wiring.probe import probe
from deploy.wiring.task import TaskSpaces, spaces_of
from tests.integration.processes import end_all, start_marked
from tests.integration.runs import MY_MODULE, command, lines, run, wait_for

TASK = "gym:counted:MyEnv-v0"
COUNTED = (
    "import os\nopen('imported', 'a').write(f'{os.getpid()}\\n')\n"
    + MY_MODULE.replace(
        "    def observe(",
        "    def __init__(self):\n        open('made', 'a').write(f'{os.getpid()}\\n')\n    def observe(",
    )
)  # fmt: skip


def _written(folder: Path, name: str) -> list[int]:
    path = folder / name
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_a_local_run_makes_one_environment_beside_those_that_step_and_none_in_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    options = ["--mode", "local", "--actor.actors", "2", "--frames", "1000000", "--log-every", "5"]
    supervisor = start_marked(tmp_path, command(TASK, tmp_path / "run", *options))
    try:
        wait_for(lambda: lines(tmp_path / "run" / "metrics.jsonl") or supervisor.poll(), "a learner that learns")
        assert supervisor.poll() is None, (tmp_path / "output.log").read_text()
        wait_for(lambda: len(_written(tmp_path, "made")) >= 1 + 4, "the environments of both actors")
        made, imported = _written(tmp_path, "made"), set(_written(tmp_path, "imported"))
        assert len(set(made)) == len(made) == 1 + 4, "one to read the spaces, and four that step in their processes"
        assert not os.path.exists(f"/proc/{made[0]}")
        assert len(imported) == 1 + 2, "not the learner, the coordinator or a shard"
        assert imported & set(made) == {made[0]}, "each actor's environments are forked from one that has imported it"
        assert supervisor.pid not in imported
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(300) == 130, (tmp_path / "output.log").read_text()
        assert supervisor.pid not in _written(tmp_path, "imported")
    finally:
        end_all(tmp_path)


def test_an_inline_run_makes_the_environments_that_step_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    code = (
        "from pathlib import Path\n"
        "from deploy.commands import train\n"
        "import deploy.reports.summary as summary\n"
        "summary.summarize = lambda config, logdir: None\n"
        f"train.run({command(TASK, tmp_path / 'run', '--mode', 'inline', '--frames', '60')[4:]!r})\n"
    )
    done = run(tmp_path, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(_written(tmp_path, "made")) == 4 and len(_written(tmp_path, "imported")) == 1


def test_spaces_cross_processes_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    monkeypatch.chdir(tmp_path)
    pendulum = RunConfig(task="gym:Pendulum-v1", environment=EnvironmentConfig(frame_stack=2))
    asked, own = probe(pendulum), spaces_of(pendulum)
    assert isinstance(asked, TaskSpaces) and asked == own
    assert asked.action["action"].low.dtype == own.action["action"].low.dtype  # type: ignore[union-attr]
    assert probe(RunConfig(task=TASK)).observation["image"].is_image
    assert "counted" not in sys.modules


WAITS = (
    "import signal, threading, gymnasium as gym\n{top}\nclass W(gym.Env):\n    def __init__(self):\n        {inside}\n"
    "gym.register('W-v0', W)\n"
)

SOON = "signal.setitimer(signal.ITIMER_REAL, 0.2); threading.Event().wait()"
"""The time is over once the environment waits, however long it took until then."""
STUBBORN = """signal.setitimer(signal.ITIMER_REAL, 0.2)
        while True:
            try: time.sleep(1)
            except Exception: pass"""


@pytest.mark.parametrize(
    ("top", "inside", "message"),
    [
        ("", SOON, r"waits.py, line 5, in __init__: TimeoutError: still waiting after 60 s"),
        (SOON, "0", r"waits.py, line 2, in <module>: TimeoutError: still waiting after 60 s"),
        ("", "import os, signal; os.kill(os.getpid(), 9)", r"ended with signal 9 \(SIGKILL\). `nexus check-env"),
        ("import time", STUBBORN, r"waits.py, line \d+, in __init__: TimeoutError: still waiting after 60 s"),
        ("raise KeyError('goal')", "0", r"waits.py, line 2, in <module>: KeyError: 'goal'"),
        ("import sys; sys.exit(3)", "0", r"tried to end the program with code 3"),
        ("", "signal.signal(14, signal.SIG_IGN); threading.Event().wait()",
         r"has taken more than 20 s and does not respond to signals"),
    ],
    ids=["constructor", "import", "killed", "swallows", "raises", "exits", "deaf"],
)  # fmt: skip
def test_a_task_that_cannot_be_asked_says_why_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: str, inside: str, message: str
) -> None:
    if "signals" in message:
        monkeypatch.setattr("deploy.wiring.probe.MARGIN", 1.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waits.py").write_text(WAITS.format(top=top, inside=inside))
    with pytest.raises(ValueError, match=f"Task 'gym:waits:W-v0'.*{message}"):
        probe(RunConfig(task="gym:waits:W-v0"), timeout=20 if "signals" in message else 60)


def test_a_process_that_does_not_end_after_its_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.wiring.probe.MARGIN", 1.0)
    monkeypatch.chdir(tmp_path)
    stays = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    (tmp_path / "counted.py").write_text(stays + COUNTED)
    begun = time.monotonic()
    assert probe(RunConfig(task=TASK), timeout=100).action.keys() == {"button", "stick"}
    assert time.monotonic() - begun < 90


@pytest.mark.parametrize(
    ("close", "message"),
    [
        ("__import__('time').sleep(100)", "did not return within 1 s; its process was killed"),
        ("os.kill(os.getpid(), 11)", "ended with signal 11 (SIGSEGV)"),
    ],
    ids=["hangs", "crashes"],
)
def test_spaces_are_used_even_if_closing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], close: str, message: str
) -> None:
    monkeypatch.setattr("deploy.wiring.probe.MARGIN", 1.0)
    monkeypatch.chdir(tmp_path)
    closing = COUNTED.replace("    def observe(", f"    def close(self):\n        {close}\n    def observe(", 1)
    (tmp_path / "counted.py").write_text(closing)
    begun = time.monotonic()
    assert probe(RunConfig(task=TASK), timeout=60).action.keys() == {"button", "stick"}
    assert time.monotonic() - begun < 55, "the limit is for making it"
    assert capsys.readouterr().err == f"warning: {TASK}, close() after its spaces were read: {message}\n"
