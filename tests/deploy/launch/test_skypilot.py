"""The example for SkyPilot, which is not installed here: its fields are among those that SkyPilot 0.14 knows."""

import re
import subprocess
from pathlib import Path

import yaml

from deploy.commands.train import parse_train

FILE = Path(__file__).parents[3] / "deploy" / "launch" / "skypilot.yaml"
TASK = yaml.safe_load(FILE.read_text())
FIELDS = {
    "name", "workdir", "num_nodes", "resources", "file_mounts", "setup", "run", "envs", "secrets", "volumes", "config",
}  # fmt: skip
RESOURCES = {
    "infra", "cpus", "memory", "accelerators", "instance_type", "use_spot", "job_recovery", "image_id", "disk_size",
    "ports", "labels", "any_of", "ordered", "autostop",
}  # fmt: skip


def test_it_has_fields_that_skypilot_knows() -> None:
    assert TASK.keys() <= FIELDS and TASK["resources"].keys() <= RESOURCES
    assert TASK["num_nodes"] >= 2 and TASK["resources"]["job_recovery"].keys() == {"strategy", "max_restarts_on_errors"}
    assert all(isinstance(value, str) for value in TASK["envs"].values())
    assert TASK["secrets"] == {"RAY_AUTH_TOKEN": None} and TASK["envs"]["RAY_AUTH_MODE"] == "token"


def test_its_programs_are_those_of_a_cluster_run() -> None:
    for program in (TASK["setup"], TASK["run"]):
        assert subprocess.run(["sh", "-n", "-c", program], timeout=10).returncode == 0
    command = re.search(r"nexus train ((?:.*\\\n)*.*)", TASK["run"])
    assert command
    text = re.sub(r'"?\$(\w+)', lambda found: TASK["envs"].get(found[1], "10.0.0.1"), command[1].replace("\\\n", " "))
    config = parse_train(text.replace('"', "").split())
    assert (config.mode, config.cluster.address, config.logdir) == ("cluster", "10.0.0.1:6385", "/runs/train")
    for role in (config.cluster.actor_nodes, config.cluster.learner_nodes):
        assert f"--labels={role}" in TASK["run"]
    assert config.logdir.startswith(tuple(TASK["volumes"]))
    assert "6380" not in TASK["run"].replace("6379 or 6380", "")
