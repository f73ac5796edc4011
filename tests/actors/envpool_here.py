"""What this machine lacks for a part of envpool: the reason of a skip, or nothing."""

from functools import cache

from actors.environment import CannotDrawError


@cache
def what_procgen_lacks() -> str:
    """Why Procgen cannot be played here; empty if it can."""
    from actors.envs.envpool.loading import make_spec

    try:
        make_spec("CoinrunHard-v0", {})
    except ValueError as error:
        return str(error)
    return ""


@cache
def what_drawing_lacks() -> str:
    """Why envpool's MuJoCo cannot draw here; empty if it can."""
    from actors.envs.envpool.loading import require_drawing

    try:
        require_drawing()
    except CannotDrawError as error:
        return str(error)
    return ""
