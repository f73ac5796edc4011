"""The learner process without a run around it."""

import subprocess
import sys
from pathlib import Path

from deploy.commands.train import parse_train
from deploy.wiring.config import claim_logdir
from tests.integration.runs import environment


def test_a_learner_whose_driver_died_while_it_started_ends_before_it_joins_ray(tmp_path: Path) -> None:
    config = parse_train(["gym:CartPole-v1", "--preset", "quick", "--logdir", str(tmp_path / "run")])
    claim_logdir(config, tmp_path / "run").confirm()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(300)
    command = [sys.executable, "-P", "-m", "deploy.distributed.learner_process"]
    arguments = [config.logdir, "127.0.0.1:1", "n", str(gone.pid), "none"]
    done = subprocess.run([*command, *arguments], env=environment(), capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "The supervisor exited while this learner was starting; exiting too.\n"
