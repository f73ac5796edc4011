"""Writes a report: report.md with its pictures, and report.html, which needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from actors.batch_environment import score_text
from deploy.reports.comparison.document import NO_DATA, Section, Table, html, markdown
from deploy.reports.comparison.numbers import (
    BENCHMARKS,
    EPISODES,
    METHODS,
    SHARE,
    Cost,
    Final,
    Reaching,
    Standing,
    costs,
    finals,
    groups,
    reaching,
    standings,
)
from deploy.reports.comparison.profiles import draw_profiles
from deploy.reports.curves import Curve, Note, Runs, distinct_names, load_baselines, load_runs
from deploy.reports.display import duration
from deploy.reports.plot import label_of, plot
from deploy.reports.statistics import Estimate
from replay.counted import counted
from replay.files.whole_file import whole_file

_INTERVALS = (
    "Intervals hold 95 %: percentiles of a bootstrap that draws runs within each task. IQM: the mean of the middle "
    "half of all runs."
)


def write_report(
    runs: Sequence[Path], out: Path, *, baselines: Sequence[Path] = (), frames: float | None = None,
    scores: Sequence[float] = (), title: str = "Report", note: Note = print,
) -> list[Path]:  # fmt: skip
    """Compare `runs` with each other and with published scores; returns the files written.

    `frames`: where scores are compared and curves end; by default the end of each method's shortest run. `scores`:
    those to count frames to. `note` is told of what is left out. ValueError: there is nothing to report, or a file that
    cannot be read.
    """
    if not (runs or baselines):
        raise ValueError("There is nothing to report: name a run, or give --baselines.")
    note = _once(note)
    loaded = load_runs(runs, note=note) if runs else Runs([], [], [])
    own = loaded.curves
    if runs and not own:
        raise ValueError("None of the runs has a score yet; name one that has.")
    known = [file for file in baselines if any(file.name.startswith(one.file) for one in BENCHMARKS)]
    if not (own or known):
        names = ", ".join(f"{one.file}-METHOD.json.gz" for one in BENCHMARKS)
        raise ValueError(f"There is nothing to report: no run is named, and no score file is called {names}.")
    out.mkdir(parents=True, exist_ok=True)
    sections: list[Section] = []
    pictures: list[Path] = []
    if own:
        tasks = dict.fromkeys(curve.task for curve in own)
        files = [file for file in _beside(runs, baselines, note) if _has(file, tasks)]
        others = [one for file in files for one in load_baselines([file]) if one.task in tasks and not one.constant]
        pictures.append(out / "curves.png")
        plot(runs, out=pictures[0], baselines=files, frames=frames, note=note)
        sections += [
            _final_section([*finals(own, frames), *finals(others, frames)]),  # apart: names may be the same
            Section("Curves", [_curve_text(own, others), pictures[0]]),
            *_reaching_section(reaching(own, loaded.evaluations, scores, others)),
            _cost_section(costs(runs, note)),
        ]
    if known:
        found = standings(known)
        sections.append(_benchmark_section(found, known))
        if draw_profiles(found, out / "profiles.png"):
            pictures.append(out / "profiles.png")
            sections.append(Section("Performance profiles", [pictures[-1]]))
    for file, text in (("report.md", markdown(title, sections)), ("report.html", html(title, sections))):
        with whole_file(out / file) as fresh:
            fresh.write_text(text)
    return [out / "report.md", out / "report.html", *pictures]


def _once(note: Note) -> Note:
    """`note` without what it has been told already: several parts of a report read the same files."""
    said: set[str] = set()

    def first(text: str) -> None:
        if text not in said:
            said.add(text)
            note(text)

    return first


def _has(file: Path, tasks: dict[str, None]) -> bool:
    return any(one.task in tasks for one in load_baselines([file]))


def _beside(runs: Sequence[Path], baselines: Sequence[Path], note: Note) -> list[Path]:
    """Score files for curves: of those for pixels and for vectors, whose methods have the same names, one kind."""
    pixels = [file for file in baselines if file.name.startswith("dmc_vision")]
    others = [file for file in baselines if file not in pixels]
    if pixels and any(file.name.startswith("dmc_") for file in others):
        note("Scores from pixels are left out of the curves, since there are some from vectors under the same names.")
        return others
    return list(baselines)


def _final_section(found: Sequence[Final]) -> Section:
    rows = [
        [
            one.task,
            label_of(one.method),
            str(one.runs),
            f"{one.frames:,.0f}",
            _estimate(one.iqm) if one.iqm else "no data",
            _estimate(one.mean) if one.mean else "no data",
        ]
        for one in found
    ]
    remarks = {one: one.iqm.remark if one.iqm else "no episode ended there" for one in found}
    few = [f"{label_of(one.method)} on {one.task}: {remark}." for one, remark in remarks.items() if remark]
    text = (
        f"Training episodes that ended in the last {SHARE:.0%} of the frames, at the end of each method's shortest "
        f"run. {_INTERVALS}"
    )
    return Section("Final scores", [text, Table(["task", "method", "seeds", "frames", "IQM", "mean"], rows), *few])


def _curve_text(own: Sequence[Curve], others: Sequence[Curve]) -> str:
    seeds = [
        f"{label_of(method)} on {task}: {counted(len(runs), 'seed')}" for (task, method), runs in groups(own).items()
    ]
    published = "; published scores beside them" if others else ""
    return f"Environment frames count action repeats. {'; '.join(seeds)}{published}."


def _reaching_section(found: Sequence[Reaching]) -> list[Section]:
    if not found:
        return []
    rows = [
        [
            one.task, f"{one.score:g}", label_of(one.method),
            f"{one.middle:,.0f}" if one.middle is not None else "not reached",
            f"{sum(frames is not None for frames in one.frames)} of {len(one.frames)}",
            ", ".join("-" if frames is None else f"{frames:,.0f}" for frames in one.frames),
        ]
        for one in sorted(found, key=lambda one: (one.task, one.score))
    ]  # fmt: skip
    text = (
        f"The first frame at which the mean of the latest episodes is at least the score: of {EPISODES} (or one "
        f"published point, which is a mean already), or of those in the last {SHARE:.0%} of the frames of the task's "
        "shortest run if those are more. Evaluations count by the mean of their episodes. The median is over seeds; a "
        "run that never reaches the score counts as last."
    )
    header = ["task", "score", "method", "median frames", "seeds that reach it", "each seed"]
    return [Section("Frames to a score", [text, Table(header, rows)])]


def _cost_section(found: Sequence[Cost]) -> Section:
    names = distinct_names([one.run for one in found])
    rows = [
        [
            names[one.run], f"{one.frames:,}", f"{one.updates:,}",
            duration(one.seconds) if one.seconds else "not logged",
            f"{one.frames / one.seconds:,.0f}" if one.seconds else "not logged",
            duration(one.cpu_seconds) if one.cpu_seconds else "not logged",
        ]
        for one in found
    ]  # fmt: skip
    text = "Wall-clock time of the logs, pauses between two processes of a run left out. GPU time is not logged."
    return Section("Cost", [text, Table(["run", "frames", "updates", "time", "frames/s", "CPU time"], rows)])


def _benchmark_section(found: Sequence[Standing], files: Sequence[Path]) -> Section:
    methods = list(dict.fromkeys([*METHODS, *(one.method for one in found)]))
    cells = {(one.benchmark, one.method): one for one in found}
    rows = []
    for benchmark in BENCHMARKS:
        for name in ("IQM", "mean", "median"):
            row = [f"{benchmark.name}: {name}"]
            for method in methods:
                one = cells.get((benchmark, method))
                value = one and {"IQM": one.iqm, "mean": one.mean, "median": one.median}[name]
                row.append(_estimate(value, 2) if value else NO_DATA)
            rows.append(row)
    seen = [one for one in found if one.iqm]
    text = (
        "Multiples of a human's score above random play in the 26 games of Atari 100k after 400k frames, and of the "
        f"largest score, 1000, in DMC after 500k frames; means of the last {SHARE:.0%} of the frames, without runs "
        f"that end long before. {_INTERVALS}"
    )
    counts = "; ".join(
        f"{label_of(one.method)}, {one.benchmark.name}: {counted(one.iqm.tasks, 'task')}, {one.iqm.runs} or more seeds"
        for one in seen
        if one.iqm
    )
    source = f"From {', '.join(file.name for file in files)}. {counts}."
    return Section("Benchmarks", [text, Table(["", *map(label_of, methods)], rows), source])


def _estimate(one: Estimate, digits: int | None = None) -> str:
    """`0.52 [0.48, 0.57]`."""

    def text(value: float) -> str:
        return score_text(value) if digits is None else f"{value:.{digits}f}"

    return text(one.value) if one.low != one.low else f"{text(one.value)} [{text(one.low)}, {text(one.high)}]"
