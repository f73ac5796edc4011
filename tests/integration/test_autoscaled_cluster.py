"""Runs on a Ray cluster that has no node but its head until its autoscaler, Ray's own, starts some for them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import end_all, start_marked
from tests.integration.ray_nodes import RayNodes, environment_of
from tests.integration.runs import NEXUS, command, execute, run, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    with RayNodes(cpus=0, groups={"learner": (1, 1), "actors": (2, 2)}) as head:
        yield head


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)
    end_all(tmp_path / "other")


def _train(nodes: RayNodes, logdir: Path, actors: int, *more: str) -> list[str]:
    return command(
        "gym:CartPole-v1", logdir, "--mode", "cluster", "--cluster.address", nodes.address, "--actor.actors",
        str(actors), "--cluster.learner-nodes", "role=learner", "--cluster.actor-nodes", "role=actors", *more,
    )  # fmt: skip


def test_a_run_waits_for_nodes_that_are_started_for_it(nodes: RayNodes, folder: Path) -> None:
    with environment_of(nodes):
        refused = run(folder, _train(nodes, folder / "none", 3), timeout=500)
        assert refused.returncode == 2 and "matches cluster.learner_nodes=role=learner; it has 1 node" in refused.stderr

        process = start_marked(folder, _train(nodes, folder / "run", 3, "--cluster.wait", "True", "--frames", "200"))
        assert process.wait(400) == 0, _log(folder)
        said = _log(folder)
        assert "waits for the autoscaler to add nodes: No node of the Ray cluster matches cluster.learner_nodes" in said
        assert "There is room now." in said
        status = json.loads((folder / "run" / "status.json").read_text())
        assert status["state"] == "ended" and status["frames"] >= 200

        # One that the cluster could never hold does not end, since nodes may be added to the groups.
        (other := folder / "other").mkdir()
        process = start_marked(other, _train(nodes, other / "run", 5, "--cluster.wait", "True"))
        wait_for(lambda: re.search("waits for nodes, of which the autoscaler has no more now", _log(other)),
                 "the autoscaler to refuse", 200)  # fmt: skip
        stopped = execute(folder, [*NEXUS, "stop", str(other / "run")])
        assert stopped.wait(300) == 0 and process.wait(100) == 0, _log(other)


def _log(folder: Path) -> str:
    return (folder / "output.log").read_text()
