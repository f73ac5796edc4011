"""Configuration of a run: one tree, whose parts are defined beside the code they configure."""

import math
import os
import re
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, get_args

from actors.config import ActorConfig, EnvironmentConfig
from deploy.wiring.claim import Claim, claim
from deploy.wiring.config_file import read_config, read_values
from learner.config import LearnerConfig
from learner.sequence import start_items
from replay.config import ReplayConfig
from replay.redis_url import URLS
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import require_finite
from world_models.dreamer.config import AnchorConfig, DreamerConfig, ExplorationConfig
from world_models.dreamer.parts import PartName

NODES = r"[\w./-]+(=[\w.-]+)?"


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluation on episodes of their own, separate from training."""

    every: int = 0
    """Updates between evaluations; 0 turns them off."""
    episodes: int = 10
    """Episodes per evaluation."""
    stop_score: float = 0.0
    """Stop the run when an evaluation reaches this mean score; 0 never stops."""

    def __post_init__(self) -> None:
        if self.every < 0 or self.episodes < 1:
            raise ValueError(
                f"evaluation.every={self.every} must not be negative, episodes={self.episodes} at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class HooksConfig:
    """Functions of yours that the run calls, each as module:function; a module of the working directory will do.

    Each takes one dictionary, and may return another with numbers to add to the same line.
    """

    on_episode_end: str = ""
    """Called with each line of scores.jsonl, evaluations included; empty for none."""
    on_train_result: str = ""
    """Called with each line of metrics.jsonl; empty for none."""

    def __post_init__(self) -> None:
        for name in ("on_episode_end", "on_train_result"):
            module, _, function = (value := getattr(self, name)).partition(":")
            names = [function, *module.split(".")]
            if value and not (all(part.isidentifier() for part in names) and names[-1] != "py"):
                raise ValueError(f"hooks.{name}={value!r} is not of the form module:function, e.g. my_hooks:report.")


@dataclass(frozen=True, kw_only=True)
class AlertsConfig:
    """When `nexus monitor` raises an alert about the run; 0 turns a rule off."""

    non_finite: bool = True
    """A loss or a number of the optimizer is not finite."""
    stall_seconds: float = 900.0
    """Nothing has been written to the run's logs for this long."""
    lag_seconds: float = 300.0
    """Mean age of the policies that act."""
    dead_seconds: float = 120.0
    """An actor has not reported for this long; also one that is given up."""
    collapse: float = 0.5
    """Share of what the score had gained that it has lost again, over 20 episodes."""
    health: bool = True
    """A part of the world model is unhealthy by the thresholds of `health.*`."""

    def __post_init__(self) -> None:
        for name in ("stall_seconds", "lag_seconds", "dead_seconds", "collapse"):
            if getattr(self, name) < 0:
                raise ValueError(f"alerts.{name}={getattr(self, name):g} must not be negative; 0 turns the rule off.")


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """When the world model counts as unhealthy (`deploy/reports/health/verdicts.py`); 0 turns a rule off."""

    warmups: float = 3.0
    """Nothing is judged before this many times `learner.optimizer.warmup` updates."""
    patience: int = 2
    """Reports in a row over a threshold that make a part unhealthy; fewer only make it one to watch. As many healthy
    ones in a row end it."""
    compounding: float = 1.0
    """Error that predictions gain over the horizon, relative to the error of repeating the last observation."""
    optimism: float = 0.5
    """Imagined minus real return, relative to the size of real returns: their deviation plus half their mean; at
    least that of a full discounted return of 1, and the largest reward met so far."""
    calibration: float = 0.5
    """Error of the mean predicted reward at each level, relative to the size of rewards: their deviation plus half
    their mean; at least 1 - discount, of which a full return of 1 consists, and the largest reward met so far over as
    many steps as are imagined."""
    forgetting: float = 2.0
    """Loss on the oldest tenth of replay over that on the newest, if that on the same old windows has also risen by the
    root of this factor since its lowest."""
    sensitivity: float = 1.05
    """Error with the actions, or from the state, of other sequences over the error with their own, below which actions
    or states do not count."""
    memory: float = 1.05
    """Error from the last observation alone over the error with the observed history, below which history does not
    count."""
    cost: float = 0.1
    """Share of the time that the reports take, with their open-loop pictures."""

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            if getattr(self, name) < 0:
                raise ValueError(f"health.{name}={getattr(self, name):g} must not be negative; 0 turns the rule off.")
        if self.patience < 1:
            raise ValueError(f"health.patience={self.patience} must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where metrics go beside the run directory (`deploy/reports/sinks.py`)."""

    wandb: str = ""
    """Project of Weights & Biases; empty for none. WANDB_MODE=offline keeps it on this machine until `wandb sync`."""
    trackio: str = ""
    """Project of Trackio, which stays on this machine; empty for none."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """The Ray cluster that a run of cluster mode joins, and what its nodes are for."""

    address: str = ""
    """HOST:PORT of the cluster's head, or `auto` for the cluster of this machine; empty for RAY_ADDRESS.
    The cluster's token comes from RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token."""
    actor_nodes: str = ""
    """Nodes for the actors: a label, as KEY=VALUE, or the name of a custom resource; empty for all nodes."""
    learner_nodes: str = ""
    """Nodes for the learner and the replay shards, in the same form."""
    actor_cpus: float = 1.0
    """CPUs that each actor reserves on its node."""
    learner_gpus: int = -1
    """GPUs that the learner reserves on its node; -1: one for each of its processes if the cluster has any."""
    wait: bool = False
    """Wait until other jobs leave room, or an autoscaler (Ray's v2) has added nodes, one run after another, instead of
    ending; `nexus launch` sets it."""

    def __post_init__(self) -> None:
        for name in ("actor_nodes", "learner_nodes"):
            value = getattr(self, name)
            if value and not re.fullmatch(NODES, value):
                raise ValueError(
                    f"cluster.{name}={value!r} is neither a label of nodes, as KEY=VALUE, nor the name of a custom "
                    "resource; see `ray start --labels` and `--resources`."
                )
        if self.actor_cpus <= 0 or self.actor_cpus > 1 and self.actor_cpus % 1:
            raise ValueError(f"cluster.actor_cpus={self.actor_cpus:g} must be above 0, and whole if above 1.")
        if self.learner_gpus < -1:
            raise ValueError(f"cluster.learner_gpus={self.learner_gpus} must be at least 0, or -1 for the default.")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All options of `nexus train`."""

    task: str = "gym:CartPole-v1"
    """The same as the argument TASK."""
    logdir: str = ""
    """Directory of the run; empty for runs/TASK-seedSEED."""
    mode: Literal["inline", "local", "cluster"] = "local"
    """`inline`: one process, synchronous, repeatable; `local`: Ray actors on this machine; `cluster`: on the nodes of
    the Ray cluster at `cluster.address`."""
    seed: int = 0
    """Seed of the networks, of sampling and of the environments."""
    frames: int = 1_000_000
    """Length of the run in environment frames (action repeats counted); offline: in replayed frames."""
    offline: str = ""
    """Learn from stored replay alone, without actors: that of a logdir, disk replay, checkpoint or Redis URLs.
    It is copied into the run's own replay first and is not modified."""
    init_from: str = ""
    """A run, or one of its checkpoints, whose parameters the agent starts with; empty for fresh ones. The networks of
    the parts that are taken are then the defaults. Counters, optimizer and replay are new."""
    init_parts: tuple[PartName, ...] = ("world_model",)
    """What is taken: `all`, `world_model` (the five parts that follow it), or any of these parts."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    model: DreamerConfig = field(default_factory=DreamerConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    hooks: HooksConfig = field(default_factory=HooksConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log_every: int = 100
    """Updates between lines of metrics."""
    report_every: int = 2500
    """Updates between open-loop reports (`report/openloop_*`, `videos/openloop-*`); 0 turns them off.
    Each is written with the next line of metrics."""
    checkpoint_every: int = 1000
    """Updates between checkpoints; another is written at the end and on Ctrl-C."""
    checkpoint_seconds: float = 900.0
    """Seconds after which a checkpoint is written even if fewer updates have passed; 0 counts only updates."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep."""
    metrics_port: int = 0
    """Serve Prometheus metrics on this port; 0 serves none."""
    metrics_host: str = "127.0.0.1"
    """IP address at which they are served: whoever reaches it reads them without a secret."""

    def __post_init__(self) -> None:
        require_finite(self)
        for name in ("frames", "log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.mode not in ("inline", "local", "cluster"):
            raise ValueError(f"mode={self.mode!r} is not one of inline, local, cluster.")
        if self.mode != "cluster" and self.cluster.address:
            raise ValueError(f"cluster.address={self.cluster.address} is for --mode cluster; add it, or omit this.")
        if self.mode == "inline" and self.actor.isolation == "process":
            raise ValueError(
                "actor.isolation='process' needs mode='local' or 'cluster': inline mode steps environments in its own "
                "process."
            )
        if self.actor.autoscale.on and (self.mode == "inline" or self.offline):
            raise ValueError(
                "actor.autoscale.on needs actors of their own: use mode='local' or 'cluster', without --offline."
            )
        if self.exploration.disagreement and self.actor.plans:
            raise ValueError(
                f"actor.planner={self.actor.planner!r} plans by the task's reward, which is not what "
                "exploration.disagreement has the policy and values learn; omit one of them."
            )
        if (processes := self.learner.processes) > 1 and self.mode == "inline":
            raise ValueError(
                f"learner.processes={processes} does not work in mode=inline, where one process takes turns with its "
                "environments; use mode local or cluster, or learner.accumulate for a batch that does not fit."
            )
        if processes > 1 and self.replay.kind == "redis" and self.replay.selection.priority:
            raise ValueError(
                f"replay.selection.priority={self.replay.selection.priority:g} on Redis servers does not work with "
                f"learner.processes={processes}: each process would know the priorities of its own rows alone. Use "
                "--replay memory or disk, or set the priority to 0."
            )
        if 0 < self.cluster.learner_gpus < processes:
            raise ValueError(
                f"cluster.learner_gpus={self.cluster.learner_gpus}, but each of learner.processes={processes} needs a "
                f"GPU of its own; set at least {processes}, 0 for none, or -1, which lets the run choose."
            )
        if self.environment.pool == "on" and self.actor.isolation == "process":
            raise ValueError(
                "environment.pool='on' steps environments together in the actor's process, actor.isolation='process' "
                "each in one of its own; omit one of them."
            )
        self._require_parts()
        if self.checkpoint_seconds < 0:
            raise ValueError(
                f"checkpoint_seconds={self.checkpoint_seconds:g} must not be negative; 0 counts only updates."
            )
        if self.report_every < 0:
            raise ValueError(f"report_every={self.report_every} must not be negative; 0 turns reports off.")
        if (needed := start_items(self.learner)) > self.replay.capacity:
            raise ValueError(
                f"replay.capacity={self.replay.capacity} is less than the {needed} sequences at which training starts; "
                "raise it, or lower learner.start_items (0: learner.batch_size * learner.batch_length)."
            )
        if 0 < self.actor.max_lag < self.learner.publish_every:
            raise ValueError(
                f"actor.max_lag={self.actor.max_lag} is below learner.publish_every={self.learner.publish_every}: "
                "every policy would be too old before the next one comes. Raise it, or publish more often."
            )
        least = math.ceil(least_tolerance(self))
        if 0 < self.replay.tolerance < least and self.mode != "inline" and not self.offline:
            raise ValueError(
                f"replay.tolerance={self.replay.tolerance:g} is too small for learner.train_ratio="
                f"{self.learner.train_ratio:g}: acting and learning would block each other. Set at least {least}, "
                "or 0, which lets the run choose."
            )
        if not 0 <= self.metrics_port < 1 << 16:
            raise ValueError(f"metrics_port={self.metrics_port} must lie in 0 to 65535; 0 serves none.")
        try:
            ip_address(self.metrics_host)
        except ValueError:
            raise ValueError(
                f"metrics_host={self.metrics_host!r} is no IP address; 0.0.0.0 stands for all of this machine."
            ) from None
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")

    def _require_parts(self) -> None:
        names = get_args(PartName)
        if not self.init_parts or not {*self.init_parts} <= {*names}:
            raise ValueError(f"init_parts={self.init_parts} must name one or more of {', '.join(names)}.")
        if self.init_parts != RunConfig.init_parts and not self.init_from:
            raise ValueError(
                f"init_parts={self.init_parts} says what is taken from init_from, which is empty; name a run there."
            )


def least_tolerance(config: RunConfig) -> float:
    """The smallest `replay.tolerance`, in sampled steps, at which the largest block of an actor and the learner's batch
    cannot block each other; 0 if sampling and inserting are not coupled."""
    actor, learner = config.actor, config.learner
    if not learner.train_ratio:
        return 0.0
    block = actor.flush_steps * -(-actor.environments // actor.actors)
    return (block * learner.train_ratio + learner.batch_size * learner.batch_length) / 2


FREE = (
    "logdir", "frames", "log_every", "checkpoint_every", "checkpoint_seconds", "keep_checkpoints", "report_every",
    "metrics_port", "metrics_host", "evaluation.", "hooks.", "alerts.", "health.", "logging.", "cluster.",
    "learner.train_ratio", "replay.tolerance", "learner.threads", "learner.device", "learner.prefetch",
    "learner.processes", "learner.accumulate", "learner.cuda_graph", "learner.fused_scan", "learner.compile",
    "actor.flush_steps", "actor.flush_seconds", "actor.actors", "actor.autoscale.", "actor.max_lag",
    "learner.publish_every", "learner.publish_seconds", "environment.pool", "environment.pool_threads",
    "actor.isolation", "actor.step_timeout", "actor.reset_timeout", "actor.environment_gb", "actor.quarantine_after",
)  # fmt: skip
"""Fields (or groups, ending in a dot) that may change when a run continues: duration and speed, not results."""


def rooted(config: RunConfig) -> RunConfig:
    """The configuration with absolute paths, since an environment may change the working directory."""
    replay = config.replay
    if replay.directory:
        replay = replace(replay, directory=os.path.abspath(replay.directory))
    offline = config.offline
    if offline and not offline.startswith(URLS):
        offline = os.path.abspath(offline)
    start = os.path.abspath(config.init_from) if config.init_from else ""
    return replace(config, logdir=os.path.abspath(config.logdir), replay=replay, offline=offline, init_from=start)


def load_config(logdir: Path) -> RunConfig:
    """Read `config.yaml`. Raises ValueError naming what is missing, unreadable or wrong."""
    config = read_config(RunConfig, logdir)
    if "task" not in read_values(logdir):
        raise ValueError(f"{logdir / RUN_CONFIG}: it names no task; add e.g. task: gym:CartPole-v1.")
    return config


def claim_logdir(config: RunConfig, logdir: Path) -> Claim:
    """`claim`, with the fields that a training run may change."""
    return claim(config, logdir, FREE)
