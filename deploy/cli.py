"""The command `nexus`."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from deploy.commands.dispatch import Command, dispatch
from deploy.exit_codes import FAILED, INTERRUPTED, MISUSED
from deploy.import_path import own_folder_last
from deploy.interrupt import ending_on_signals
from deploy.output import hanging_up

COMMANDS = {
    "train": Command("deploy.commands.train", "train DreamerV3 on a task, or continue a run"),
    "profile": Command("deploy.commands.profiling.profile", "print where the time of an update goes"),
    "launch": Command("deploy.commands.launching.launch", "start runs on a cluster, or continue them"),
    "jobs": Command("deploy.commands.launching.jobs", "list launched runs, how they are and what is wrong with them"),
    "logs": Command("deploy.commands.launching.logs", "print what a launched run has printed"),
    "scale": Command("deploy.commands.scale", "change the number of actors of a run in progress"),
    "checkpoint": Command("deploy.commands.checkpoint", "save a run in progress now"),
    "stop": Command("deploy.commands.stop", "save and end a run in progress"),
    "monitor": Command("deploy.commands.monitor", "serve a page that shows runs while they learn"),
    "play": Command("deploy.commands.playing.play", "serve a page on which people play a world that Genie generates"),
    "eval": Command("deploy.commands.eval", "score a trained policy on fresh episodes"),
    "plan": Command("deploy.commands.plan", "score planners over a trained world model"),
    "plot": Command("deploy.commands.plot", "plot score curves of runs and published ones"),
    "report": Command("deploy.commands.report", "compare runs and published scores in one document"),
    "baseline": Command("deploy.commands.baseline", "train RLlib's PPO or SAC on a task, to compare with"),
    "pretrain": Command("deploy.commands.pretrain", "train I-JEPA, V-JEPA 2, V-JEPA 2-AC, Genie, latent worlds"),
    "probe": Command("deploy.commands.pretraining.probe", "score classifiers that read labels from an encoder"),
    "look": Command("deploy.commands.pretraining.look", "draw what a model sees, predicts and imagines"),
    "record": Command("deploy.commands.record", "record episodes of a task, to pretrain on"),
    "world": Command("deploy.commands.pretraining.world", "make an environment of a trained Genie"),
    "replay": Command("deploy.commands.replay", "inspect, export and import stored replay"),
    "import-weights": Command("deploy.commands.import_weights", "convert published weights of I-JEPA and V-JEPA 2"),
    "export-weights": Command("deploy.commands.export_weights", "convert a pretrained model to their layouts"),
    "check-env": Command("deploy.commands.check_env", "report what is wrong with an environment, and where"),
    "doctor": Command("deploy.commands.doctor", "check what works on this machine, and how to fix the rest"),
}
EXAMPLES = (
    "nexus train gym:CartPole-v1 --preset quick     # learns in minutes on a CPU",
    "nexus train dmc_walker_walk --environment.action-repeat 2",
    "nexus train dmc_walker_walk --replay disk      # larger than memory, durable",
    "nexus train gym:CartPole-v1 --preset quick --offline runs/cartpole",
    "nexus train gym:my_module:MyPole-v0 --init-from runs/cartpole",
    "nexus train dmc_walker_walk --size size200m --dry-run   # what it needs",
    "nexus profile runs/cartpole                    # where its time goes",
    "nexus launch gym:CartPole-v1 --preset quick --address http://head:8265",
    "nexus scale runs/cartpole --actors 4           # while it trains",
    "nexus monitor runs                             # a page that shows them",
    "nexus replay inspect runs/cartpole             # what a run has stored",
    "nexus record procgen_coinrun --out coinrun --frames 100000",
    "nexus pretrain vjepa2 --data runs/cartpole     # on the same replay",
    "nexus probe runs/ijepa --data generated:digits --baselines",
    "nexus eval runs/cartpole --episodes 20 --video cartpole.mp4",
    "nexus eval runs/cartpole --imagined            # what its policy imagines",
    "nexus plan runs/cartpole --planner cem",
    "nexus play runs/world                          # of nexus pretrain genie",
    "nexus baseline ppo gym:CartPole-v1 --frames 100000",
    "nexus plot runs/* --baselines dmc_proprio-dreamerv3.json.gz",
    "nexus report runs/* --baselines dmc_proprio-dreamerv3.json.gz --out report",
    "nexus import-weights vjepa2 vitl.pt --out models/vjepa2-vitl",
    "nexus check-env gym:my_module:MyEnv-v0",
)

ELSEWHERE = (["launch"], ["jobs"], ["logs"], ["stop"])
"""Commands about runs of other machines, where files of secrets lie."""
UNWRITABLE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or write somewhere else."),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Allow this user to write there, or write somewhere else."
    ),
    errno.EIO: "The device reports an I/O error; write to another device.",
}
"""Errors of a file system in the middle of a command, and what to do about them."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command. What the user got wrong is reported in one message, without a traceback, with exit code 2."""
    if arguments is None:  # this process is ours to its very end
        sys.unraisablehook = _report_unraisable
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own_folder_last(os.getcwd())  # the user's environments are modules of the working directory
    from deploy.wiring.redis_password import hide_passwords, read_password_file  # not earlier: replay.py may be theirs

    try:
        arguments = hide_passwords(arguments)
        if arguments[:1] not in ELSEWHERE:
            read_password_file()
    except ValueError as error:
        sys.exit(_complain(str(error)))
    with ending_on_signals() as signals, hanging_up():
        code = _run(arguments, signals)
        if code == INTERRUPTED and not signals:  # the command handled the signal itself
            signals.append(signal.SIGINT)  # so that another one does not break off the exit
    sys.exit(code)


def _run(arguments: Sequence[str], signals: Sequence[int]) -> int:
    """Run one command, report its errors and return its exit code. `signals`: those received so far."""
    name = " ".join(["nexus", *arguments[:1]])
    try:
        try:
            code = dispatch("nexus", arguments, COMMANDS, "Train agents inside learned world models.", EXAMPLES)
        except SystemExit as left:
            code = _complain(left.code, FAILED) if isinstance(left.code, str) else left.code or 0
        if sys.stdout:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as stopped:
        if not stopped.args and signals[:1] == [signal.SIGHUP]:
            return INTERRUPTED  # `nexus ... | head` has closed the pipe
        return _complain(str(stopped) or f"{name} was stopped.", INTERRUPTED)
    except Exception as error:
        if signals:  # a signal interrupted an import or a library
            return _complain(f"{name} was stopped.", INTERRUPTED)
        if isinstance(error, ValueError):
            return _complain(str(error))
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            where = f"{error.filename}: " if error.filename else ""
            return _complain(f"{name} failed: {where}{error.strerror}. {UNWRITABLE[error.errno]}", FAILED)
        from replay.errors import NexusError  # not before own_folder_last()

        if not isinstance(error, NexusError):
            raise
        return _complain(str(error), FAILED)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Report an error in an environment's `__del__`; before any environment exists, as Python does."""
    closing = sys.modules.get("actors.closing")
    (closing.say_unraisable if closing else sys.__unraisablehook__)(unraisable)


def _complain(message: str, code: int = MISUSED) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
