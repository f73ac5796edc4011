"""One replay feeds DreamerV3, I-JEPA, V-JEPA 2, V-JEPA 2-AC and a latent world model, each by its one command."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.pretraining import pretrain
from tests.integration.runs import MY_MODULE, command, lines, run
from tests.replay.redis.redis_servers import RedisServer
from world_models.loading import load_model

TASK = "gym:my_module:MyEnv-v0"  # images, vectors, a discrete and a continuous action


@pytest.fixture(params=["disk", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the replay of a run lies on."""
    if request.param == "disk":
        yield "disk"
        return
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(tcp=True)) for _ in range(2)]
        yield ",".join(server.url_tcp for server in servers)


@pytest.mark.slow
def test_one_replay_feeds_every_family(tmp_path: Path, store: str) -> None:
    (tmp_path / "my_module.py").write_text(MY_MODULE)
    recorded = tmp_path / "recorded"
    done = run(tmp_path, command(TASK, recorded, "--mode", "inline", "--replay", store, "--frames", "280"))
    assert done.returncode == 0, done.stdout + done.stderr
    where = str(recorded) if store == "disk" else store
    task = [] if store == "disk" else ["--data.task", TASK]  # for the classes of discrete actions
    video = tmp_path / "vjepa2"
    two = ["--training.updates", "2"]
    for name, words in {
        "dreamer": command(
            TASK, tmp_path / "dreamer", "--mode", "inline", "--offline", where, "--frames", "96", "--log-every", "1"
        ),
        "ijepa": pretrain("ijepa", where, tmp_path / "ijepa", *two),
        "vjepa2": pretrain("vjepa2", where, video, *two),
        "ac": pretrain("vjepa2-ac", where, tmp_path / "ac", "--encoder", str(video), *two, *task),
        "latent": pretrain("latent", where, tmp_path / "latent", *two, *task),
    }.items():
        done = run(tmp_path, words)
        assert done.returncode == 0, (name, done.stdout + done.stderr)
        assert done.stdout.count("checkpoint:") == 1 and lines(tmp_path / name / "metrics.jsonl"), name
    model = load_model(tmp_path / "ac")
    assert (model.config.action, model.config.state) == (5, 3)  # type: ignore[union-attr]
