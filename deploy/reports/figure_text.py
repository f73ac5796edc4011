"""Fits names that users chose into figures, whose font lacks some letters and whose legend has limited space."""

import math
from functools import cache
from itertools import accumulate

from matplotlib.font_manager import findfont, get_font

from deploy.reports.figure_style import STYLE

_INCH = 0.085  # approximate width of a letter in the legend
_BESIDE = 0.55  # inches that an entry takes besides its text


def shortened(name: str, most: int) -> str:
    """`name` in at most `most` letters of the figures' font. Names differ at their ends, so the middle is cut."""
    shown = "".join(letter if ord(letter) in _letters() else f"<U+{ord(letter):04X}>" for letter in name)
    shown = shown.lstrip("_") or shown or "?"  # matplotlib hides labels that begin with an underscore
    half = (most - 1) // 2
    return shown if len(shown) <= most else f"{shown[:half]}…{shown[-half:]}"


def legend_lines(labels: list[str], width: float) -> int:
    """Number of lines that a legend of `width` inches needs; every column is as wide as its widest entry."""
    if sum(_INCH * len(label) + _BESIDE for label in labels) <= width:
        return 1
    columns = next(n for n in range(len(labels), 0, -1) if n == 1 or _fits(labels, n, width))
    return math.ceil(len(labels) / columns)


def _fits(labels: list[str], columns: int, width: float) -> bool:
    rows = math.ceil(len(labels) / columns)
    widest = [max(map(len, labels[i : i + rows])) for i in range(0, len(labels), rows)]
    return list(accumulate(_INCH * letters + _BESIDE for letters in widest))[-1] <= width


@cache
def _letters() -> frozenset[int]:
    font = get_font(findfont(STYLE["font.family"]))
    return frozenset(code for code in font.get_charmap() if code >= 32)
