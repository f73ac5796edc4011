"""A thorough check of an environment against the contract, before a run; `faults` has the cheap checks of each step."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from actors.environment import CannotDrawError, Environment, Step, require_names
from actors.episode_metrics import EpisodeMetrics
from actors.faults import BrokenEnvironmentError, raised, require_array, require_keys, require_reward, with_slack
from actors.trivial_policies import RandomPolicy
from replay.counted import counted
from world_models.space import Space, Spaces

REPEATED = 50  # steps of an episode that are run twice
LARGE = 1000  # numbers in one observation


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem. An `error` breaks or degrades training, a `warning` is worth knowing."""

    severity: Literal["error", "warning"]
    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what.rstrip('.')}. {self.remedy}"


def check_environment(environment: Environment, steps: int = 1000, seed: int = 0) -> list[Finding]:
    """Run `steps` steps and return all problems found; an empty list means that the environment is fine.

    Actions are the corners of the action space first, then random. Checks names, dtypes, shapes, bounds, rewards, the
    end of episodes, steps after it, metrics in info, repeatability under a seed, and rendering. Make the environment
    with `check_steps=True`: only its adapter sees the raw values.
    """
    findings: list[Finding] = []
    for check in (_check_names, _check_episodes, _check_repeatable, _check_drawing):
        try:
            findings += check(environment, steps, seed)
        except Exception as error:  # whatever a third-party environment raises is a finding
            fault = error if isinstance(error, BrokenEnvironmentError) else raised(error)
            findings.append(Finding(severity="error", what=fault.what, where=fault.where, remedy=fault.remedy))
        if any(finding.severity == "error" for finding in findings):
            break  # later checks would fail for the same reason
    return findings


def _check_names(environment: Environment, steps: int, seed: int) -> Iterator[Finding]:
    require_names(environment.observation_space, environment.action_space, "the environment")
    for where, spaces in (("observation", environment.observation_space), ("action", environment.action_space)):
        if not spaces:
            yield Finding(
                severity="error", what="no keys", where=f"the {where} space", remedy="An agent needs at least one."
            )
    for key, space in environment.observation_space.items():
        if len(space.shape) > 2 and not space.is_image and space.width > LARGE:
            yield Finding(
                severity="warning",
                what=f"treated as a vector of {space.width:,} numbers, not as an image",
                where=f"observation {key!r}",
                remedy="An image is a uint8 Box of shape [rows, columns, channels] with at most 16 channels, or "
                "[channels, rows, columns] with 1, 3 or 4.",
            )


def _check_episodes(environment: Environment, steps: int, seed: int) -> Iterator[Finding]:
    actions = _actions(environment.action_space, seed)
    step, episodes, taken, metrics = _reset(environment, seed), 0, 0, EpisodeMetrics()
    goes_on = getattr(_innermost(environment), "terminal_goes_on", False)
    while taken < steps:
        action = next(actions)
        metrics.add(0, step.infos)
        if step.is_last:
            metrics.end(0)
            if not episodes:
                yield from _check_after_end(environment, action)
            episodes += 1
            step, taken = _reset(environment, seed + episodes), taken + 1
            continue
        before = {key: value.copy() for key, value in step.observation.items()}
        previous, step = step, environment.step(action)
        taken += 1
        where = f"step {taken} of the check"
        _require_step(environment, step, where)
        if step.is_terminal and not step.is_last and not goes_on:
            yield Finding(
                severity="error",
                what="is_terminal without is_last",
                where=where,
                remedy="A termination ends the episode: set both.",
            )
            return
        for key, value in before.items():
            if not np.array_equal(previous.observation[key], value):
                yield Finding(
                    severity="error",
                    what="the array returned earlier was overwritten",
                    where=f"{where}, observation {key!r}",
                    remedy="Return a new array at every step.",
                )
                return
    for note in metrics.notes():
        yield Finding(severity="warning", what=note, where="metrics", remedy="Correct it if you need it.")
    if not episodes and not step.is_last:
        yield Finding(
            severity="warning",
            what=f"no episode ended in {counted(steps, 'random step')}, so episode ends could not be checked",
            where="the whole check",
            remedy="Check more steps, or set a time limit if episodes never end.",
        )


