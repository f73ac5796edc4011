"""What MuJoCo says about model files that ship with Gymnasium."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Leave out MuJoCo's remarks on the attributes of a model that later versions will not read, which only its authors
    can mend. By default every environment that is made prints them and appends them to MUJOCO_LOG.TXT in the current
    directory. Other warnings are printed."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(_print_others)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _print_others(message: str) -> None:
    if "deprecated" not in message:
        print(f"MuJoCo: {message}", file=sys.stderr)
