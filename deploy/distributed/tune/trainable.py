"""A run as a `ray.tune.Trainable`."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from ray.tune.result import DONE, EPISODES_TOTAL, SHOULD_CHECKPOINT, TIMESTEPS_TOTAL

from deploy.distributed.tune.run_logs import RunLogs
from deploy.distributed.tune.trial_run import TrialRun
from deploy.wiring.config import RunConfig, load_config
from deploy.wiring.config_file import save_config
from deploy.wiring.fields import as_options, dotted, with_fields
from deploy.wiring.presets import apply
from world_models.checkpoint_files import RUN_CONFIG
from world_models.dataclass_json import differences, to_json

EVERY = 10.0  # seconds without a new line of metrics after which a result is reported all the same
LOOK = 0.1  # seconds between looks at the logs
OWN = ("task", "logdir")
"""Fields that the trainable sets itself."""
KEPT = (
    "mode", "offline", "environment.", "actor.environments", "replay.store", "replay.shards", "replay.compression",
    "replay.capacity", "replay.chunk_length", "model.reward_heads", "exploration.members", "exploration.units",
    "exploration.layers",
)  # fmt: skip
"""Fields, or groups, with which a copied run must continue."""
NETWORKS = tuple(
    f"model.{part}." for part in ("rssm", "encoder", "decoder", "reward", "continuation", "policy", "value")
)
"""Whole numbers in these groups are sizes of the networks, so they must stay too."""
SWITCHES = ("exploration.disagreement", "anchor.weight")
"""Weights that may change, but not from or to 0: with 0, what they weigh is not there, nor in checkpoints."""


def trainable(
    task: str, *, preset: str = "", size: str = "", overrides: Mapping[str, Any] | None = None
) -> type["RunTrainable"]:
    """A trainable for `ray.tune.Tuner`: every trial is a `nexus train TASK` with these settings and its parameters.

    `overrides` and the parameters of the search space are fields of the configuration by their dotted names, such as
    `learner.train_ratio`, with values as in config.yaml. A trial is a process of its own in inline mode, unless `mode`
    says otherwise. It has the CPUs and GPUs of `tune.with_resources`: as many learner threads as CPUs, and without a
    GPU the device `cpu`.

    A result is reported with every line of metrics (`log_every` updates), and at least every ten seconds: `score` (mean
    of the newest 20 training episodes), `eval_score` (of the newest evaluation), `frames`, `updates`, `episodes`, and
    all keys of metrics.jsonl, such as `train/loss/total`. What is not known yet is NaN, which schedulers skip. Let them
    count by `time_attr="frames"`.

    A checkpoint is a copy of the run's directory. Taking one stops the run, which then saves and is continued with the
    next result: seconds each, so let PBT wait for longer between perturbations. One is taken every
    `checkpoint_seconds`, when a trial is finished, and when Tune asks. Restoring it, in the same trial or (PBT) in
    another, continues the run with the values of that trial; only what the weights and the replay depend on must stay,
    such as the sizes of the networks, and whether `exploration.disagreement` and `anchor.weight` are 0.

    ValueError: the preset, a field (the nearest are named) or its value is wrong. Wrong parameters fail their trial.
    """
    given = {"mode": "inline", **dotted(overrides or {})}
    _configured(task, preset, size, given)
    attributes = {"task": task, "preset": preset, "size": size, "overrides": given, "directory": os.getcwd()}
    return type("nexus", (RunTrainable,), attributes)


def _configured(task: str, preset: str, size: str, values: Mapping[str, Any]) -> RunConfig:
    """ValueError names what is wrong with the values."""
    if own := sorted(values.keys() & {*OWN}):
        raise ValueError(
            f"Fields {own} are set by the trainable: the task is its argument, the logdir the trial's own."
        )
    config = with_fields(apply(RunConfig(task=task), preset, size), values)
    if config.replay.kind == "redis" or config.replay.directory:
        where = config.replay.directory or "Redis"
        raise ValueError(
            f"The replay of a trial cannot be in {where}: it must be its own, to be copied with its checkpoints. Use "
            "replay.store memory, or disk without replay.directory."
        )
    return config


class RunTrainable(tune.Trainable):
    """A run as Tune steps, saves and restores it; made by `trainable`."""

    task: ClassVar[str]
    preset: ClassVar[str]
    size: ClassVar[str]
    overrides: ClassVar[dict[str, Any]]
    directory: ClassVar[str]
    """Where the run's command is given: there are the modules of the user's environments."""
    run: TrialRun | None = None

    def setup(self, config: dict[str, Any]) -> None:
        logdir = Path(self.logdir) / "run"
        values = self._share() | self.overrides | dotted(config)
        self.settings = replace(_configured(self.task, self.preset, self.size, values), logdir=str(logdir))
        default = to_json(apply(RunConfig(task=self.task), self.preset, self.size))
        changed = {name: new for name, (_, new) in differences(default, to_json(self.settings)).items()}
        named = [*(["--preset", self.preset] if self.preset else []), *(["--size", self.size] if self.size else [])]
        command = ["train", self.task, *named, *as_options(changed)]
        here = self.directory if os.path.isdir(self.directory) else os.environ.get("TUNE_ORIG_WORKING_DIR", self.logdir)
        self.run, self.logs = TrialRun(command, logdir, here), RunLogs(logdir)
        self._copied = time.monotonic()

    def _share(self) -> dict[str, Any]:
        """The run's part of the machine: what Tune has reserved for the trial."""
        if self.trial_resources is None:
            return {}
        reserved = self.trial_resources.required_resources
        threads = {"learner.threads": max(1, int(reserved.get("CPU", 1)))}
        return threads if reserved.get("GPU") else threads | {"learner.device": "cpu"}

    def step(self) -> dict[str, Any]:
        assert self.run
        self.run.start()
        deadline = time.monotonic() + EVERY
        while not (over := self.run.ended()) and not self.logs.read() and time.monotonic() < deadline:
            time.sleep(LOOK)
        self.logs.read()
        result = self.logs.result() | {"run": str(self.run.logdir)}
        result |= {TIMESTEPS_TOTAL: result["frames"], EPISODES_TOTAL: result["episodes"]}
        every = self.settings.checkpoint_seconds
        due = over or bool(every) and time.monotonic() - self._copied > every
        return result | {DONE: over, SHOULD_CHECKPOINT: due}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self.run
        self.run.stop()
        self.run.copy_to(Path(checkpoint_dir))
        self._copied = time.monotonic()

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue the copied run, with this trial's values."""
        assert self.run
        copied = Path(checkpoint)
        begun = (copied / RUN_CONFIG).exists()  # else it was stopped while it started
        if begun:
            _require_same(load_config(copied), self.settings)
        self.run.replace_by(copied)
        if begun:
            save_config(self.settings, self.run.logdir)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """For `reuse_actors`."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        if self.run:
            self.run.end()
            self.run = None


def _require_same(copied: RunConfig, wanted: RunConfig) -> None:
    """ValueError: weights or replay of the copied run do not fit the trial's values."""
    lines = [
        f"  {name}: {old!r} there, {new!r} here"
        for name, (old, new) in differences(to_json(copied), to_json(wanted)).items()
        if name.startswith(KEPT)
        or (name.startswith(NETWORKS) and not isinstance(new, float))
        or (name in SWITCHES and bool(old) != bool(new))
    ]
    if lines:
        raise ValueError(
            "A checkpoint cannot be continued with other values of\n" + "\n".join(lines) + "\nLeave them out of what "
            "changes within a trial, e.g. of PBT's hyperparam_mutations."
        )
