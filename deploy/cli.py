"""The command `nexus`."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from deploy.commands.dispatch import dispatch
from deploy.exit_codes import FAILED, INTERRUPTED, MISUSED
from deploy.import_path import own_folder_last
from deploy.interrupt import ending_on_signals
from deploy.output import hanging_up

DESCRIPTION = """Train agents inside learned world models, on this machine or a cluster.

  nexus train gym:CartPole-v1 --preset quick           learn CartPole in minutes on a CPU
  nexus train dmc_walker_walk --environment.action-repeat 2 --learner.train-ratio 512
  nexus train gym:CartPole-v1 --preset quick --replay disk     replay larger than memory, kept through crashes
  nexus train gym:CartPole-v1 --preset quick --offline runs/cartpole   learn from stored replay alone
  nexus replay inspect runs/cartpole                   what a run has stored, and whether it is whole
  nexus eval runs/cartpole --episodes 20 --video cartpole.mp4
  nexus plot runs/* --baselines dmc_proprio-dreamerv3.json.gz --out curves.png
  nexus check-env gym:my_module:MyEnv-v0               what is wrong with an environment, and where
  nexus doctor                                         what works on this machine, and what to do about the rest
"""

UNWRITABLE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or write to another place."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Give this user the rights to it, or use another."),
    errno.EIO: "The device has an error; write to another one.",
}
"""What a file system refuses in the middle of the work, and what to do."""

COMMANDS = {
    name: f"deploy.commands.{name.replace('-', '_')}"
    for name in ("train", "eval", "plot", "replay", "check-env", "doctor")
}
"""The module of each."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command. Errors a user can cause are one message, without a traceback, and exit code 2."""
    if arguments is None:  # to the very end of this process, which is ours
        sys.unraisablehook = _say_unraisable
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own_folder_last(os.getcwd())  # environments of one's own lie where the command is given
    from deploy.wiring.redis_password import hide_passwords  # not before: a replay.py there is none of ours

    try:
        arguments = hide_passwords(arguments)
    except ValueError as error:
        sys.exit(_complain(str(error)))
    with ending_on_signals() as signals, hanging_up():
        code = _run(arguments, signals)
        if code == INTERRUPTED and not signals:  # the command itself has taken the signal
            signals.append(signal.SIGINT)  # another one, while the program exits, must not break that off
    sys.exit(code)


def _run(arguments: Sequence[str], signals: Sequence[int]) -> int:
    """The exit code of one command; its errors are said. `signals`: those received."""
    name = " ".join(["nexus", *arguments[:1]])
    try:
        try:
            code = dispatch("nexus", arguments, COMMANDS, DESCRIPTION)
        except SystemExit as left:
            code = _complain(left.code, FAILED) if isinstance(left.code, str) else left.code or 0
        if sys.stdout:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as stopped:
        if not stopped.args and signals[:1] == [signal.SIGHUP]:
            return INTERRUPTED  # `nexus ... | head` wants no more lines
        return _complain(str(stopped) or f"{name} was stopped.", INTERRUPTED)
    except Exception as error:
        if signals:  # an import or a library that a signal has broken off
            return _complain(f"{name} was stopped.", INTERRUPTED)
        if isinstance(error, ValueError):
            return _complain(str(error))
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            where = f"{error.filename}: " if error.filename else ""
            return _complain(f"{name} has ended. {where}{error.strerror}. {UNWRITABLE[error.errno]}", FAILED)
        from replay.errors import NexusError  # not before own_folder_last

        if not isinstance(error, NexusError):
            raise
        return _complain(str(error), FAILED)


def _say_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Errors of an environment's `__del__`; where none has been made, Python's own words."""
    closing = sys.modules.get("actors.closing")
    (closing.say_unraisable if closing else sys.__unraisablehook__)(unraisable)


def _complain(message: str, code: int = MISUSED) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
