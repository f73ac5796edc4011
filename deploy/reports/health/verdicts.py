"""What a report says about the world model: the one place that holds thresholds' meaning and sentences. Torch-free.

Every value is a ratio without units, so that it means the same for any task, observation and reward scale; rewards
too small to move the policy, of which `SMALL` tells, are measured against that size instead.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deploy.wiring.config import HealthConfig
from replay.counted import counted

State = Literal["healthy", "watch", "unhealthy", "unknown"]
Report = Mapping[str, Any]
"""The content of one `health/report-*.json`."""
WATCH = 0.7
"""Share of a threshold from which a value is one to watch."""
CERTAIN = 3.0
"""Standard errors by which imagined must exceed real returns."""
FEWEST_EPISODES = 5
"""Episodes below which a gap between returns is at most one to watch: the states of one episode have much in common,
and a standard error that counts them one by one is too small."""
SMALL = 1.0
"""The size of full discounted returns below which DreamerV3 does not scale them up (Hafner et al. 2025, eq. 12):
smaller ones hardly move its policy. A constant reward r has the full return r / (1 - discount)."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the newest report says about one part."""

    name: str
    """The part of the report."""
    title: str
    """The pitfall that it guards against."""
    state: State
    value: float | None
    """What is compared with the threshold."""
    threshold: float
    text: str
    """One sentence with the numbers."""
    healthy: str
    """One sentence that says what is healthy."""
    remedy: str
    """One sentence with the settings to try."""


@dataclass(frozen=True, kw_only=True)
class _Finding:
    value: float
    text: str
    watch: bool
    unhealthy: bool = False


@dataclass(frozen=True, kw_only=True)
class _Pitfall:
    title: str
    threshold: Callable[[HealthConfig], float]
    judge: Callable[[Report, HealthConfig], _Finding | str]
    """A string says why the part cannot be judged."""
    healthy: str
    remedy: str


def verdicts(reports: Sequence[Report], rules: HealthConfig) -> list[Verdict]:
    """Verdicts on the newest of `reports` (oldest first; the earlier ones show what lasts).

    A part is `unhealthy` once it is beyond its threshold in `rules.patience` reports in a row, until it is clearly
    within it (not even to watch) in as many. It is `unknown` if it was not measured, its rule is off, or before the
    warm-up. Reports may come from other versions or be damaged.
    """
    return [_verdict(name, pitfall, reports, rules) for name, pitfall in PITFALLS.items()]


def unhealthy(found: Sequence[Verdict]) -> list[Verdict]:
    """Those that somebody should look at."""
    return [one for one in found if one.state == "unhealthy"]


def _verdict(name: str, pitfall: _Pitfall, reports: Sequence[Report], rules: HealthConfig) -> Verdict:
    every = [_judged(name, pitfall, report, rules) for report in reports]
    found = every[-1] if every else "There is no report yet."
    state: State = "unknown"
    text, value = str(found), None
    if isinstance(found, _Finding):
        state = "watch" if found.watch else "healthy"
        text, value = found.text, found.value
        if _lasts(every, rules.patience):
            state = "unhealthy"
            if not found.unhealthy:
                text += f" It was unhealthy, and is so until it is well within the threshold {rules.patience} times."
    return Verdict(
        name=name, title=pitfall.title, state=state, value=value, threshold=pitfall.threshold(rules), text=text,
        healthy=pitfall.healthy, remedy=pitfall.remedy,
    )  # fmt: skip


def _lasts(every: Sequence[_Finding | str], patience: int) -> bool:
    """Whether a part has become unhealthy and not healthy since."""
    lasts, over, within = False, 0, 0
    for found in every:
        over = over + 1 if isinstance(found, _Finding) and found.unhealthy else 0
        within = within + 1 if isinstance(found, _Finding) and not found.watch and not found.unhealthy else 0
        lasts = over >= patience or (lasts and within < patience)
    return lasts


def _judged(name: str, pitfall: _Pitfall, report: Report, rules: HealthConfig) -> _Finding | str:
    if not pitfall.threshold(rules):
        return f"The rule is off: health.{FIELDS[name]}=0."
    if report.get(name) is None:
        missing = report.get("missing")
        return str((missing if isinstance(missing, Mapping) else {}).get(name, "It was not measured."))
    try:
        updates, start = int(report["updates"]), rules.warmups * float(report["warmup"])
        if updates < start:
            return f"Not judged before update {math.ceil(start):,}; this is update {updates:,}."
        found = pitfall.judge(report, rules)
        if isinstance(found, _Finding) and not math.isfinite(found.value):
            return "The measured numbers are not finite."
        return found
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return f"The report cannot be read ({type(error).__name__}: {error})."


