"""`python -m tests.parity.jepa --vectors DIR`: every number of I-JEPA, V-JEPA 2 and V-JEPA 2-AC against the originals'.

Drives the classes, optimiser, schedules and planner of `nexus pretrain` and `nexus plan` with the inputs of every
`.npz` file in DIR and compares every array there. Exit code 1 if an array disagrees or is not covered.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from tests.parity import run
from tests.parity.check import Check
from tests.parity.ijepa_section import check_ijepa
from tests.parity.jepa_masks_section import check_ijepa_masks, check_tube_masks
from tests.parity.jepa_schedules import check_vjepa2_schedules
from tests.parity.plan_section import check_plan
from tests.parity.vjepa2_ac_section import check_vjepa2_ac
from tests.parity.vjepa2_section import check_vjepa2

# Files are recognised by the start of their names, the first that fits.
SECTIONS: run.Sections = {
    "ijepa_schedules_masks": check_ijepa_masks,
    "ijepa": check_ijepa,
    "vjepa2_ac": check_vjepa2_ac,
    "vjepa2_masks": check_tube_masks,
    "vjepa2_schedules": check_vjepa2_schedules,
    "vjepa2": check_vjepa2,
    "cem": check_plan,
}


def check_arrays(file: str, arrays: Mapping[str, np.ndarray]) -> Check:
    return run.check_arrays(file, arrays, SECTIONS)


def main(arguments: Sequence[str] | None = None) -> int:
    return run.run("jepa", str(__doc__), SECTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
