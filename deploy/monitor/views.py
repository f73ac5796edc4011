"""What the page asks for, answered from the runs. Everything here holds their lock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from deploy.monitor.alerts import Alerts
from deploy.monitor.configuration import differing
from deploy.monitor.curves import Axis, Question, Seeds, baseline_curves, curves_of, group_curve, labels, on_a_grid
from deploy.monitor.fleet import Fleet
from deploy.monitor.health import answer
from deploy.monitor.metric_lines import metric_lines
from deploy.monitor.notes import changed, write_notes
from deploy.monitor.questions import MissingError, QuestionError, asked
from deploy.monitor.run import Run
from deploy.monitor.runs import Runs
from deploy.monitor.selection import Term, selection
from deploy.monitor.suites import method_line, published_lines, suite_answer, suite_of
from deploy.monitor.videos import pictures
from deploy.reports.comparison.numbers import EPISODES
from deploy.reports.curves import NOT_VALUES, Curve
from deploy.reports.statistics import Statistic
from deploy.stored.control import ask

REQUESTS = ("actors", "train_ratio", "checkpoint", "stop")
ANSWERING = 30.0  # seconds
MOST_COMPARED = 50
_KEPT = 2000  # curves in the cache
_BINS = (5, 400)
_LARGEST = 1e15  # frames


@dataclass(frozen=True)
class Shown:
    """Which runs the page shows."""

    filter: str = ""
    hidden: frozenset[str] = frozenset()


class Views:
    """Raises QuestionError for one that makes no sense, MissingError for a run that does not exist."""

    def __init__(self, runs: Runs, baselines: Sequence[Curve] = (), alerts: Alerts | None = None):
        self.runs, self.baselines, self.alerts = runs, baselines, alerts or Alerts()
        self._fleets: dict[str, Fleet] = {}
        self._curves: dict[Any, Any] = {}

    def run(self, name: str) -> Run:
        """A run by its id."""
        if (run := self.runs.by_id.get(name)) is None:
            raise MissingError("There is no such run.")
        return run

    def table(self, shown: Shown) -> dict[str, Any]:
        """Every run with `selected`, and every task with its number of selected runs."""
        with self.runs.lock:
            term = _term(shown)
            rows: list[dict[str, Any]] = []
            tasks: dict[str, dict[str, Any]] = {}
            for run in self.runs.by_id.values():
                row = run.summary()
                row |= {"selected": term(row, run.configuration.values), "place": self._place(run)}
                rows.append(row)
                one = tasks.setdefault(row["task"], {"runs": 0, "live": 0, "changed": 0.0, "scores": False})
                one["runs"] += row["selected"]
                one["live"] += row["selected"] and row["active"]
                one["scores"] |= row["selected"] and len(run.scores) > 0
                one["changed"] = max(one["changed"], row["changed"])
            return {
                "runs": rows, "tasks": [{"task": task} | one for task, one in tasks.items()], "suites": _suites(tasks),
                "baselines": sorted({one.method for one in self.baselines}),
                "folders": [str(folder) for folder in self.runs.folders],
            }  # fmt: skip

    def _place(self, run: Run) -> int:
        return self.runs.places.get((run.configuration.task, run.group), 0)

    def _selected(self, shown: Shown) -> list[Run]:
        term = _term(shown)
        return [
            run for run in self.runs.by_id.values()
            if run.id not in shown.hidden and term(run.summary(), run.configuration.values)
        ]  # fmt: skip

    def curves(self, task: str, question: Question, shown: Shown) -> dict[str, Any]:
        """The groups of a task and its published curves."""
        _check(question)
        with self.runs.lock:
            everyone = [run for run in self.runs.by_id.values() if run.configuration.task == task]
            groups: dict[str, list[Run]] = {}
            for run in sorted(everyone, key=lambda run: (self._place(run), run.configuration.seed, run.name)):
                groups.setdefault(run.group, []).append(run)
            named = labels(groups)
            wanted = {run.id for run in self._selected(shown)}
            found = []
            for group, runs in groups.items():
                chosen = [run for run in runs if run.id in wanted]
                if line := self._group_curve(chosen, question):
                    live = any(run.active for run in chosen)
                    found.append({"id": group, "place": self._place(runs[0]), "live": live, **named[group], **line})
            values = {name for run in everyone for name in run.scores.names}
            return {
                "task": task, "groups": found, "baselines": baseline_curves(self.baselines, task, question),
                "values": sorted(values - NOT_VALUES - {"kind", "time"}),
                "offline": any(run.configuration.values.get("offline") for run in everyone),
            }  # fmt: skip

    def _group_curve(self, runs: Sequence[Run], question: Question) -> dict[str, Any] | None:
        def make() -> dict[str, Any] | None:
            seeds = self._seeds(runs, question)
            return group_curve(seeds, question) if seeds else None

        found: dict[str, Any] | None = self._kept(runs, question, make) if runs else None
        return found

    def _seeds(self, runs: Sequence[Run], question: Question) -> Seeds | None:
        def make() -> Seeds | None:
            there, curves = curves_of(runs, question)
            return on_a_grid(curves, question, there) if curves else None

        found: Seeds | None = self._kept(runs, replace(question, statistic="mean"), make, "seeds")
        return found

    def _kept(self, runs: Sequence[Run], question: Question, make: Callable[[], Any], *more: Any) -> Any:
        """What `make` gives, kept as long as the runs do not change."""
        state = tuple((run.scores.revision, run.revision if question.axis == "hours" else 0) for run in runs)
        key = (tuple(run.id for run in runs), question, more)
        if key not in self._curves or self._curves[key][0] != state:
            if len(self._curves) >= _KEPT:
                self._curves.clear()
            self._curves[key] = state, make()
        return self._curves[key][1]

    def suite(self, suite: str, question: Question, at: float, goal: float, shown: Shown) -> dict[str, Any]:
        """The methods of a suite over all its tasks, as `curves`. QuestionError: the frames or the goal are none."""
        _check(question)
        if not (0 <= at < _LARGEST and abs(goal) < _LARGEST) or question.value != "score":
            raise QuestionError("A suite has scores at 0 or more frames, and a number as its goal.")
        with self.runs.lock:
            methods: dict[str, list[Run]] = {}
            for run in sorted(self._selected(shown), key=lambda run: (run.configuration.task, run.name)):
                if suite_of(run.configuration.task) == suite and len(run.scores):
                    methods.setdefault(run.configuration.method, []).append(run)
            lines: dict[str, dict[str, Any]] = {}
            for method, runs in methods.items():

                def make(runs: Sequence[Run] = runs) -> dict[str, Any] | None:
                    seeds = self._seeds(runs, question)
                    _, curves = curves_of(runs, replace(question, axis="frames"))
                    points = EPISODES if question.kind == "train" else 1  # an evaluation counts by its mean
                    return method_line(seeds, curves, question, at, goal, points) if seeds and curves else None

                if line := self._kept(runs, question, make, at, goal):
                    lines[method] = line
            places = {method: self.runs.places.get((suite, method), 0) for method in methods}
            answer = suite_answer(suite, methods, lines, places)
            tasks = answer["suite"]["tasks"]
            if question.axis == "frames" and tasks:

                def found() -> list[dict[str, Any]]:
                    return published_lines(self.baselines, tasks, question, at, goal)

                published = self._kept((), question, found, *tasks, at, goal)
                answer["baselines"] = published
            return answer

    def metric_names(self, shown: Shown) -> list[str]:
        """Every metric of the selected runs' newest lines."""
        with self.runs.lock:
            names = {name for run in self._selected(shown) for name in run.latest}
        return sorted(names - {"frames", "updates", "time"})

    def metric(
        self, name: str, axis: Axis, decay: float, logarithmic: bool, task: str, shown: Shown
    ) -> dict[str, Any]:  # fmt: skip
        """Lines of one metric. QuestionError: the smoothing is none."""
        if not 0 <= decay < 1:
            raise QuestionError(f"The decay of an average lies in [0, 1); {decay:g} does not.")
        if axis not in get_args(Axis):
            raise QuestionError(f"The axis is one of {', '.join(get_args(Axis))}.")
        with self.runs.lock:
            runs = [run for run in self._selected(shown) if not task or run.configuration.task == task]
            runs = [run for run in runs if name in run.latest or (run.latest and name in run.metrics.names)]
            found = metric_lines(runs, name, axis, decay, logarithmic)
            for line in found["lines"]:
                line["place"] = self._place(self.runs.by_id[line["id"]])
            return found

    def difference(self, names: Sequence[str], everything: bool = False) -> dict[str, Any]:
        """The fields in which the configurations of some runs differ."""
        if not 1 <= len(names) <= MOST_COMPARED:
            raise QuestionError(f"Choose 1 to {MOST_COMPARED} runs to compare.")
        with self.runs.lock:
            runs = [self.run(name) for name in names]
            values = [run.configuration.values for run in runs]
        if len(runs) == 1 or everything:
            fields = {name: [one.get(name) for one in values] for name in dict.fromkeys(n for v in values for n in v)}
        else:
            fields = differing(values, incidental=True)
        return {"runs": [{"id": run.id, "name": run.name} for run in runs], "fields": fields}

    def look(self) -> tuple[list[str], list[str], bool]:
        """Take in what is new: runs that have changed, runs that are gone, and whether alerts have."""
        changed, gone = self.runs.refresh()
        with self.runs.lock:
            if gone:  # another run may come there, and have been read as often
                self._curves.clear()
            for name in gone:
                self._fleets.pop(name, None)
            for fleet in self._fleets.values():
                fleet.look()
            return changed, gone, self.alerts.look(self.runs.by_id)

    def fleet(self, name: str) -> dict[str, Any]:
        """The processes of a run."""
        with self.runs.lock:
            return self._fleets.setdefault(name, Fleet(self.run(name))).report()

    def health(self, name: str, after: str = "") -> dict[str, Any]:
        """The health of a run's world model, to a page that has been told of reports up to the cursor `after`."""
        with self.runs.lock:
            run = self.run(name)
            found = answer(run.health, run.configuration.values, after)
            about = {"id": run.id, "name": run.name, "task": run.configuration.task, "state": run.state()}
        return {**about, **found, "pictures": pictures(run.path, run.configuration.values)}

    def place_of(self, name: str) -> Path:
        """The directory of a run."""
        with self.runs.lock:
            return self.run(name).path

    def alarms(self) -> dict[str, Any]:
        """The alerts now, and what happened lately."""
        return {
            "raised": [asdict(one) for one in list(self.alerts.raised.values())],
            "events": list(self.alerts.events),
        }

    def steer(self, name: str, request: Any) -> dict[str, Any]:
        """Pass a request on to a run. QuestionError: it is none, or the run refuses it, or does not answer."""
        if not isinstance(request, Mapping) or len(request) != 1 or not request.keys() <= set(REQUESTS):
            raise QuestionError(f"A request is an object with one of {', '.join(REQUESTS)}.")
        with self.runs.lock:
            path = self.run(name).path
        with asked():
            return ask(path, request, ANSWERING)

    def annotate(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change tags, note or archive mark of a run. QuestionError: they make no sense, or cannot be written."""
        with self.runs.lock:
            run = self.run(name)
            with asked():
                notes = changed(run.notes, changes)
                write_notes(run.path, notes)
            run.notes, run.revision = notes, run.revision + 1  # the next look finds the file, and tells every page
            return run.summary()


def _suites(tasks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Suites of which more than one task has scores."""
    found: dict[str, list[str]] = {}
    for task, about in tasks.items():
        if about["scores"] and about["runs"] and (suite := suite_of(task)):
            found.setdefault(suite, []).append(task)
    return [{"task": suite, "tasks": own} for suite, own in found.items() if len(own) > 1]


def _term(shown: Shown) -> Term:
    with asked():
        return selection(shown.filter)


def _check(question: Question) -> None:
    for given, allowed in ((question.axis, get_args(Axis)), (question.statistic, get_args(Statistic)),
                           (question.kind, ("train", "eval"))):  # fmt: skip
        if given not in allowed:
            raise QuestionError(f"{given!r} is not one of {', '.join(allowed)}.")
    if not _BINS[0] <= question.bins <= _BINS[1]:
        raise QuestionError(f"A curve has {_BINS[0]} to {_BINS[1]} points.")


def folders_of(paths: Sequence[Path]) -> list[Path]:
    """ValueError: one of them does not exist."""
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"{path} is not a directory; name run directories, or folders above them.")
    return list(paths)
