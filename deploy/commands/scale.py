"""`nexus scale`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from deploy.commands.numbers import Actors, Positive
from deploy.commands.parsing import parse
from deploy.commands.waiting import Progress, reach, wait_until
from deploy.exit_codes import FAILED

ANSWERING = 120.0  # seconds: a run that is starting takes requests once its processes are placed


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Change the number of actors, or the train ratio, of a run in progress."""

    run: Positional[Path]
    """A run directory, or the name of a launched run."""
    actors: Actors = None
    """Number of actor processes. Each further one has as many environments as the largest share of the first ones;
    those with the highest numbers end first, after they have stored what they have done. `auto`: from now on the run
    chooses it by who waits for whom, within `actor.autoscale.least` and `most`."""
    train_ratio: float | None = None
    """Replayed training steps per environment step."""
    tolerance: float | None = None
    """Steps by which acting and learning may be apart; 0 lets the run choose."""
    address: str = ""
    """HOST:PORT (or `auto`) of the Ray cluster that the run is in, for a machine that does not see its directory."""
    timeout: Positive = 300
    """Seconds to wait for the actors to start or end."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Scale, arguments, prog="nexus scale", example="nexus scale runs/cartpole --actors 4")
    request = {
        name: value for name in ("actors", "train_ratio", "tolerance") if (value := getattr(given, name)) is not None
    }
    if not request:
        raise ValueError("nexus scale: say what to change, e.g. nexus scale runs/cartpole --actors 4")
    there = reach(given.run, given.address)
    answer = there.ask(request, ANSWERING, Progress("the run to answer"))
    if "train_ratio" in answer:
        print(f"train ratio {answer['train_ratio']:g}, tolerance {answer['tolerance']:g} (0: chosen by the run)")
    if "autoscale" in answer:
        print("the run chooses the number of actors, {} to {}".format(*answer["autoscale"]))
    if "actors" not in answer:
        return 0
    (before, actors), (fewer, environments) = answer["actors"], answer["environments"]
    print(f"actors {before} -> {actors}, environments {fewer} -> {environments}", flush=True)

    asked = there.status().get("time")

    def settled() -> str:
        status = there.status()
        each, given_up = _workers(status), _given_up(status)
        done = len(given_up) + sum(one["version"] is not None or one["idle"] for one in each.values())
        if status.get("time") == asked or not done == len(each) + len(given_up) == actors:  # may be from before
            return ""
        acting = actors - len(given_up) - (idle := sum(one["idle"] for one in each.values()))
        text = f"{acting} actor{' is' if acting == 1 else 's are'} acting"
        return text + (f"; all environments of {idle} more are quarantined" if idle else "")

    def progress() -> str:
        return f"{_summary(there.status())} of {actors} actors"

    if text := wait_until(settled, there, progress, given.timeout):
        print(text)
        for number, reason in (given_up := _given_up(there.status())).items():
            print(f"actor {number} is given up: {reason}", file=sys.stderr)
        return FAILED if given_up else 0
    print(f"After {given.timeout} s: {_summary(there.status())} of {actors} actors; the run goes on with that.",
          file=sys.stderr)  # fmt: skip
    return FAILED


def _workers(status: dict[str, Any]) -> dict[str, Any]:
    each: dict[str, Any] = status.get("actors", {}).get("each", {})
    return each


def _given_up(status: dict[str, Any]) -> dict[str, str]:
    given_up: dict[str, str] = status.get("actors", {}).get("given_up", {})
    return given_up


def _summary(status: dict[str, Any]) -> str:
    """`3 acting, 1 waiting for a free CPU, 2 ending`."""
    each = _workers(status).values()
    words = [
        f"waiting for {one['waits_for']}" if one["waits_for"] else "ending" if one["leaving"]
        else "without environments" if one["idle"] else "acting" if one["version"] is not None else "starting"
        for one in each
    ]  # fmt: skip
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words))) or "none"
