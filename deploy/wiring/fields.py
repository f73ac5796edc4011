"""Fields of the configuration by their dotted names, such as `learner.train_ratio`, and as options of `nexus train`."""

import difflib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from deploy.wiring.config import RunConfig
from world_models.dataclass_json import from_json, to_json


def with_fields(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """`config` with other values of the fields named in `values`; groups may be nested mappings instead.

    ValueError: a field is unknown (the nearest are named), or its value is wrong.
    """
    tree = to_json(config)
    known = dotted(tree)
    for name, value in dotted(values).items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            nearest = f"the nearest: {', '.join(near)}" if near else "nexus train --help lists them all"
            raise ValueError(f"Unknown field {name!r} of the configuration; {nearest}.")
        *groups, last = name.split(".")
        part = tree
        for group in groups:
            part = part[group]
        part[last] = value.item() if isinstance(value, np.generic) else deepcopy(value)
    return from_json(RunConfig, tree)


def dotted(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested mappings as one, with the names joined by dots."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= dotted(value, f"{where}{name}.") if isinstance(value, Mapping) else {f"{where}{name}": value}
    return out


def as_options(values: Mapping[str, Any]) -> list[str]:
    """`{"learner.batch_size": 8}` as `--learner.batch-size 8`."""
    options = []
    for name, value in values.items():
        texts = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        options += [f"--{name.replace('_', '-')}", *texts]
    return options
