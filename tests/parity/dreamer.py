"""`python -m tests.parity.dreamer --vectors DIR`: every number of DreamerV3 against the official program's.

Drives the classes and the update function of `nexus train` with the inputs of every `.npz` file in DIR and compares
every array there; with `--compiled` the imagined steps of updates are compiled. Exit code 1 if an array disagrees or is
not covered.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from tests.parity import replay_traces, run
from tests.parity.agent_section import check_agent
from tests.parity.check import Check
from tests.parity.functions_section import check_functions
from tests.parity.init_section import check_init
from tests.parity.nets_section import check_nets
from tests.parity.optimizer_section import check_optimizer
from tests.parity.rssm_section import check_rssm


def check_replay(check: Check) -> None:
    def record(name: str, actual: np.ndarray, expected: np.ndarray, kind: str) -> None:
        check.compare(name, actual, kind)

    replay_traces.compare(check.arrays, record)


# Files are recognised by the start of their names.
SECTIONS: dict[str, Callable[[Check], None]] = {
    "agent_": check_agent,
    "rssm_": check_rssm,
    "nets_": check_nets,
    "functions": check_functions,
    "optimizer": check_optimizer,
    "init_stats": check_init,
    "replay": check_replay,
}


def check_arrays(file: str, arrays: Mapping[str, np.ndarray]) -> Check:
    return run.check_arrays(file, arrays, SECTIONS)


COMPILED = SECTIONS | {"agent_": partial(check_agent, compiled=True)}


def main(arguments: Sequence[str] | None = None) -> int:
    return run.run("dreamer", str(__doc__), SECTIONS, arguments, COMPILED)


if __name__ == "__main__":
    sys.exit(main())
