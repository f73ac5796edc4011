"""What cluster runs do when the node of the learner, the head or the supervisor is gone; minutes of waiting."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import end_all, having, start_marked
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import checkpoints, command, lines, run, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def logdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    end_all(tmp_path)


def _command(nodes: RayNodes, logdir: Path, *more: str) -> list[str]:
    return command(
        "gym:CartPole-v1", logdir, "--mode", "cluster", "--cluster.address", nodes.address, "--actor.actors", "1",
        "--log-every", "10", "--frames", "1000000", *more,
    )  # fmt: skip


def _updates(logdir: Path) -> int:
    return max((line["updates"] for line in lines(logdir / "metrics.jsonl")), default=0)


def _learners(nodes: RayNodes, node: str = "") -> int:
    return len(having(nodes.members(node), "learner_process"))


def test_the_learner_moves_to_another_node_and_nothing_outlives_the_supervisor(logdir: Path) -> None:
    output = logdir.parent / "output.log"
    with RayNodes(cpus=2) as nodes:
        nodes.join("second")
        nodes.join("third")
        arguments = _command(nodes, logdir, "--cluster.learner-nodes", "role=actors", "--checkpoint-every", "30")
        with environment_of(nodes):
            going = start_marked(logdir.parent, arguments)
        wait_for(lambda: _updates(logdir) >= 60 and checkpoints(logdir), "update 60 and a checkpoint")
        first, other = ("second", "third") if _learners(nodes, "second") else ("third", "second")
        assert _learners(nodes, first) and not _learners(nodes, other)
        nodes.kill(first)
        wait_for(lambda: "the learner died (with its launcher" in output.read_text(), "the supervisor to notice")
        before = _updates(logdir)
        wait_for(lambda: _updates(logdir) >= before + 30, "training on the other node", 300)
        assert _learners(nodes, other) and re.search(
            r"shard-0 has restarted with the steps of checkpoint", output.read_text()
        )

        going.kill()
        going.wait(10)
        wait_for(lambda: not (_learners(nodes) or having(nodes.members(), "ray::")), "all processes of the run to end")


def test_a_run_whose_head_is_gone_saves_and_says_so(logdir: Path) -> None:
    with RayNodes(protected=False) as nodes:
        with environment_of(nodes):
            going = start_marked(logdir.parent, _command(nodes, logdir))
        wait_for(lambda: _updates(logdir) >= 20, "update 20")
        for process in nodes.members("head"):
            if process.name() == "gcs_server":
                process.kill()
        assert going.wait(150) == 1
        said = (logdir.parent / "output.log").read_text()
        assert f"warning: the Ray cluster at {nodes.address} has no token authentication" in said
        assert re.search(r"The head of the Ray cluster at .* has not answered for \d+ s, so the run cannot go on", said)
        assert checkpoints(logdir)[-1] >= _updates(logdir) and "Traceback" not in said


@pytest.mark.skipif(subprocess.run(["unshare", "--mount", "true"]).returncode != 0, reason="needs the right to mount")
def test_a_learner_that_does_not_see_the_run_directory_is_refused(logdir: Path) -> None:
    with RayNodes() as nodes, environment_of(nodes):
        nodes.join(hidden=logdir.parent)
        done = run(logdir.parent, _command(nodes, logdir, "--cluster.learner-nodes", "role=actors"))
        assert done.returncode == 2 and not list(logdir.glob(".seen*")), done.stderr
        assert f"{logdir} on " in done.stderr and "is not the same directory on " in done.stderr
        assert not (logdir / "config.yaml").exists()
