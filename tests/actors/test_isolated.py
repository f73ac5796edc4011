"""Environments in processes of their own, which really hang, crash, leak and shout."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors import closing
from actors.config import EnvironmentConfig
from actors.faults import BrokenEnvironmentError, OutsideError
from actors.isolation import isolated
from actors.isolation.environment_process import Limits
from actors.isolation.isolated import IsolatedEnvironment, IsolatedEnvironments
from tests.actors import faulty
from tests.actors.faulty import EXIT, GO_ON, HANG, KILL, LEAK, NAN, NOISE, RAISE, SEGFAULT, TASK, WRONG
from tests.integration.runs import environment, wait_for

PATIENT = Limits(60.0, 60.0)


@pytest.fixture(scope="module")
def make() -> Iterator[IsolatedEnvironments]:
    makers = IsolatedEnvironments(TASK, EnvironmentConfig(), PATIENT)
    yield makers
    makers.close()


def made(make: IsolatedEnvironments, limits: Limits = PATIENT, task: str = TASK) -> IsolatedEnvironment:
    return IsolatedEnvironment(make.server, task, make.config, limits)


def act(action: int) -> dict[str, np.ndarray]:
    return {"action": np.asarray(action, np.int32)}


def process_of(environment: IsolatedEnvironment) -> int:
    return int(environment.reset(0).observation["vector"][0])


FAILURES = [
    (RAISE, "exception", "raised RuntimeError: the gripper is stuck", "RuntimeError: the gripper is stuck"),
    (SEGFAULT, "crash", r"its process crashed with signal 11 \(SIGSEGV\)", "in step"),
    (KILL, "crash", r"its process crashed with signal 9 \(SIGKILL\); perhaps the machine ran out of memory", ""),
    (EXIT, "crash", "its process ended with exit code 3", ""),
    (HANG, "timeout", r"step\(\) did not return within 0.5 s", "in _wait"),
    (LEAK, "memory", r"its process grew to 0.\d+ GB, actor.environment_gb allows 0.2", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "kind", "what", "details"), FAILURES, ids=[f"{one[1]}-{one[0]}" for one in FAILURES]
)
def test_what_happens_in_its_process_is_told_and_named(
    make: IsolatedEnvironments, action: int, kind: str, what: str, details: str
) -> None:
    one = made(make, Limits(0.5 if action == HANG else 60.0, 60.0, 0.2 if action == LEAK else 0.0))
    process = process_of(one)
    one.step(act(NOISE))
    with pytest.raises(OutsideError, match=what) as caught:
        one.step(act(action))
        one._process._looked = 0.0  # a leak is found at the next look
        one.step(act(GO_ON))
    error = caught.value
    assert error.kind == kind and details in error.details and "the motor is warm" in error.details
    if action in (RAISE, HANG):
        assert f"{faulty.__file__}, line " in error.place
    assert psutil.pid_exists(process) == (action == RAISE), "what has failed otherwise is ended"
    one.close()
    assert not psutil.pid_exists(process)


@pytest.mark.parametrize(("action", "kind"), [(NAN, "non_finite"), (WRONG, "invalid")])
def test_a_violated_declaration_names_the_step(make: IsolatedEnvironments, action: int, kind: str) -> None:
    one = made(make)
    one.reset(5)
    with pytest.raises(BrokenEnvironmentError, match=r"step\(\) number 1 of the episode with seed 5") as caught:
        one.step(act(action))
    assert caught.value.kind == kind
    one.close()


def test_its_output_is_kept_from_the_terminal_and_bounded(
    make: IsolatedEnvironments, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.isolation.environment_process.MOST", 10_000)
    monkeypatch.setattr("actors.isolation.environment_process.LOOK", 0.0)
    one = made(make)
    one.reset(0)
    for _ in range(500):
        one.step(act(NOISE))
    assert os.fstat(one._process.output).st_size < 15_000
    assert one._process._said().endswith("and so is the gripper\n")
    one.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CannotBeMade", r"^Task 'gym:tests.actors.faulty:CannotBeMade-v0' cannot be made: .*line \d+, in __init__: "
         "KeyError: 'goal'"),
        ("MakingCrashes", r"its process crashed with signal 11 \(SIGSEGV\)"),
        ("MakingHangs", "making it did not return within 1 s"),
        ("Unknown", r"did not register 'Unknown-v0' with Gymnasium"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_made_says_why(make: IsolatedEnvironments, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(make, Limits(60.0, 1.0 if "Hangs" in name else 60.0), TASK.replace("Faulty", name))
    children = psutil.Process(make.server._process.pid).children() if make.server._process else []
    assert not [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_what_fails_at_closing_is_one_warning_and_leaves_no_process(
    make: IsolatedEnvironments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_said", set())
    monkeypatch.setattr(closing, "_hung", set())
    monkeypatch.setattr(isolated, "CLOSING", 0.5)
    for name in ("CloseRaises", "CloseHangs", "CloseHangs"):
        one = made(make, task=TASK.replace("Faulty", name))
        process = process_of(one)
        one.close()
        one.close()
        assert not psutil.pid_exists(process)
    raises, hangs = capsys.readouterr().err.splitlines()
    assert raises.startswith("warning: gym:tests.actors.faulty:CloseRaises-v0, close(), ")
    assert raises.endswith("in close: RuntimeError: the window is gone")
    assert hangs.endswith("CloseHangs-v0, close(): close() did not return within 0.5 s; its process was ended")


def test_it_draws_and_keeps_drawing_after_an_error(make: IsolatedEnvironments) -> None:
    one = made(make)
    one.reset(0)
    one.step(act(GO_ON))
    np.testing.assert_array_equal(one.render(), np.full((4, 6, 3), 1, np.uint8))
    with pytest.raises(OutsideError):
        one.step(act(RAISE))
    assert one.render().max() == 2
    one.close()


def test_environments_of_one_server_step_at_the_same_time_and_are_strangers(make: IsolatedEnvironments) -> None:
    one, other = made(make), made(make)
    assert process_of(one) != process_of(other)
    one.begin_step(act(GO_ON))
    other.begin_step(act(GO_ON))
    assert [each.finish().observation["vector"][1] for each in (other, one)] == [1, 1]
    one.close()
    assert other.step(act(GO_ON)).observation["vector"][1] == 2
    other.close()


def test_an_environment_learns_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEXUS_REDIS_PASSWORD", "RAY_AUTH_TOKEN", "MY_SIMULATOR"):
        monkeypatch.setenv(name, "open sesame")
    make = IsolatedEnvironments(TASK, EnvironmentConfig(), PATIENT)
    one = make()
    variables = Path(f"/proc/{process_of(one)}/environ").read_text()
    assert "MY_SIMULATOR=open sesame" in variables and variables.count("open sesame") == 1
    one.close()
    make.close()


def test_a_server_that_was_killed_is_started_again() -> None:
    make = IsolatedEnvironments(TASK, EnvironmentConfig(), PATIENT)
    one = make()
    process = process_of(one)
    assert make.server._process
    make.server._process.kill()
    with pytest.raises(OutsideError, match="its process ended with that of its worker's other environments") as caught:
        one.step(act(HANG))
    assert caught.value.kind == "crash"
    wait_for(lambda: not psutil.pid_exists(process), "the environment to end with its server")
    again = make()
    assert again.reset(0).observation["vector"][1] == 0
    again.close()
    make.close()


HOLDS = f"""
import sys
from actors.config import EnvironmentConfig
from actors.isolation import isolated
from actors.isolation.environment_process import Limits
from actors.isolation.isolated import IsolatedEnvironments
import numpy as np
if __name__ == "__main__":
    environments = [IsolatedEnvironments({TASK!r}, EnvironmentConfig(), Limits(60.0, 60.0))() for _ in range(2)]
    processes = [int(one.reset(0).observation["vector"][0]) for one in environments]
    print(*processes, flush=True)
    environments[0].step({{"action": np.asarray(int(sys.argv[1]), np.int32)}})
