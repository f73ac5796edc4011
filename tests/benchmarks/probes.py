"""`python -m tests.benchmarks.probes --json`: what probes read from I-JEPA on digits and from V-JEPA 2 on motion.

For each seed an encoder is pretrained without labels (`nexus pretrain ijepa --preset digits`, `vjepa2 --preset
motion`), probed on the labels of the generated dataset of that seed, and compared with the same probe of a random
encoder, with raw pixels, frame differences and shuffled frames, and with an encoder of the same size trained on the
labels. Everything is kept in --runs: the same command goes on where it was stopped. CPU seconds are the measure on a
busy machine.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from actors.evaluation import confidence_interval
from deploy.pretrain_run import PretrainRun
from deploy.reports.pretraining.probing import Progress, as_document, load_encoder, table
from deploy.stored.datasets import open_dataset
from deploy.stored.pretraining_data import PretrainingData
from deploy.wiring.pretrain_presets import preset
from learner.datasets.dataset import Clip, Dataset
from learner.probes.attentive import AttentiveConfig
from learner.probes.encoders import Encoder, untrained
from learner.probes.evaluation import FROZEN, PIXELS, RANDOM, ProbeConfig, Row, evaluate
from learner.probes.features import pixels, pooled, read
from learner.probes.finetune import FinetuneConfig
from learner.probes.linear import fit_linear
from replay.files.whole_file import whole_file
from tests.benchmarks.machine import describe, versions

TASKS = {"ijepa": "digits", "vjepa2": "motion"}
"""The generated dataset of each model, and its preset."""
PROBED = {"ijepa": "linear", "vjepa2": "attentive"}
PLAIN = "linear C=1"
"""The linear probe whose penalty is not chosen."""
LIVES = "cpu_seconds.jsonl"


def pretrained(model: str, seed: int, given: argparse.Namespace) -> tuple[Path, float]:
    """The run, trained to its end, and the CPU seconds of all its lives."""
    name, logdir = TASKS[model], given.runs / f"{model}-{seed}"
    config = preset(model, name)
    updates = given.updates or config.training.updates
    few = min(config.probe.examples, given.examples or config.probe.examples)
    config = replace(
        config, logdir=str(logdir), seed=seed, data=replace(config.data, where=f"generated:fresh_{name}:{seed}"),
        training=replace(config.training, threads=1, device="cpu", updates=updates),
        probe=replace(config.probe, examples=few),
    )  # fmt: skip
    lives = logdir / LIVES
    started = time.process_time()
    with PretrainingData(config) as data:
        outcome = PretrainRun(config, logdir, data).run()
    with lives.open("a") as file:
        file.write(f"{time.process_time() - started}\n")
    if outcome != "done":
        raise KeyboardInterrupt("Stopped and saved; the same command goes on.")
    return logdir, sum(map(float, lives.read_text().split()))


def probed(model: str, seed: int, logdir: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The scores of one seed, on digits or clips that pretraining has not seen."""
    name, encoder = TASKS[model], load_encoder(logdir, "cpu")
    attentive = AttentiveConfig(depth=given.depth, epochs=given.epochs, lrs=(3e-3, 1e-2), decays=(0.01, 0.1))
    config = ProbeConfig(
        kinds=("linear", "knn") if model == "ijepa" else ("attentive", "linear"), attentive=attentive, baselines=True,
        end_to_end=FinetuneConfig(epochs=given.tuning_epochs), examples=given.examples, test_examples=given.examples,
        seed=seed,
    )  # fmt: skip
    clip = Clip(frames=encoder.frames)
    train, test, fresh = (
        open_dataset(f"generated:{kind}:{seed}", clip=clip, split=split)
        for kind, split in ((name, "train"), (name, "test"), (f"fresh_{name}", "train"))
    )
    scores = [as_document(row) for row in evaluate(encoder, train, test, config, Progress(), fresh)]
    if model == "ijepa":
        scores += plainly_probed(encoder, train, test, given.examples, seed)
    return scores


