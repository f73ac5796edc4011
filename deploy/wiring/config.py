"""Configuration of a run: one tree, whose parts are defined beside the code they configure."""

import errno
import fcntl
import math
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from actors.config import ActorConfig, EnvironmentConfig
from learner.config import LearnerConfig
from learner.sequence import start_items
from replay.config import ReplayConfig
from replay.files.whole_file import write_durably
from replay.redis_url import URLS
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import differences, from_json, require_finite, to_json
from world_models.dreamer.config import DreamerConfig

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
    """GPUs that the learner reserves; -1: one if the cluster has any."""

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
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    model: DreamerConfig = field(default_factory=DreamerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    hooks: HooksConfig = field(default_factory=HooksConfig)
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
    """Serve Prometheus metrics on this port of 127.0.0.1; 0 serves none."""

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
        if self.environment.pool == "on" and self.actor.isolation == "process":
            raise ValueError(
                "environment.pool='on' steps environments together in the actor's process, actor.isolation='process' "
                "each in one of its own; omit one of them."
            )
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
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")


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
    "metrics_port", "evaluation.", "hooks.", "cluster.", "learner.train_ratio", "replay.tolerance",
    "learner.threads", "learner.device", "learner.prefetch", "actor.flush_steps", "actor.flush_seconds",
    "actor.actors", "actor.max_lag", "learner.publish_every", "learner.publish_seconds",
    "environment.pool", "environment.pool_threads",
    "actor.isolation", "actor.step_timeout", "actor.reset_timeout", "actor.environment_gb", "actor.quarantine_after",
)  # fmt: skip
"""Fields (or groups, ending in a dot) that may change when a run continues: duration and speed, not results."""

LOCK = ".lock"
"""A file of the run's directory that its process holds locked."""
_LOCKS: dict[Path, ExitStack] = {}


def rooted(config: RunConfig) -> RunConfig:
    """The configuration with absolute paths, since an environment may change the working directory."""
    replay = config.replay
    if replay.directory:
        replay = replace(replay, directory=os.path.abspath(replay.directory))
    offline = config.offline
    if offline and not offline.startswith(URLS):
        offline = os.path.abspath(offline)
    return replace(config, logdir=os.path.abspath(config.logdir), replay=replay, offline=offline)


def save_config(config: RunConfig, logdir: Path) -> None:
    """Write `config.yaml`."""
    text = yaml.safe_dump(to_json(config), sort_keys=False)
    write_durably(logdir / RUN_CONFIG, text.encode())


def read_values(logdir: Path) -> Any:
    """The values in `config.yaml`. Raises ValueError if it is missing or unreadable."""
    path = logdir / RUN_CONFIG
    if not path.exists():
        raise ValueError(f"{logdir} holds no {RUN_CONFIG}; give the logdir of a run.")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} cannot be read: it is not a regular file.")
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text, so it is not the {RUN_CONFIG} of a run; restore the run's configuration, or move "
            f"{logdir} away to start over."
        ) from error
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        LookupError,
        AttributeError,
    ) as error:  # PyYAML lets these through
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def load_config(logdir: Path) -> RunConfig:
    """Read `config.yaml`. Raises ValueError naming what is missing, unreadable or wrong."""
    values = read_values(logdir)
    try:
        if values is None:
            raise ValueError(f"it is empty; restore the run's configuration, or move {logdir} away to start over.")
        config = from_json(RunConfig, values)
        if "task" not in values:
            raise ValueError("it names no task; add e.g. task: gym:CartPole-v1.")
    except ValueError as error:
        raise ValueError(f"{logdir / RUN_CONFIG}: {error}") from error
    return config


class Claim(NamedTuple):
    """A logdir that this process holds until it exits."""

    config: RunConfig
    logdir: Path
    continues: bool
    """Whether a run has already begun there."""

    def confirm(self) -> None:
        """Tie the directory to this configuration, once the run is set up: a start that its stores refuse may be
        retried with another one. What a durable store has created by then keeps the schema of its steps."""
        save_config(self.config, self.logdir)


def claim_logdir(config: RunConfig, logdir: Path) -> Claim:
    """Lock `logdir` for this run.

    Raises ValueError if it belongs to a run with another configuration (listing the differences), or if another process
    is running there.
    """
    logdir.mkdir(parents=True, exist_ok=True)
    with _lock(logdir) as held:
        continues = (logdir / RUN_CONFIG).exists()
        if continues:
            old = _plain(load_config(logdir))  # fields newer than the file get their defaults
            differ = {k: v for k, v in differences(old, _plain(config)).items() if not _free(k)}
            if differ:
                lines = "\n".join(f"  {key}: {a!r} there, {b!r} now" for key, (a, b) in differ.items())
                raise ValueError(
                    f"{logdir} belongs to a run with another configuration:\n{lines}\n"
                    "Use another --logdir, or the old values to continue that run."
                )
        _LOCKS[logdir] = held.pop_all()  # held until this process exits
    return Claim(config, logdir, continues)


def _free(field: str) -> bool:
    return any(field == name or name.endswith(".") and field.startswith(name) for name in FREE)


def _lock(logdir: Path) -> ExitStack:
    """Locks `logdir` until closed. Raises ValueError if another process holds it."""
    path = logdir / LOCK
    try:
        file = path.open("a+", errors="replace")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened: {error.strerror}. Move it away, or use another --logdir."
        ) from error
    with ExitStack() as stack:
        stack.enter_context(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            file.seek(0)
            raise ValueError(
                f"{logdir} is in use by process {file.read().strip() or '?'}; stop it first, or use another --logdir."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return stack.pop_all()


def _plain(config: RunConfig) -> dict[str, Any]:
    return yaml.safe_load(yaml.safe_dump(to_json(config)))
