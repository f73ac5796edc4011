"""How a process of a run ended."""

from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError


def cause_of(error: BaseException) -> BaseException:
    """What was raised first, through however many Ray calls it came."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) and error.cause is not error:
        error = error.cause
    return error


def reason_of(error: RayError) -> tuple[str, bool]:
    """One line, and whether the code itself raised (rather than that its process was lost)."""
    cause = cause_of(error)
    if isinstance(cause, ActorUnavailableError):
        return "the connection to its process or node was lost", False
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [""]
    if isinstance(cause, RayActorError):
        raised = "creation task" in lines[0]  # the constructor's traceback follows
        return lines[-1 if raised else 0], raised
    return f"{type(cause).__name__}: {lines[-1]}", not isinstance(cause, RayError)
