"""DreamerV3 learns in a world that Genie generates."""

from pathlib import Path

from actors.envs.generated_world import WorldConfig
from actors.policy import load_policy
from deploy.commands.train import parse_train
from deploy.inline_run import InlineRun
from deploy.stored.generated_world import make_world
from deploy.wiring.claim import _LOCKS
from tests.actors.small_world import saved_genie
from tests.integration.runs import TINY, lines


def test_an_inline_run_learns_in_a_generated_world(tmp_path: Path) -> None:
    world, logdir = tmp_path / "world", tmp_path / "run"
    make_world(saved_genie(tmp_path / "genie"), "generated:block_world", world, WorldConfig(steps=8), starts=4)
    options = ["--mode", "inline", "--learner.train-ratio", "1", "--frames", "80",
               "--environment.image-size", "48", "48"]  # fmt: skip
    whole = InlineRun(parse_train([f"genie:{world}", *TINY, "--logdir", str(logdir), *options]), logdir)
    try:
        assert whole.run() == "done"
    finally:
        _LOCKS.pop(logdir).close()
    episodes = [line for line in lines(logdir / "scores.jsonl") if line["kind"] == "train"]
    assert episodes and {(line["length"], line["score"]) for line in episodes} == {(8, 0)}
    policy = load_policy(logdir)
    assert policy.policy.model.action_space["action"].classes == 3
