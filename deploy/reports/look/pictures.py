"""The pictures of `nexus look`. Legend: B images or clips, T frames, S pixels a side, C channels, K neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deploy.reports.look.sheet import OPEN, SEEN, Curves, Row, Scale, errors_over, sheet
from learner.looking.errors import ErrorMaps
from learner.looking.futures import Futures
from learner.looking.layers import Layers
from learner.looking.principal import principal_colours
from replay.counted import counted

COLUMNS = 10
"""Frames of a clip that are shown, at most."""
_COARSEST = 8
"""Rows of patches of the layer that strips show, where there is one as fine."""

Figures = dict[str, Figure]
"""By the file's name."""
Found = tuple[dict[str, Any], Figures]
"""Numbers for look.json, and the pictures."""


def pca(frames: np.ndarray, layers: Layers, title: str, steps: Sequence[int] = ()) -> Found:
    """Principal components as colours: of images by layer; of clips `[B T S S C]` a strip of frames, and by layer.
    `steps`: numbers of the frames from 0, if some are left out."""
    coloured, shares = {}, {}
    for name, features in layers.items():
        found = principal_colours(features.flatten(0, -2))
        coloured[name] = found.values.reshape(*features.shape[:-1], 3).cpu().numpy()
        shares[name] = [round(share, 4) for share in found.shares]
    names = list(layers)
    note = f"three principal components as red, green, blue, fitted to all {counted(len(frames), _one(frames))}"
    middle = frames.shape[1] // 2
    rows = [Row(_one(frames) if frames.shape[1] == 1 else "middle frame", list(frames[:, middle]))]
    rows += [
        Row(
            f"{name}\n{sum(shares[name]):.0%} of variance",
            list(x[:, min(middle * x.shape[1] // frames.shape[1], x.shape[1] - 1)]),
        )
        for name, x in coloured.items()
    ]
    numbers = {"variance_shares": shares, "examples": len(frames)}
    by_layer = sheet(f"{title}: features of patches", note, rows)
    if frames.shape[1] == 1:
        return numbers, {"pca.png": by_layer}
    shown = next((name for name in reversed(names) if coloured[name].shape[2] >= _COARSEST), names[-1])
    return numbers, {
        "pca.png": _strips(
            frames, coloured[shown], f"{title}: features of patches", note, _label(shown, coloured[shown]), steps
        ),
        "pca_layers.png": by_layer,
    }


def _label(name: str, x: np.ndarray) -> str:
    return f"{name}\n{x.shape[2]} x {x.shape[3]} patches"


def _strips(
    frames: np.ndarray, coloured: np.ndarray, title: str, note: str, label: str, steps: Sequence[int]
) -> Figure:
    times = coloured.shape[1]
    each = frames.shape[1] // times  # frames of a tubelet
    chosen = columns(times)
    rows = []
    for number, (clip, colours) in enumerate(zip(frames, coloured, strict=True)):
        rows.append(Row(f"clip {number + 1}", [clip[t * each] for t in chosen], apart=number > 0))
        rows.append(Row(label, [colours[t] for t in chosen]))
    headings = [f"frame {steps[t] + 1}" if steps else _frame(t, each) for t in chosen]
    return sheet(title, note, rows, headings)


def heat(frames: np.ndarray, maps: ErrorMaps, title: str, what: str) -> Found:
    """Errors of patches over the images, or over strips of frames, and those of the trivial prediction."""
    error, trivial = maps.means
    shown = maps.error[: len(frames)], maps.trivial[: len(frames)]
    top = _top(np.concatenate([x.ravel() for x in shown]))
    known = {"error": error, "trivial": trivial, "ratio": error / max(trivial, 1e-12)}
    marks = {} if np.isnan(error) else {"model": error, "trivial": trivial}
    scale = Scale(top, maps.unit, marks)
    numbers = {
        **(known if marks else dict.fromkeys(known)), "unit": maps.unit,
        "trivial_prediction": maps.baseline, "examples": len(maps.error),
    }  # fmt: skip
    note = f"{what}; means of {counted(len(maps.error), _one(frames))} are marked on the scale"
    chosen = columns(shown[0].shape[1])
    at = [maps.first + t * maps.each for t in chosen]
    if frames.shape[1] == 1:
        rows = [Row("image", list(frames[:, 0]))]
        for name, x in zip(_names(maps), shown, strict=True):
            rows.append(Row(name, [errors_over(f, e, top) for f, e in zip(frames[:, 0], x[:, 0], strict=True)]))
        return numbers, {"heat.png": sheet(title, note, rows, scale=scale)}
    rows = []
    for number, clip in enumerate(frames):
        rows.append(Row(f"clip {number + 1}", [clip[t] for t in at], apart=number > 0))
        for name, x in zip(_names(maps), shown, strict=True):
            rows.append(Row(name, [errors_over(clip[f], x[number, t], top) for f, t in zip(at, chosen, strict=True)]))
    headings = [_frame(t, maps.each, maps.first) for t in chosen]
    return numbers, {"heat.png": sheet(title, note, rows, headings, scale=scale)}


def _names(maps: ErrorMaps) -> tuple[str, str]:
    return "model's error", f"error of\n{maps.baseline}"


def neighbours(queries: np.ndarray, found: Sequence[Mapping[str, Any]], title: str, note: str, count: int) -> Figure:
    """Each query `[S S C]` with its nearest by features and by pixels; of these `found` has `pictures` and
    `captions`."""
    rows = []
    for query, by_features, by_pixels in zip(queries, found[0]["rows"], found[1]["rows"], strict=True):
        tiles = [query, *(tile for tile, _ in by_features), *(tile for tile, _ in by_pixels)]
        captions = ["", *(text for _, text in by_features), *(text for _, text in by_pixels)]
        rows.append(Row("", tiles, captions))
    middle = (count - 1) // 2
    headings = ["query", *_over("nearest by features", count, middle), *_over("nearest by raw pixels", count, middle)]
    return sheet(title, note, rows, headings, breaks=(1, 1 + count))


def _over(text: str, count: int, middle: int) -> list[str]:
    return [text if k == middle else "" for k in range(count)]


def rollout(futures: Futures, title: str, note: str) -> Found:
    """Real frames, imagined ones and their errors; below, the mean error by step beside that of the last frame seen."""
    context, shown = futures.context, len(futures.imagined)
    error, copied = futures.curves()
    numbers: dict[str, Any] = {
        "unit": futures.unit, "context": context, "errors": finite(error), "copied": finite(copied),
        "ratio": float(np.nansum(error) / max(float(np.nansum(copied)), 1e-12)) if np.isfinite(error).any() else None,
        "examples": len(futures.errors),
        "looked_up_among": futures.looked_up or None,
    }  # fmt: skip
    top = _top(futures.maps)
    frames = futures.truth.shape[1]
    chosen = [context - 1, *(context + t for t in columns(frames - context, COLUMNS - 1))]
    borders = [SEEN if t < context else OPEN for t in chosen]
    name = "nearest to what\nis imagined" if futures.looked_up else "imagined"
    rows = []
    for number in range(shown):
        truth, imagined, maps = futures.truth[number], futures.imagined[number], futures.maps[number]
        rows.append(Row("real", [truth[t] for t in chosen], apart=number > 0))
        if futures.control is not None:
            rows.append(Row("nearest to what\nis real", [futures.control[number, t] for t in chosen]))
        tiles = [imagined[t] if t < context or np.isfinite(maps[t - context]).all() else None for t in chosen]
        rows.append(Row(name, tiles, frames=borders))
        over = [None if t < context else errors_over(truth[t], maps[t - context], top) for t in chosen]
        rows.append(Row("error", over))
    curves = Curves({"model": error, "last frame seen, repeated": copied}, futures.unit,
                    f"mean error of {counted(len(futures.errors), 'clip')}")  # fmt: skip
    headings = ["seen" if t < context else f"+{t - context + 1}" for t in chosen]
    figure = sheet(title, note, rows, headings, breaks=(1,), scale=Scale(top, futures.map_unit), curves=curves)
    return numbers, {"rollout.png": figure}


def columns(times: int, most: int = COLUMNS) -> list[int]:
    """Evenly spaced times, the first and the last included."""
    return sorted(set(np.linspace(0, times - 1, min(times, most)).round().astype(int).tolist()))


def _one(frames: np.ndarray) -> str:
    return "image" if frames.shape[1] == 1 else "clip"


def _frame(time: int, each: int, first: int = 0) -> str:
    start = first + time * each + 1
    return f"frame {start}" if each == 1 else f"frames {start}-{start + each - 1}"


def _top(errors: np.ndarray) -> float:
    """Where a scale of colours ends; outliers are above."""
    known = errors[np.isfinite(errors)]
    return max(float(np.percentile(known, 99.5)), 1e-6) if len(known) else 1.0


def finite(values: np.ndarray) -> list[float | None]:
    """For look.json, which knows no NaN."""
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]
