"""Measures the world model's health on replay: what `health/report-*.json` holds.

Legend: B windows, T steps, C context steps, H steps of the horizon.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.batch import DeviceBatch, to_device
from learner.health.windows import Ages, Windows
from learner.learner import Learner
from learner.sequence import CONTEXT
from world_models.dreamer.draws import Draws, draw_actions, mix_seed
from world_models.dreamer.imagination import imagine
from world_models.dreamer.open_loop import REWARD, OpenLoop, open_loop
from world_models.dreamer.rssm import State
from world_models.layers import concat_dict
from world_models.space import Space

OBSERVED = 16
"""Context steps C that the model observes before it predicts or imagines."""
WINDOWS = 32
"""Windows of each kind."""
WINDOWS_OF_IMAGES = 16
STARTS = 64
"""States from which returns are compared."""
FEWEST_STARTS = 16
FEWEST = 4
"""Windows that must reach a step of the horizon for its error to be told."""
FEWEST_AGAIN = 8
"""Old windows that must still be stored for their loss to be compared with what it was."""
NEAR = 5
"""Steps ahead at which history is compared with a single observation."""
BINS = 10
TENTH = 0.1
NONE: tuple[dict[tuple[int, int], float], float] = ({}, 0.0)
UNITS = {"image": "mean absolute error of pixels in [0, 1]", "symlog": "mean absolute error in symlog space",
         "class": "share of wrong classes", "plain": "mean absolute error"}  # fmt: skip


class Health:
    """Measures of one moment; no state of learner, model, replay or random streams changes.

    Windows and randomness depend only on the replay content, the run's seed, the update count and the run's `earlier`
    reports (oldest first).
    """

    def __init__(self, learner: Learner, earlier: Sequence[Mapping[str, Any]] = ()):
        self.learner, self.agent, self.device = learner, learner.agent, learner.step.device
        self.horizon = self.agent.config.imagination_length
        self.rng = np.random.default_rng([learner.seed, 3, learner.updates])  # 1: training batches, 2: open loop
        seed = mix_seed(mix_seed(learner.seed, learner.updates), 3)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        images = any(space.is_image for space in self.agent.observation_space.values())
        self.windows = WINDOWS_OF_IMAGES if images else WINDOWS
        length = CONTEXT + OBSERVED + self.horizon
        self.ages = Ages(learner.store, length, _ends(earlier[-1]) if earlier else ())
        self.known, self.beside = next((found for one in reversed(earlier) if (found := _known(one, length))[0]), NONE)
        """The loss on old windows when it was at its lowest, by stream and first step, and that on the newest tenth of
        replay then."""

    @torch.no_grad()
    def report(self, on_policy: bool) -> dict[str, Any]:
        """All parts; null and a reason under `missing` for those that cannot be measured. `on_policy`: the newest of
        replay was played by recent versions of this policy."""
        parts: dict[str, Any] = dict.fromkeys(("horizon", "memory", "returns", "reward", "forgetting", "actions"))
        length, stored = self.ages.length, len(self.ages)
        missing: dict[str, str] = {}
        if TENTH * stored < length:
            short = (
                f"Replay has {stored:,} windows of {length} steps; at least {math.ceil(length / TENTH):,} are needed."
            )
            missing = dict.fromkeys(parts, short)
        else:
            parts |= self._forecasts(missing) | self._losses(missing)
            if on_policy:
                parts["returns"] = self._returns(missing)
            else:
                missing["returns"] = "Replay was played by other policies, whose returns say nothing about this one's."
        out: dict[str, Any] = {"updates": self.learner.updates, "warmup": self.learner.config.optimizer.warmup}
        out["largest_reward"] = self.learner.largest_reward
        return out | finite(parts) | {"missing": missing, "ends": [list(end) for end in self.ages.ends]}

    def _batch(self, windows: Windows) -> DeviceBatch:
        agent = self.agent
        return to_device(
            windows.rows, agent.observation_space, agent.action_space, agent.config.rssm.classes, self.device
        )

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, self.agent.config.rssm.stoch, generator=self.generator, device=self.device)

    def _filtered(self, batch: DeviceBatch, draw: Tensor, steps: int) -> State:
        """The state after the first `steps` of a batch."""
        agent = self.agent
        tokens = agent.encoder({key: batch.steps[key][:, :steps] for key in agent.observation_space})
        action = concat_dict(agent.action_space, batch.previous_action)[:, :steps]
        first = batch.steps["is_first"][:, :steps]
        seen = agent.rssm.observe(batch.start, tokens, action, first, draw[:, :steps])
        return State(seen.deter[:, -1], seen.stoch[:, -1])

    def _forecasts(self, missing: dict[str, str]) -> dict[str, Any]:
        """Parts `horizon`, `memory` and `actions`, on windows from the whole of replay."""
        windows = self.ages.draw(self.windows, 0.0, 1.0, self.rng)
        if windows is None:
            return _all_missing(missing, "horizon", "memory", "actions")
        batch = self._batch(windows)
        draw = self._uniform(*batch.steps["is_first"].shape)
        before = self._filtered(batch, draw, OBSERVED - 1)
        last = slice(OBSERVED - 1, None)  # from the last observed step on

        def forecast(action: dict[str, Tensor], first: Tensor) -> OpenLoop:
            steps = {key: value[:, last] for key, value in batch.steps.items()} | {"is_first": first}
            return open_loop(self.agent, steps, before, action, 1, draw[:, last])

        action = {key: value[:, last] for key, value in batch.previous_action.items()}
        others = {key: torch.cat([value[:, :1], value.roll(1, 0)[:, 1:]], 1) for key, value in action.items()}
        first = batch.steps["is_first"][:, last]
        forgets = first.clone()
        forgets[:, 0] = True
        true, shuffled, alone = forecast(action, first), forecast(others, first), forecast(action, forgets)
        strange = open_loop(  # from the last observed step of the window before
            self.agent, _begun_by_others({key: value[:, last] for key, value in batch.steps.items()}),
            State(*(value.roll(1, 0) for value in before)), _begun_by_others(action), 1, draw[:, last],
        )  # fmt: skip
        keys = {key: self._curve(true, key) for key in true.error}
        errors = {name: self._relative(out, self.horizon) for name, out in (("true", true), ("shuffled", shuffled))}
        near = min(NEAR, self.horizon)
        seen, blind = self._relative(true, near), self._relative(alone, near)
        parts: dict[str, Any] = {
            "horizon": {"context": OBSERVED, "keys": keys, "state": self._state_counts(true, strange)}
        }
        same = "Nothing in replay changes within the horizon, or all of it is predicted without error."
        if why := _incomparable(errors["shuffled"], errors["true"], same):
            missing["actions"] = why
        else:
            parts["actions"] = errors | {"ratio": errors["shuffled"] / errors["true"]}
        if why := _incomparable(blind, seen, same):
            missing["memory"] = why
        else:
            parts["memory"] = {"steps": near, "with": seen, "without": blind, "ratio": blind / seen}
        return parts

    def _curve(self, out: OpenLoop, key: str) -> dict[str, Any]:
        space, symlog = self.agent.observation_space.get(key), self.agent.config.decoder.symlog
        valid = out.valid[:, 1:]
        count = valid.sum(0)
        mean = [(part[key][:, 1:] * valid).sum(0) / count for part in (out.error, out.still)]
        model, still = (torch.where(count < FEWEST, torch.nan, one) for one in mean)
        start = out.error[key][:, 0].mean()
        return {
            "model": model.tolist(), "still": still.tolist(), "start": float(start), "unit": _unit(space, symlog),
            "gained": self._gained(key, model, start).tolist(), "elements": self._elements(key),
        }  # fmt: skip

    def _state_counts(self, true: OpenLoop, strange: OpenLoop) -> float | None:
        """Error of predictions from the state of another window over that from their own; None if the windows differ no
        more than the reconstruction is wrong by."""
        valid, errors = true.valid[:, 1:], []
        for key in self.agent.observation_space:
            parts = (true.error[key], strange.error[key], strange.still[key])
            own, other, apart = (float(one[:, 1:][valid].double().sum()) for one in parts)
            if apart > float(true.error[key][:, 0].mean()) * int(valid.sum()):
                errors.append((own / apart, other / apart))
        own, other = (sum(each) for each in zip(*errors, strict=True)) if errors else (0.0, 0.0)
        return other / own if own > 0 else None

    def _elements(self, key: str) -> int:
        space = self.agent.observation_space.get(key)
        return math.prod(space.shape) if space else 1

    def _gained(self, key: str, model: Tensor, start: Tensor) -> Tensor:
        """What prediction adds to the error of the reconstruction it starts from. Independent errors of a number add in
        squares; wrong pixels and classes are in different places for each reason, and add plainly."""
        space = self.agent.observation_space.get(key)
        if space is not None and (space.is_image or space.discrete):
            return (model - start).clamp_min(0)
        return (model.square() - start.square()).clamp_min(0).sqrt()

    def _relative(self, out: OpenLoop, steps: int) -> float:
        """Error of the first `steps` predicted steps over that of repeating the last observation, mean over the keys
        that change; 0 if none does."""
        ahead = slice(1, 1 + steps)
        valid = out.valid[:, ahead]
        ratios = []
        for key in self.agent.observation_space:
            error, still = (float(part[key][:, ahead][valid].double().sum()) for part in (out.error, out.still))
            if still > 0:
                ratios.append(error / still)
        return sum(ratios) / len(ratios) if ratios else 0.0

    def _losses(self, missing: dict[str, str]) -> dict[str, Any]:
        """Parts `forgetting` and `reward`, on windows from the oldest and the newest tenth of replay."""
        old = self.ages.draw(self.windows, 0.0, TENTH, self.rng)
        new = self.ages.draw(self.windows, 1 - TENTH, 1.0, self.rng)
        if old is None or new is None:
            return _all_missing(missing, "forgetting", "reward")
        windows = Windows(*({key: np.concatenate([old.rows[key], new.rows[key]]) for key in old.rows},
                            np.concatenate([old.keys, new.keys])))  # fmt: skip
        total, losses, predicted, actual = self._loss(windows)
        oldest, newest = (float(part.mean()) for part in total.split(self.windows))
        by_loss = {
            key: {"oldest": float(loss[: self.windows].mean()), "newest": float(loss[self.windows :].mean())}
            for key, loss in losses.items()
        }
        parts: dict[str, Any] = {
            "reward": calibration(predicted.flatten().double().cpu().numpy(), actual.flatten().double().cpu().numpy())
            | {"discount": self.discount}
        }
        if why := _incomparable(oldest, newest, "The model has no loss on the newest tenth of replay."):
            missing["forgetting"] = why
        else:
            loss = total[: self.windows].mean(1).tolist()
            parts["forgetting"] = {"oldest": oldest, "newest": newest, "ratio": oldest / newest, "by_loss": by_loss}
            parts["forgetting"] |= self._rise(dict(zip(map(tuple, old.keys.tolist()), loss, strict=True)), newest)
        return parts

    def _loss(self, windows: Windows) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """The model's loss and its parts, predicted and actual rewards `[n T]`."""
        batch, agent = self._batch(windows), self.agent
        draws = Draws(self._uniform(*batch.steps["is_first"].shape), torch.empty(0), {})
        losses, _, _, values = agent.world_model_losses(batch.steps, batch.start, batch.previous_action, draws)
        scales, free = agent.config.loss_scales, agent.config.rssm.free_nats
        # Without what no model can go below, which would hide how the rest changes.
        total = agent.model_loss(losses) - (scales.dynamics + scales.representation) * free
        return total, losses, values["replay_reward"].pred(), batch.steps[REWARD]

    def _rise(self, fresh: dict[tuple[int, int], float], newest: float) -> dict[str, Any]:
        """`rise`: the loss on the windows of an earlier report over its lowest; `apart`: the same over how the loss on
        the `newest` tenth has changed since; and `again`, which is what the next report compares. It is begun anew with
        `fresh` windows, without a rise, once few of the earlier are left."""
        rise, apart, lowest, known, beside = None, None, fresh, self.known, newest
        found = self.ages.again(known) if len(known) >= FEWEST_AGAIN else None
        if found is not None and len(found) >= FEWEST_AGAIN:
            keys = [(stream, first) for stream, first in found.keys.tolist()]
            now = dict(zip(keys, self._loss(found)[0].mean(1).tolist(), strict=True))
            then = {key: known[key] for key in keys}
            if (least := sum(then.values())) > 0:
                rise = sum(now.values()) / least
                apart = rise * self.beside / newest if self.beside else None
                lowest, beside = (now, newest) if rise < 1 else (then, self.beside)
        again = {
            "steps": self.ages.length, "windows": [list(key) for key in lowest], "losses": list(lowest.values()),
            "newest": beside,
        }  # fmt: skip
        return {"rise": rise, "apart": apart, "again": again}

    def _returns(self, missing: dict[str, str]) -> dict[str, Any] | None:
        """The policy from states that it was in lately: what it imagines to gain over H steps, and what it then got."""
        windows = self.ages.newest(min(STARTS, self.ages.playing // self.horizon), self.horizon, self.rng)
        if windows is None:
            missing["returns"] = "The newest steps of replay could not be read."
            return None
        real, whole = real_returns(windows.rows, CONTEXT + OBSERVED - 1, self.horizon, self.discount)
        if (count := int(whole.sum())) < FEWEST_STARTS:
            missing["returns"] = (
                f"Only {count} of the newest {len(windows)} stretches of {self.horizon} steps neither begin at an end "
                f"nor are cut by a time limit; {FEWEST_STARTS} are needed."
            )
            return None
        imagined = self._imagined(windows)[whole]
        real = real[whole]
        return {
            "horizon": self.horizon, "discount": self.discount, "imagined": imagined.tolist(), "real": real.tolist(),
            "imagined_mean": float(imagined.mean()), "real_mean": float(real.mean()),
            "episodes": episodes(windows, CONTEXT + OBSERVED - 1, whole),
        }  # fmt: skip

    @property
    def discount(self) -> float:
        return 1 - 1 / self.agent.config.horizon

    def _imagined(self, windows: Windows) -> np.ndarray:
        agent, batch = self.agent, self._batch(windows)
        rows = len(windows)
        posterior = self._uniform(rows, OBSERVED)
        start = self._filtered(batch, posterior, OBSERVED)
        chosen = draw_actions(agent.action_space, (rows, self.horizon + 1), self.generator)
        draws = Draws(posterior, self._uniform(rows, self.horizon), chosen)
        features = imagine(agent.rssm, agent.policy, start, draws).features[:, 1:]
        reward, carry_on = agent.expected_reward(features), agent.continuation(features).prob()
        live = carry_on * (1.0 if agent.config.discount_in_continue else self.discount)
        weight = torch.cat([torch.ones_like(live[:, :1]), live[:, :-1].cumprod(1)], 1)
        return (weight * reward).sum(1).double().cpu().numpy()


def _unit(space: Space | None, symlog: bool) -> str:
    if space is None:
        return UNITS["plain"]
    if space.is_image:
        return UNITS["image"]
    return UNITS["class"] if space.discrete else UNITS["symlog" if symlog else "plain"]


def _begun_by_others(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """`[B T ...]`, with the first step of the row before."""
    return {key: torch.cat([value.roll(1, 0)[:, :1], value[:, 1:]], 1) for key, value in values.items()}


def real_returns(
    rows: dict[str, np.ndarray], start: int, horizon: int, discount: float
) -> tuple[np.ndarray, np.ndarray]:
    """`sum_k discount^(k-1) r_{start+k}` for k = 1 .. horizon `[n]`, up to the end of the episode, and for which
    windows it is known: those that neither start at an end nor are cut by one that is not terminal."""
    last, terminal = rows["is_last"], rows["is_terminal"]
    ended = last[:, start : start + horizon].cumsum(1) > 0  # before step k
    cut = (last & ~terminal)[:, start + 1 : start + horizon] & ~ended[:, :-1]
    rewards = rows["reward"][:, start + 1 : start + horizon + 1].astype(np.float64)
    returns = (rewards * ~ended * discount ** np.arange(horizon)).sum(1)
    return returns, ~last[:, start] & ~cut.any(1)


def episodes(windows: Windows, start: int, chosen: np.ndarray) -> int:
    """Number of episodes that the start states of the chosen windows belong to, as far as the windows tell."""
    firsts: dict[int, set[int]] = {}
    for (stream, first), flags in zip(windows.keys.tolist(), windows.rows["is_first"][:, 1:], strict=True):
        firsts.setdefault(stream, set()).update((first + 1 + np.flatnonzero(flags)).tolist())
    found = set()
    for stream, first in windows.keys[chosen].tolist():
        found.add((stream, max((one for one in firsts[stream] if one <= first + start), default=-1)))
    return len(found)


def calibration(predicted: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
    """Mean predicted and actual reward of `BINS` equally large groups, ordered by prediction; `error` is the mean
    difference, weighted by their counts."""
    groups = [group for group in np.array_split(np.argsort(predicted, kind="stable"), BINS) if len(group)]
    bins = [
        {"predicted": float(predicted[group].mean()), "actual": float(actual[group].mean()), "count": len(group)}
        for group in groups
    ]
    error = sum(abs(one["predicted"] - one["actual"]) * one["count"] for one in bins) / len(predicted)
    return {"bins": bins, "error": error, "mean": float(actual.mean()), "deviation": float(actual.std())}


def _ends(report: Mapping[str, Any]) -> set[tuple[int, int]]:
    """Where every environment was at a report; empty for those of earlier versions."""
    with suppress(LookupError, TypeError, ValueError):
        return {(int(stream), int(stop)) for stream, stop in report["ends"]}
    return set()


def _known(report: Mapping[str, Any], length: int) -> tuple[dict[tuple[int, int], float], float]:
    """`again` of a report whose windows have `length` steps; 0 for the newest tenth in those of earlier versions."""
    with suppress(LookupError, TypeError, ValueError):
        again = report["forgetting"]["again"]
        if again["steps"] == length:
            pairs = zip(again["windows"], again["losses"], strict=True)
            losses = {(int(stream), int(first)): float(loss) for (stream, first), loss in pairs}
            return losses, float(again.get("newest", 0.0))
    return NONE


def finite(value: Any) -> Any:
    """`value` with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _incomparable(value: float, base: float, none: str) -> str:
    """Why `value / base` cannot be told, `none` where the base is none; empty if it can."""
    if not (math.isfinite(value) and math.isfinite(base)):
        return "The model's errors are not finite."
    return "" if base > 0 else none


def _all_missing(missing: dict[str, str], *parts: str) -> dict[str, Any]:
    missing |= dict.fromkeys(parts, "Replay changed faster than it could be read.")
    return dict.fromkeys(parts)