def _check_after_end(environment: Environment, action: dict[str, np.ndarray]) -> Iterator[Finding]:
    try:
        environment.step(action)
    except ValueError:
        pass
    else:
        yield _accepted("accepted by the environment", "Raise ValueError until reset(seed) is called.")
        return
    inner = _innermost(environment)
    if not (probe := getattr(inner, "probe_step_after_end", None)):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            step: Step = probe({key: _resting(space) for key, space in inner.action_space.items()})
        except BrokenEnvironmentError as error:
            yield Finding(
                severity="warning", what=error.what, where=f"after the end, {error.where}", remedy=error.remedy
            )
            return
        except Exception:
            return  # refused, as it should be
    if not step.is_last:
        yield _accepted(
            "accepted, and the episode went on: terminated and truncated were both False again",
            "Return terminated=True (or truncated=True) at every step until reset(), or raise an error.",
        )


def _innermost(environment: Any) -> Any:
    """The environment within all wrappers."""
    while hasattr(environment, "inner"):
        environment = environment.inner
    return environment


def _accepted(how: str, remedy: str) -> Finding:
    return Finding(
        severity="error",
        what=f"a step after the end was {how}",
        where="step() after the end of an episode",
        remedy=remedy,
    )


def _check_repeatable(environment: Environment, steps: int, seed: int) -> Iterator[Finding]:
    def play() -> list[Step]:
        actions, played = _actions(environment.action_space, seed), [environment.reset(seed)]
        while len(played) <= min(steps, REPEATED) and not played[-1].is_last:
            played.append(environment.step(next(actions)))
        return played

    for t, (one, two) in enumerate(zip(play(), play(), strict=False)):
        differences = [
            repr(key) for key in one.observation if not np.array_equal(one.observation[key], two.observation[key])
        ]
        differences += [
            name for name in ("reward", "is_last", "is_terminal") if getattr(one, name) != getattr(two, name)
        ]
        if differing := ", ".join(differences):
            yield Finding(
                severity="error",
                what=f"not repeatable: two episodes with seed {seed} and equal actions differ: {differing}",
                where="reset()" if t == 0 else f"step {t} after reset()",
                remedy="Draw every random number from the generator that reset(seed=seed) seeds (self.np_random in "
                "Gymnasium, after super().reset(seed=seed)); otherwise an open episode cannot be continued exactly.",
            )
            return


def _check_drawing(environment: Environment, steps: int, seed: int) -> Iterator[Finding]:
    environment.reset(seed)
    try:
        frame = environment.render()
    except CannotDrawError as error:
        yield Finding(severity="warning", what=f"no video: {error}", where="render()", remedy="Training needs none.")
        return
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
        yield Finding(
            severity="error",
            what=f"wrong image: {frame.dtype.name} of shape {frame.shape}",
            where="render()",
            remedy="Return uint8 [H W 3].",
        )


def _reset(environment: Environment, seed: int) -> Step:
    step = environment.reset(seed)
    _require_step(environment, step, f"reset({seed})")
    if step.is_last:
        raise BrokenEnvironmentError("the episode is already over", f"reset({seed})", "Begin with is_last=False.")
    return step


def _require_step(environment: Environment, step: Step, where: str) -> None:
    require_keys(step.observation, f"{where}, observation", environment.observation_space)
    for key, space in environment.observation_space.items():
        low, high = (0, space.classes - 1) if space.discrete else (space.low, space.high)
        bounds: tuple[Any, Any] = (None, None)
        if not space.is_image and space.dtype != np.bool_:
            bounds = with_slack(np.asarray(low, np.float64), np.asarray(high, np.float64))
        value: Any = step.observation[key]
        require_array(value, f"{where}, observation {key!r}", space.dtype, space.shape, *bounds)
    require_reward(step.reward, f"{where}, reward")


def _actions(spaces: Spaces, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """The corners and the centre of the space, then random actions."""
    for corner in (-1, 1, 0):
        yield {key: _corner(space, corner) for key, space in spaces.items()}
    policy, draw = RandomPolicy(spaces, seed), 0
    while True:
        _, actions, _ = policy.act(None, {}, np.zeros(1, bool), draw)
        yield {key: value[0] for key, value in actions.items()}
        draw += 1


def _corner(space: Space, corner: int) -> np.ndarray:
    if space.discrete:
        return np.full(space.shape, (space.classes - 1) * (corner + 1) // 2, np.int32)
    return np.full(space.shape, corner, np.float32)


def _resting(space: Space) -> np.ndarray:
    if space.discrete:
        return np.zeros(space.shape, space.dtype)
    return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high).astype(space.dtype)
