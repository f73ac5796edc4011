"""`python -m tests.benchmarks.autoscale [options]`: a run that chooses the number of its env workers by itself.

A real local run of small networks, whose environments sleep for a quarter of a second in each step until it has trained
for `--slow` seconds, and for 5 ms afterwards. It begins with one worker of one environment. Prints its decisions, the
number of changes of direction (1: up, then down, without flapping), and draws what happened.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deploy.distributed.supervisor.scaling_log import FILE
from deploy.reports.figure_style import FAINT, STYLE
from deploy.reports.metrics import read_lines
from deploy.stored.control import ask
from tests.benchmarks.autoscale_world import PACE, TASK
from tests.benchmarks.fleet_run import LiveRun, machine

PICTURE = Path(__file__).parent / "pictures" / "autoscale.png"
TRAIN_RATIO = 4.0
LOOK = 0.5  # seconds between looks at the run
WINDOW = 10.0  # seconds over which the picture shows who waits
Sample = dict[str, float]


def sample(status: dict[str, Any]) -> Sample:
    """The numbers of a status that the picture shows."""
    actors, limiter = status["actors"], status["limiter"]
    acting = sum(one["version"] is not None and not one["leaving"] for one in actors["each"].values())
    waited = {side: limiter[f"{side}_waited_seconds"] for side in ("insert", "sample")}
    return {"time": status["time"], "asked": actors["target"], "acting": acting, "steps": status["steps"],
            "updates": status["updates"], **waited}  # fmt: skip


def watch(run: LiveRun, pace: Path, slow: float, quick: float) -> tuple[float, list[Sample]]:
    """Look at the run until its end; returns when it began to train, and what was seen."""
    begun = run.wait(lambda status: status.get("state") == "training", "the run to train")["time"]
    pace.write_text(str(begun + slow))
    samples: list[Sample] = []
    while time.time() < begun + slow + quick:
        if (status := run.status())["time"] > (samples[-1]["time"] if samples else 0.0):
            samples.append(sample(status))
        time.sleep(LOOK)
    return begun, samples


def summary(
    begun: float, slow: float, samples: Sequence[Sample], decisions: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What the run did, in seconds since it began to train."""
    steps = [(round(one["time"] - begun, 1), one["before"], one["after"]) for one in decisions]
    signs = [after > before for _, before, after in steps]
    most = max(one["acting"] for one in samples)
    return {
        "decisions": [{"seconds": at, "actors": [before, after], "reason": one["reason"]}
                      for (at, before, after), one in zip(steps, decisions, strict=True)],
        "reversals": sum(one != next_one for one, next_one in pairwise(signs)),
        "most": most, "last": samples[-1]["acting"],
        "seconds_to_most": next(one["time"] for one in samples if one["acting"] == most) - begun,
        "seconds_from_quick_to_last": max((at for at, *_ in steps), default=0.0) - slow,
        "updates": samples[-1]["updates"], "steps": samples[-1]["steps"],
    }  # fmt: skip


def draw(begun: float, slow: float, samples: Sequence[Sample], decisions: Sequence[dict[str, Any]], path: Path) -> None:
    """Workers, who waits, and environment steps a second, against seconds of training."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    at = [one["time"] - begun for one in samples]
    waits: dict[str, list[float]] = {"insert": [], "sample": [], "steps": []}
    for i, one in enumerate(samples):
        first = next(j for j in range(i + 1) if one["time"] - samples[j]["time"] <= WINDOW)
        before = samples[max(0, first - 1)]
        seconds = max(1e-9, one["time"] - before["time"])
        waits["insert"].append(min(1.0, (one["insert"] - before["insert"]) / seconds / max(1, one["acting"])))
        waits["sample"].append(min(1.0, (one["sample"] - before["sample"]) / seconds))
        waits["steps"].append((one["steps"] - before["steps"]) / seconds)
    with plt.rc_context(STYLE):
        figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(8, 6.6), sharex=True, height_ratios=(3, 2, 2))
        top.step(at, [one["asked"] for one in samples], where="post", color="#b9c2cc", label="asked for")
        top.step(at, [one["acting"] for one in samples], where="post", color="#2f6db3", label="acting")
        for one in decisions:
            top.annotate(
                f"{one['before']} → {one['after']}", (one["time"] - begun, one["after"]), fontsize=8,
                color=FAINT, xytext=(-5, 4), textcoords="offset points", ha="right",
            )  # fmt: skip
        top.set(ylabel="env workers", ylim=(0, 1.2 * max(one["asked"] for one in samples)))
        top.yaxis.set_major_locator(MaxNLocator(integer=True))
        middle.plot(at, waits["sample"], color="#c1603a", label="learner waits for data")
        middle.plot(at, waits["insert"], color="#2f8f6b", label="actors wait for the learner")
        middle.set(ylabel="share of the time", ylim=(0, 1.4), yticks=(0, 0.5, 1))
        bottom.plot(at, waits["steps"], color="#2f6db3")
        bottom.set(ylabel="steps a second", xlabel="seconds of training", ylim=(0, None))
        for axes in (top, middle, bottom):
            axes.axvspan(0, slow, color="#f3f1ea", zorder=0)
            axes.set_xlim(0, at[-1])
        for axes in (top, middle):
            axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=2)
        top.set_title(
            "Steps of the environment take 250 ms in the shaded time, 5 ms afterwards", loc="left", fontsize=10
        )
        figure.align_ylabels()
        figure.tight_layout()
        figure.savefig(path, dpi=120)
        plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, draw it, and print the result as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.autoscale", description=__doc__)
    parser.add_argument("--slow", type=float, default=120.0, help="seconds of training with slow steps")
    parser.add_argument("--quick", type=float, default=120.0, help="seconds with quick steps")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw it")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="nexus-autoscale-") as folder:
        pace = Path(folder) / "pace"
        settings = [
            "--actors", "auto", "--actor.actors", "1", "--actor.environments", "1", "--actor.random-steps", "0",
            "--actor.flush-steps", "4", "--actor.isolation", "none", "--learner.train-ratio", str(TRAIN_RATIO),
            "--actor.autoscale.most", "16", "--actor.autoscale.patience", "12", "--actor.autoscale.cooldown", "4",
            "--actor.autoscale.free-cpus", "0",
        ]  # fmt: skip
        with LiveRun(Path(folder), TASK, *settings, variables={PACE: str(pace)}) as run:
            begun, samples = watch(run, pace, options.slow, options.quick)
            found = machine()
            ask(run.logdir, {"stop": True})
            run.process.wait(120)
            decisions = list(read_lines(log, before=int, after=int)) if (log := run.logdir / FILE).exists() else []
    draw(begun, options.slow, samples, decisions, options.picture)
    result = summary(begun, options.slow, samples, decisions)
    result = {"name": "autoscale", "value": result["reversals"], "unit": "changes of direction", "slow": options.slow,
              "quick": options.quick, "train_ratio": TRAIN_RATIO, **result, **found}  # fmt: skip
    if not options.json:
        for one in result["decisions"]:
            print(f"{one['seconds']:>7.1f} s  {one['actors'][0]} -> {one['actors'][1]}: {one['reason']}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
