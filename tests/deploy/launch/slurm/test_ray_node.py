"""A node of Ray inside an allocation: what it offers Ray, and where it keeps its token."""

import os
from pathlib import Path

import pytest

from deploy.launch.slurm.ray_node import LONGEST, RayNode, offered


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({}, 0),
        ({"SLURM_GPUS_ON_NODE": "2"}, 2),
        ({"SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "3"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 3),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
    ],
)
def test_ray_is_told_what_slurm_has_given(environment: dict[str, str], gpus: int) -> None:
    assert offered({"SLURM_CPUS_ON_NODE": "6", **environment}) == ["--num-cpus=6", f"--num-gpus={gpus}"]


def test_the_token_is_its_owners_alone_and_goes_with_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    with RayNode("secret", alone=True, over=lambda: True) as node:
        token = node.folder / "token"
        assert token.read_text() == "secret"
        assert (token.stat().st_mode & 0o777, node.folder.stat().st_mode & 0o777) == (0o600, 0o700)
        ours = ("RAY_AUTH", "RAY_ADDRESS")
        given = {name: value for name, value in node.environment.items() if name.startswith(ours)}
        assert given == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    assert not node.folder.exists()


@pytest.mark.parametrize("given", ["", "/no/such/folder", "a long one"])
def test_sockets_always_fit_below_the_folder(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / "0123456789012345678901234567890123456789"
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long) if given == "a long one" else given)
    with RayNode("secret", alone=True, over=lambda: True) as node:
        assert len(str(node.folder)) <= LONGEST and os.path.dirname(node.folder) == "/tmp"