def gained(curve: Mapping[str, Any]) -> float | None:
    """What the error of predictions gains over the horizon, relative to the error of repeating the last observation:
    both as means of the last third of the horizon. None if the reconstruction alone is worse than repeating, or nothing
    changes."""
    steps = [pair for pair in zip(curve["gained"], curve["still"], strict=True) if None not in pair]
    last = steps[-max(1, len(steps) // 3) :]
    if not last:
        return None
    gain, still = (sum(values) / len(last) for values in zip(*last, strict=True))
    return gain / still if still > float(curve["start"]) else None


def _horizon(report: Report, rules: HealthConfig) -> _Finding | str:
    curves = report["horizon"]["keys"]
    keys = {key: gained(curve) for key, curve in curves.items() if key != "reward"}
    known = {key: value for key, value in keys.items() if value is not None}
    state = report["horizon"].get("state")
    ignores = state is not None and state < rules.sensitivity
    if ignores:
        text = (
            f"From the state of another window, predictions have {state:.2f} times the error: they hardly follow from "
            "where they begin."
        )
        return _Finding(value=1.0, text=text, watch=True, unhealthy=True)
    if not known:
        return (
            "Repeating the last observation is closer than the model's reconstruction of it: little changes within the "
            "horizon, or what changes is not reconstructed yet."
        )
    key, worst = max(known.items(), key=lambda item: item[1])
    elements = {key: float(curves[key].get("elements", 1)) for key in known}  # what each counts in the model's loss
    value = sum(elements[key] * one for key, one in known.items()) / sum(elements.values())
    steps = max(len(curve["model"]) for curve in curves.values())
    at = "" if len(keys) == 1 else f"; {key} has {worst:.2f}"
    text = f"Up to step {steps}, predictions gain {value:.2f} times the error of repeating the last observation{at}."
    return _Finding(
        value=value, text=text, watch=value > WATCH * rules.compounding, unhealthy=value > rules.compounding
    )


def _memory(report: Report, rules: HealthConfig) -> _Finding | str:
    part = report["memory"]
    ratio = float(part["ratio"])
    helps = ratio >= rules.memory
    forecast = None if report.get("horizon") is None else _horizon(report, rules)
    poor = isinstance(forecast, _Finding) and forecast.watch
    text = (
        f"With the last observation alone, the error {part['steps']} steps ahead is {ratio:.2f} times that with history"
    )
    if helps:
        text += ": the model uses what it remembers."
    elif poor:
        text += ", and predictions are poor: what is hidden is not remembered, or it is random."
    else:
        text += ", and predictions are good: one observation shows enough."
    return _Finding(value=ratio, text=text, watch=not helps and poor)


def size(values: Sequence[float]) -> float:
    """The size of rewards or returns: their standard deviation plus half their absolute mean. The second term counts
    where all are equal."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) + abs(mean) / 2


def _returns(report: Report, rules: HealthConfig) -> _Finding | str:
    part = report["returns"]
    imagined, real = [float(x) for x in part["imagined"]], [float(x) for x in part["real"]]
    excess = [a - b for a, b in zip(imagined, real, strict=True)]
    gap, count = sum(excess) / len(excess), len(excess)
    error = math.sqrt(sum((one - gap) ** 2 for one in excess) / max(1, count - 1) / count)
    smallest = SMALL * int(part["horizon"]) * (1 - float(part["discount"]))
    # Where rewards are rare, none of these episodes may have met one: less than one of them is no great hope.
    value = gap / max(smallest, _largest_reward(report), size(real))
    text = (
        f"Over {part['horizon']} steps the policy imagines a return of {sum(imagined) / count:.4g} and got "
        f"{sum(real) / count:.4g} from the same {count} states of {counted(int(part['episodes']), 'episode')}: "
        f"{value:+.2f} of the size of returns."
    )
    certain = gap > CERTAIN * error
    # Pessimism misleads nobody into a wrong action as optimism does, but is worth a look.
    watch = (value > WATCH * rules.optimism and certain) or value < -2 * rules.optimism
    over = value > rules.optimism and certain and int(part["episodes"]) >= FEWEST_EPISODES
    return _Finding(value=value, text=text, watch=watch, unhealthy=over)


def _largest_reward(report: Report) -> float:
    """The largest absolute reward that the model has learned from; 0 in reports of earlier versions."""
    return float(report.get("largest_reward", 0.0))


def _reward(report: Report, rules: HealthConfig) -> _Finding | str:
    part = report["reward"]
    scale = float(part["deviation"]) + abs(float(part["mean"])) / 2
    returns = report.get("returns") or part
    smallest = SMALL * (1 - float(returns["discount"]))
    if "horizon" in returns:  # one reward in as many steps as are imagined
        smallest = max(smallest, _largest_reward(report) / int(returns["horizon"]))
    value = float(part["error"]) / max(smallest, scale)
    text = (
        f"At each level of predicted reward, the mean reward is off by {float(part['error']):.3g} on average: "
        f"{value:.2f} of the size of rewards."
    )
    over = value > rules.calibration
    return _Finding(value=value, text=text, watch=value > WATCH * rules.calibration, unhealthy=over)


def _forgetting(report: Report, rules: HealthConfig) -> _Finding | str:
    part = report["forgetting"]
    ratio, rise, risen = float(part["ratio"]), part.get("rise"), math.sqrt(rules.forgetting)
    text = f"The loss on the oldest tenth of replay is {ratio:.2f} times that on the newest"
    if rise is None:
        return _Finding(value=ratio, text=f"{text}; the next reports show whether it rises.", watch=False)
    text += f", and on the same old windows it is {float(rise):.2f} times its lowest so far"
    text += f" ({float(apart):.2f} times relative to the newest)." if (apart := part.get("apart")) else "."
    # Old data may be harder than new at all times, as random play is; forgotten is what the model once knew better,
    # and what has become worse than the rest: a model that is worse at everything for a while forgets nothing.
    lost = min(rise, apart or rise)
    watch = ratio > WATCH * rules.forgetting and lost > 1 + WATCH * (risen - 1)
    return _Finding(value=ratio, text=text, watch=watch, unhealthy=ratio > rules.forgetting and lost > risen)


def _actions(report: Report, rules: HealthConfig) -> _Finding | str:
    ratio = float(report["actions"]["ratio"])
    text = f"With the actions of other sequences, predictions have {ratio:.2f} times the error."
    return _Finding(value=ratio, text=text, watch=ratio < rules.sensitivity)


def _cost(report: Report, rules: HealthConfig) -> _Finding | str:
    part = report["cost"]
    share, seconds = float(part["share"]), float(part["seconds"])
    text = (
        f"{float(part['updates_per_frame']):.3g} updates a frame, one every {float(part['seconds_per_update']):.2g} s; "
        f"this report took {seconds:.2g} s, {share:.1%} of the time since the one before."
    )
    return _Finding(value=share, text=text, watch=share > rules.cost)


FIELDS = {
    "horizon": "compounding", "memory": "memory", "returns": "optimism", "reward": "calibration",
    "forgetting": "forgetting", "actions": "sensitivity", "cost": "cost",
}  # fmt: skip
"""The field of HealthConfig that holds a part's threshold."""

PITFALLS = {
    "horizon": _Pitfall(
        title="compounding error",
        threshold=lambda rules: rules.compounding,
        judge=_horizon,
        healthy="The error of predictions grows more slowly than the world changes: it gains far less than "
        "repeating the last observation is wrong by.",
        remedy="Raise learner.batch_length, so that the model learns over more steps, or the size of the model "
        "(--size), or lower model.imagination_length; a task that is random by itself has this error too.",
    ),
    "memory": _Pitfall(
        title="partial observability",
        threshold=lambda rules: rules.memory,
        judge=_memory,
        healthy="Predictions are better with the observed history than from one observation, or one observation "
        "is enough for good ones.",
        remedy="Raise learner.batch_length beyond the time for which something stays hidden, or model.rssm.deter; or "
        "show more in the observation.",
    ),
    "returns": _Pitfall(
        title="reward exploitation",
        threshold=lambda rules: rules.optimism,
        judge=_returns,
        healthy="What the policy imagines to gain is what the environment gives from the same states.",
        remedy="Lower model.imagination_length, or raise learner.train_ratio, so that the model learns sooner where "
        "the policy goes; raise model.loss_scales.reward if the reward head is wrong as well.",
    ),
    "reward": _Pitfall(
        title="reward exploitation",
        threshold=lambda rules: rules.calibration,
        judge=_reward,
        healthy="Among states with the same predicted reward, the mean of real rewards is that prediction.",
        remedy="Check that the environment's reward depends on what is observed; raise model.loss_scales.reward or the "
        "size of the model (--size).",
    ),
    "forgetting": _Pitfall(
        title="forgetting",
        threshold=lambda rules: rules.forgetting,
        judge=_forgetting,
        healthy="The loss on the oldest tenth of replay does not rise while that on the newest falls.",
        remedy="Sample more of replay uniformly (lower replay.selection.recency), or raise replay.capacity or the size "
        "of the model (--size).",
    ),
    "actions": _Pitfall(
        title="action sensitivity",
        threshold=lambda rules: rules.sensitivity,
        judge=_actions,
        healthy="Predictions are clearly worse with the actions of other sequences.",
        remedy="Raise actor.random_steps or model.entropy, so that replay shows what different actions do; where "
        "actions hardly change what is seen, nothing is wrong.",
    ),
    "cost": _Pitfall(
        title="cost",
        threshold=lambda rules: rules.cost,
        judge=_cost,
        healthy="Reports take a small share of the time, and updates are as many as the task needs.",
        remedy="Raise report_every if reports take long; lower learner.train_ratio or --size if updates do.",
    ),
}  # fmt: skip
"""By part of the report."""
