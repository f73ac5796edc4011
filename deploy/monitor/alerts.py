"""What somebody should look at: rules of each run's configuration, applied to what its directory shows."""

import json
import math
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from deploy.monitor.history import TRAIN, number
from deploy.monitor.run import Run
from deploy.reports.health.verdicts import unhealthy
from deploy.wiring.config import AlertsConfig
from world_models.dataclass_json import from_json

EVERY = 2.0  # seconds between two looks
WORLD_MODEL = "world model: "
"""Begins the kind of an alert about its health."""
_EPISODES = 20  # whose mean is a score
_KEPT = 200  # events
_TIMEOUT = 5.0  # seconds of the webhook
_PAUSES = (0.0, 1.0, 5.0)  # seconds before each try
_MUST_BE_FINITE = ("train/loss/", "train/optimizer/")


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that is wrong with one run."""

    run: str
    name: str
    task: str
    kind: str
    text: str
    since: float


class Alerts:
    """The alerts that are raised now, and the newest events. `send` is called with each event."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None] = lambda event: None):
        self.raised: dict[tuple[str, str], Alert] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._send, self._lived, self._looked = send, set[str](), -math.inf

    def look(self, runs: Mapping[str, Run]) -> bool:
        """Apply every rule; True if an alert was raised or has gone."""
        if time.monotonic() - self._looked < EVERY:
            return False
        self._looked = time.monotonic()
        found: dict[tuple[str, str], tuple[Run, str]] = {}
        for run in runs.values():
            for kind, text in self._wrong(run):
                found[run.id, kind] = run, text
            if run.active:
                self._lived.add(run.id)
        before = set(self.raised)
        for key, (run, text) in found.items():
            since = self.raised[key].since if key in before else time.time()
            one = Alert(run=run.id, name=run.name, task=run.configuration.task, kind=key[1], text=text, since=since)
            self.raised[key] = one
            if key not in before:
                self._event("raised", one)
        for key in before - found.keys():
            ended = key[0] not in runs or not runs[key[0]].active
            self._event("gone", self.raised.pop(key), ended=ended)
        return before != self.raised.keys()

    def _event(self, what: str, alert: Alert, ended: bool = False) -> None:
        over = f": the run has ended; {alert.kind} is no longer watched" if ended else f": {alert.kind} is over"
        said = f" ({alert.task}): {alert.text}" if what == "raised" else over
        text = alert.name + said
        event = {"event": what, "text": text, "time": time.time(), "alert": asdict(alert)}
        self.events.appendleft(event)
        self._send(event)

    def _wrong(self, run: Run) -> Iterator[tuple[str, str]]:
        if run.notes.archived:
            return
        if run.active:
            yield from wrong_with(run, rules_of(run), time.time())
        elif run.id in self._lived and run.state() == "failed":
            yield "failed", f"the run has died: {run.status.get('reason') or 'it did not say why'}"


def rules_of(run: Run) -> AlertsConfig:
    """The rules of a run's configuration; the defaults where it has none, or wrong ones."""
    prefix = "alerts."
    own = {name[len(prefix) :]: value for name, value in run.configuration.values.items() if name.startswith(prefix)}
    try:
        return from_json(AlertsConfig, own)
    except ValueError:
        return AlertsConfig()


def wrong_with(run: Run, rules: AlertsConfig, now: float) -> Iterator[tuple[str, str]]:
    """Kind and text of everything that is wrong with an active run at `now`, in seconds since 1970."""
    if rules.non_finite:
        watched = {name: number(value) for name, value in run.latest.items() if name.startswith(_MUST_BE_FINITE)}
        if bad := sorted(name for name, value in watched.items() if not math.isfinite(value)):
            yield "non-finite", f"{', '.join(bad[:3])} not finite at update {run.latest.get('updates')}"
    silent = now - run.logged_at
    if 0 < rules.stall_seconds < silent:
        yield "stall", f"nothing has been written for {silent:.0f} s"
    lag = number(_part(run.status, "snapshot").get("lag_seconds", run.latest.get("policy/lag_seconds")))
    if 0 < rules.lag_seconds < lag:
        yield "lag", f"the policies that act are {lag:.0f} s old on average"
    actors = _part(run.status, "actors")
    given_up = sorted(_part(actors, "given_up"))
    quiet = [name for name, one in _part(actors, "each").items() if isinstance(one, Mapping) and not one.get("idle")
             and 0 < rules.dead_seconds < number(one.get("seconds_since_report"))]  # fmt: skip
    if rules.dead_seconds and (given_up or quiet):
        parts = [f"actor {', '.join(given_up)} given up"] * bool(given_up)
        parts += [f"actor {', '.join(quiet)} silent for over {rules.dead_seconds:g} s"] * bool(quiet)
        yield "dead workers", "; ".join(parts)
    if rules.collapse:
        yield from _collapse(run, rules.collapse)
    if rules.health and run.health.written_at > run.began_at:  # not of an earlier life
        for one in unhealthy(run.health.verdicts(run.configuration.values)):
            head = ", reward head" if one.name == "reward" else ""  # two parts have one title
            yield f"{WORLD_MODEL}{one.title}{head}", f"{one.text} {one.remedy}"


def _collapse(run: Run, share: float) -> Iterator[tuple[str, str]]:
    """The mean of the newest episodes against the best such mean, as a share of what had been gained."""
    scores = run.scores.column("score")[run.scores.column("kind") == TRAIN]
    scores = scores[np.isfinite(scores)]
    if len(scores) < 3 * _EPISODES:
        return
    means = np.convolve(scores, np.full(_EPISODES, 1 / _EPISODES), "valid")
    start, best, last = float(means[0]), float(means.max()), float(means[-1])
    if best > start and best - last > share * (best - start) and best - start > 2 * float(scores[:_EPISODES].std()):
        yield "score collapse", f"the mean of {_EPISODES} episodes has fallen from {best:.4g} to {last:.4g}"


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def read_webhook(path: Path) -> str:
    """The URL in a file. ValueError: it is none, or others may read it: whoever knows it can post there."""
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(f"Others may read the URL in {path}; chmod 600 {path}")
        url = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The webhook's file {path} cannot be read: {error}.") from error
    if not url.startswith(("https://", "http://")) or len(url.split()) != 1:
        raise ValueError(f"{path} must hold one URL that begins with https:// or http://.")
    return url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def webhook(url: str, note: Callable[[str], object]) -> Callable[[Mapping[str, Any]], None]:
    """Posts events as JSON, each with `text`, in a thread of its own. `note` is told once when that fails, without the
    URL."""
    opener = urllib.request.build_opener(_NoRedirect)
    failed = False

    def send(event: Mapping[str, Any]) -> None:
        nonlocal failed
        body = json.dumps(event).encode()
        for pause in _PAUSES:
            time.sleep(pause)
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            try:
                with opener.open(request, timeout=_TIMEOUT):
                    failed = False
                    return
            except (OSError, ValueError, HTTPException) as error:
                reason = type(error).__name__
        if not failed:
            failed = True
            note(f"The webhook does not take alerts ({reason}).")

    return lambda event: Thread(target=send, args=(event,), daemon=True).start()
