"""Schedules in ijepa_schedules_masks.npz and vjepa2_schedules.npz, by `learner.schedules`."""

from typing import Any

import numpy as np

from learner.schedules import Schedule
from tests.parity.check import Check

# Parameters of vjepa2_schedules.npz, which its README states and the file does not hold.
OF_VJEPA2: dict[str, dict[str, Any]] = {
    "wsd": {"kind": "warmup_stable_decay", "start": 7.5e-5, "top": 4.25e-4, "end": 0.0},
    "warmup_constant": {"kind": "warmup_constant", "start": 1e-4, "top": 5.25e-4},
    "linear": {"kind": "linear", "top": 5.25e-4, "end": 1e-6},
}


def compare_schedule(check: Check, name: str, schedule: Schedule, updates: int, first: int = 1) -> None:
    values = np.array([schedule.at(i, updates) for i in range(first, updates + 1)])
    check.compare(name, values, "schedule", scale=np.abs(values))


def check_ijepa_schedules(check: Check) -> None:
    c = {name: float(value) for name, value in check.inputs("config/").items()}
    updates, warmup = int(c["T"]), int(c["warm"])
    rate = Schedule(kind="cosine", start=c["start"], top=c["ref"], end=c["fin"], warmup=warmup)
    compare_schedule(check, "lr", rate, updates)
    compare_schedule(check, "wd", Schedule(kind="cosine", top=c["wd"], end=c["fwd"]), updates)
    compare_schedule(check, "ema", Schedule(kind="linear", top=c["ema0"], end=c["ema1"]), updates, first=0)


def check_vjepa2_schedules(check: Check) -> None:
    updates, warmup, anneal = (int(check.input(name)) for name in ("T", "warmup", "anneal"))
    for name, fields in OF_VJEPA2.items():
        compare_schedule(check, name, Schedule(**fields, warmup=warmup, anneal=anneal), updates)