"""


def test_no_process_outlives_the_one_that_began_it_not_even_one_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "holds.py").write_text(HOLDS)
    with subprocess.Popen(
        [sys.executable, "holds.py", str(HANG)], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        environments = [int(word) for word in owner.stdout.readline().split()]
        family = [owner.pid, *(child.pid for child in psutil.Process(owner.pid).children(recursive=True))]
        assert set(environments) < set(family) and len(family) == 5, "two servers, two environments"
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait(10)
        wait_for(lambda: not [one for one in family if psutil.pid_exists(one)], "its processes to end", 20)


def test_a_module_that_cannot_be_forked_is_imported_by_every_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "threaded.py").write_text(
        "import os, threading\nimport gymnasium\nfrom tests.actors.faulty import Faulty\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "open('imported', 'a').write(f'{os.getpid()}\\n')\n"
        "gymnasium.register('Threaded-v0', Faulty)\n"
    )
    monkeypatch.chdir(tmp_path)
    make = IsolatedEnvironments("gym:threaded:Threaded-v0", EnvironmentConfig(), PATIENT)
    environments = [make(), make()]
    processes = [process_of(one) for one in environments]
    for one in environments:
        one.close()
    assert make.server._process
    imported = [int(line) for line in (tmp_path / "imported").read_text().split()]
    assert imported == [make.server._process.pid, *processes]
    make.close()
