"""The end of a baseline run: scores on fresh episodes beside random actions, a curve, and their paths."""

import json
from pathlib import Path
from typing import Any

from actors.envs.atari.human_scores import describe_human_normalised
from actors.evaluation import Actions, Evaluation, describe_metrics
from actors.trivial_policies import Policy, RandomPolicy
from deploy.distributed.baselines.playing import play
from deploy.reports.episode_progress import EpisodeProgress
from deploy.reports.plot import plot
from deploy.reports.summary import FRESH_SEED, describe_protocol
from deploy.wiring.baselines import BaselineConfig
from replay.files.whole_file import whole_file
from world_models.space import Spaces

EPISODES = 20


def summarize(config: BaselineConfig, logdir: Path, policy: Policy, action_space: Spaces, checkpoint: Path) -> None:
    """Score the newest policy and a random one, draw the curve; the last lines give the paths."""
    seed = FRESH_SEED + config.seed
    players: dict[str, Policy] = {"trained": policy, "random": RandomPolicy(action_space, seed)}
    outcome: dict[str, Any] = {}
    print(f"{config.method.upper()}, {config.task}:")
    for name, player in players.items():
        with EpisodeProgress(name, EPISODES) as progress:
            actions: Actions = "random" if name == "random" else "sampled"
            played = play(config, player, EPISODES, seed, actions=actions, watch=progress.update)
        outcome[name] = _document(played)
        text = "\n    ".join([f"  {name + ':':<8} {played}", *describe_metrics(played.metrics, EPISODES)])
        print(text, *(f"    {line}" for line in describe_human_normalised(config.task, played.mean)), sep="\n")
    print(f"  {describe_protocol(outcome['trained']['protocol'])}")
    line = {"task": config.task, "method": "random policy", "seed": 0, "xs": [0], "ys": [outcome["random"]["mean"]]}
    for file, document in (("evaluation.json", outcome), ("random.json", [line])):
        with whole_file(logdir / file) as fresh:
            fresh.write_text(json.dumps(document, indent=2))
    plot([logdir], out=logdir / "curve.png", baselines=[logdir / "random.json"])
    print(f"\n{'curve:':<12}{logdir / 'curve.png'}\n{'checkpoint:':<12}{checkpoint}")


def _document(played: Evaluation) -> dict[str, Any]:
    return {
        "mean": played.mean, "interval95": played.interval, "scores": played.scores, "metrics": played.metrics,
        "protocol": played.protocol, "text": str(played),
    }  # fmt: skip
