"""Where jobs run. Torch-free."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Protocol, TypeGuard, get_args

from deploy.launch.job import Job

End = Literal["ended", "failed", "stopped"]
State = Literal["waiting", "running", End, "gone", "unreachable"]
"""`waiting` for resources; `gone`: the target does not know it any more; `unreachable`: the target does not answer."""
OVER = (*get_args(End), "gone")


def has_ended(state: State) -> TypeGuard[End]:
    """Whether a target knows how a job in this state has ended."""
    return state in get_args(End)


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A job that a target has been given, as it is kept in `~/.nexus/jobs/NAME.json`; holds no secret."""

    name: str
    target: str
    id: str
    """By which the target knows it."""
    place: str
    """Of the target: an address, a namespace or a folder."""
    task: str
    logdir: str
    time: float
    """Seconds since 1970."""
    state: Literal["", End] = ""
    """What its target has said last, if it has ended; not `gone`, which may be the answer of another cluster."""
    why: str = ""
    """In one sentence, or nothing."""


class Target(Protocol):
    """A system that runs jobs. Every wait has a time-out; RunFailedError if the system refuses or does not answer."""

    @property
    def runs(self) -> PurePosixPath | None:
        """The folder of run directories; None: `runs` of the working directory, which it sees at the same path."""

    @property
    def final(self) -> bool:
        """Whether a job that has ended stays so until it is launched again."""

    def files(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """What `launch` would submit, as file names and their text; asks nobody. ValueError as from `launch`."""

    def launch(self, jobs: Sequence[Job]) -> Iterable[Launched]:
        """Give jobs to the system. Where they are given one by one, each is yielded before it is, to be on record then.

        ValueError: what the user can mend, such as a job that still runs there; nothing, or nothing more, is given.
        """

    def state(self, job: Launched) -> tuple[State, str]:
        """What has become of a job, and why in one sentence or nothing."""

    def logs(self, job: Launched, follow: bool) -> Iterator[str]:
        """What the job has printed, in pieces; with `follow` until it ends."""

    def stop(self, job: Launched, timeout: float) -> str:
        """Have the job save and end, and wait for it; says what has been done."""
