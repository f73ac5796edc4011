"""A local or cluster run: Ray actors for environments and replay, one learner process, and the supervisor that starts
them, owns the logs, and brings back whatever dies."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from ray.exceptions import RayError

from deploy.distributed.cluster.probe import Cluster
from deploy.distributed.cluster.site import ClusterSite
from deploy.distributed.site import LocalSite, Site
from deploy.distributed.supervisor.children import Children
from deploy.distributed.supervisor.placement import Placement
from deploy.distributed.supervisor.run_state import RunState
from deploy.distributed.supervisor.watch import Watch
from deploy.interrupt import Interrupt
from deploy.reports.scoreboard import Scoreboard
from deploy.run_failed import RunFailedError
from deploy.stored.control import ControlFolder
from deploy.wiring.config import RunConfig, claim_logdir, rooted
from deploy.wiring.task import TaskSpaces
from deploy.wiring.transfer import prepare
from deploy.wiring.transfer_check import check_in_another_process
from learner.checkpoint import Checkpoints, continuation, read_document


class _StoppedError(Exception):
    """Somebody has asked the run to stop before it had its place."""


class LocalRun:
    """Builds or continues the run in `logdir`; `run` trains until the budget is spent."""

    def __init__(self, config: RunConfig, logdir: Path, spaces: TaskSpaces, cluster: Cluster | None = None):
        """`cluster`: the one to join; None: Ray is started on this machine."""
        self.cluster = cluster
        self.claim = claim_logdir(config, logdir.resolve())
        self.control = ControlFolder(logdir.resolve())  # at once: whoever finds the directory held may ask
        self.config, self.logdir, self.spaces = rooted(config), logdir.resolve(), spaces
        self.start = prepare(self.config, self.claim, lambda one: check_in_another_process(one, self.config, spaces))
        """What the agent starts with, in words."""
        self.board = Scoreboard(config, self.logdir)
        self.checkpoints = Checkpoints.of(self.logdir, config.keep_checkpoints)
        self.interrupt = Interrupt()
        self.stopped = False
        """Somebody has asked the run to stop."""
        self.lost: list[str] = []
        """Damaged parts of the offline replay that were left out."""

    def run(self) -> str:
        """Returns `done`, `solved`, `stopped` on request or `interrupted` by a signal. Raises RunFailedError, once the
        learner has saved."""
        with self.interrupt.listening(), self.board:
            self.board.starting(*self._last_counters(), "joining the cluster" if self.cluster else "starting Ray")
            if self.start:
                self.board.note(self.start)
            self.state = RunState(self.config, self.logdir)
            site = self._site()
            children = Children(self.config, self.logdir, self.board.note, site)
            with self.interrupt.listening():  # again: Ray has put a SIGTERM handler of its own in place
                try:
                    self._settle(site)
                except _StoppedError:
                    return "stopped"
                self._live(children)
        if self.interrupt.asked:
            return "interrupted"
        return "stopped" if self.stopped else "solved" if self.board.solved() else "done"

    def _site(self) -> Site:
        namespace = f"nexus-{secrets.token_hex(4)}"
        if self.cluster is None:
            return LocalSite(self.config, self.logdir, namespace)
        return ClusterSite(self.config, self.logdir, namespace, self.cluster, self.board.note)

    def _settle(self, site: Site) -> None:
        said = set[str]()

        def waits(what: str) -> None:
            for name, request in self.control.take():
                stop = isinstance(request, Mapping) and bool(request.get("stop"))
                self.stopped |= stop
                refusal = f"The run {what}. Until it has its place it can only be stopped."
                self.control.answer(name, {"stop": True} if stop else {"error": refusal})
            if self.interrupt.asked or self.stopped:
                self.state.set("ended")
                raise KeyboardInterrupt if self.interrupt.asked else _StoppedError
            if what not in said:
                said.add(what)
                self.board.note(f"The run {what}.")
            self.state.set("waiting", what)

        site.settle(waits)
        if said:
            self.board.note("There is room now.")

    def _last_counters(self) -> tuple[int, int]:
        """Frames and updates of the newest checkpoint if it has them; only for the display."""
        numbers = self.checkpoints.numbers() if self.claim.continues else []
        try:
            counters = read_document(self.checkpoints.path(numbers[-1]) / "state.json")["counters"]
            return int(counters["frames"]), int(counters["updates"])
        except (LookupError, TypeError, ValueError):
            return 0, 0

    def _live(self, children: Children) -> None:
        watch: Watch | None = None
        ending = False
        try:
            placement = Placement(self.config, self.spaces, self.claim, self.checkpoints, self.board, children)
            placement.place()
            children.site.settled(children.handles)
            self.lost = placement.lost
            watch = Watch(self.config, self.logdir, self.checkpoints, self.board, children, self.state, self.control)
            watch.until_over(lambda: self.interrupt.asked)
            self.stopped, ending = watch.steering.stopped, True
            self._end(children, watch)
            self.state.set("ended")
        except Exception as error:
            self.state.set("failed", str(error))
            if watch and not ending and children.learner_runs:
                self._save(children, watch)
            if isinstance(error, RayError):
                raise RunFailedError(
                    f"Ray failed: {str(error).splitlines()[0]} The same command "
                    f"{continuation(max(self.checkpoints.numbers(), default=-1))}."
                ) from error
            raise
        finally:
            children.end()

    def _end(self, children: Children, watch: Watch) -> None:
        """Stop everybody, and log what they did until then."""
        self.board.busy("saving")
        self.state.set("saving")
        children.stop(watch.learns)
        if not children.site.lost():
            watch.show_state(watch.take_news())
        watch.steering.answer_rest(max(self.checkpoints.numbers(), default=0))
        self.board.end()

    def _save(self, children: Children, watch: Watch) -> None:
        """Keep what was learned so far, if possible, before the run fails."""
        try:
            self._end(children, watch)
        except Exception as second:
            self.board.note(f"Nothing more could be saved: {str(second).splitlines()[0]}")
        else:
            newest = max(self.checkpoints.numbers(), default=0)
            self.board.note(f"Saved at update {newest:,}; the same command continues from there.")