def plainly_probed(encoder: Encoder, train: Dataset, test: Dataset, examples: int, seed: int) -> list[dict[str, Any]]:
    """Linear probes with the penalty that is usual where none is chosen, 1 / examples (scikit-learn's C = 1), as the
    scores that the digits' trivial methods are known by."""
    seen = {FROZEN: pooled(encoder), RANDOM: pooled(untrained(encoder, seed)), PIXELS: lambda x: pixels(x)[..., 0]}
    known, asked = (read(part, seen, examples=examples, seed=seed) for part in (train, test))
    rows = []
    for name, features in known.features.items():
        started, decay = time.process_time(), 1 / len(known)
        scores = fit_linear(features, known.labels, known.classes, (decay,))(asked.features[name])[0]
        rows.append(Row(
            kind=PLAIN, source=name, correct=(scores.argmax(1) == asked.labels).numpy(), chosen={"decay": decay},
            seconds=time.process_time() - started, learned=len(known),
        ))  # fmt: skip
    return [as_document(row) for row in rows]


def measured(model: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One seed, from the file of an earlier call if there is one."""
    file: Path = given.runs / f"{model}-{seed}.json"
    asked = {name: getattr(given, name) for name in ("updates", "examples", "depth", "epochs", "tuning_epochs")}
    if file.exists() and (kept := json.loads(file.read_text()))["asked"] == asked:
        return dict(kept)
    logdir, cpu = pretrained(model, seed, given)
    started = time.process_time()
    scores = probed(model, seed, logdir, given)
    found = {
        "model": model, "seed": seed, "asked": asked, "pretraining_cpu_seconds": round(cpu, 1),
        "probing_cpu_seconds": round(time.process_time() - started, 1), "scores": scores,
    }  # fmt: skip
    with whole_file(file) as fresh:
        fresh.write_text(json.dumps(found, indent=2))
    return found


def summary(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each probe and what it sees, the accuracy of every seed, the mean and, of several seeds, its 95 % interval;
    so too the gains of the frozen encoder over what the same probe sees elsewhere, seed by seed."""
    values: dict[str, list[float]] = {}
    for one in found:
        scores = {(score["probe"], score["features"]): score["accuracy"] for score in one["scores"]}
        for (probe, source), accuracy in scores.items():
            values.setdefault(f"{one['model']}: {probe}, {source}", []).append(accuracy)
        for (probe, source), accuracy in scores.items():
            if source != FROZEN and (frozen := scores.get((probe, FROZEN))) is not None:
                values.setdefault(f"{one['model']}: {probe}, gain over {source}", []).append(frozen - accuracy)
    out: dict[str, dict[str, Any]] = {key: {"mean": fmean(seeds), "seeds": seeds} for key, seeds in values.items()}
    for each in out.values():
        if len(each["seeds"]) > 1:
            each["interval95"] = list(confidence_interval(each["seeds"]))
    return out


def _lines(means: dict[str, dict[str, Any]]) -> list[str]:
    width = max(map(len, means))
    return [
        f"{key:<{width}}  {one['mean']:.3f}" + "".join(f"  {end:.3f}" for end in one.get("interval95", ()))
        for key, one in means.items()
    ]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.probes", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/probes"), help="where runs and scores are kept")
    parser.add_argument("--updates", type=int, default=0, help="of pretraining; 0: those of the preset")
    parser.add_argument("--examples", type=int, default=0, help="to train and to score on, each at most; 0: all")
    parser.add_argument("--depth", type=int, default=1, help="blocks of the attentive probe")
    parser.add_argument("--epochs", type=int, default=10, help="of the attentive probe")
    parser.add_argument("--tuning-epochs", type=int, default=30, help="of the supervised encoder")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = []
    for seed in given.seeds:
        for model in given.models:
            found.append(measured(model, seed, given))
            if not given.json:
                times = [f"{found[-1][key]:g} CPU s" for key in ("pretraining_cpu_seconds", "probing_cpu_seconds")]
                print(f"{model}, seed {seed}: pretrained in {times[0]}, probed in {times[1]}")
                print("\n".join(table(found[-1]["scores"])), flush=True)
    means, first = summary(found), given.models[0]
    out = {
        "name": "probes", "value": means[f"{first}: {PROBED[first]}, frozen"]["mean"],
        "unit": f"accuracy of the {PROBED[first]} probe of {first}", "summary": means, "seeds": found,
        "device": describe(torch.device("cpu")), "versions": versions(),
    }  # fmt: skip
    if given.json:
        print(json.dumps(out))
    else:
        print("\n".join(_lines(means)), flush=True)
    return out


if __name__ == "__main__":
    main()
