"""How every picture looks: colours, limits, panels, legends."""

from collections.abc import Sequence
from itertools import cycle
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

__all__ = [
    "CLIPPED",
    "ERROR_BARS",
    "MARKERS",
    "REACH",
    "STYLE",
    "WIDTH",
    "accuracy_limits",
    "colours",
    "epoch_axis",
    "legend_below",
    "line_styles",
    "mark_clipped",
    "number_axis",
    "panels",
    "set_title",
]

REACH = 8.0
"""For `accuracy_limits` of trained networks."""

WIDTH = 8.0
"""Inches; at 100 dots an inch the width of a README."""

# Only newer releases of matplotlib have a type for its keys.
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    # The same numbers give the same file.
    "svg.hashsalt": "locallearn",
}

# Okabe and Ito's, which the colour-blind can tell apart; grey in the place of yellow, which white paper swallows.
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c")

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")

CLIPPED = "_clipped"
"""The label of triangles; legends leave out what begins with an underscore."""

ERROR_BARS: dict[str, Any] = {"capsize": 2.5, "elinewidth": 0.9, "capthick": 0.9}


def colours(count: int, ordered: bool = False) -> list[str]:
    """As many colours; from dark to bright for things that have an order, and for more than the palette holds."""
    if count <= len(_PALETTE) and not ordered:
        return list(_PALETTE[:count])
    return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0, 0.88, count)]


def line_styles(count: int, ordered: bool = False) -> list[dict[str, Any]]:
    """Of as many lines: what colours tell, markers tell as well."""
    return [
        {"color": colour, "marker": marker, "ms": 4.5, "lw": 1.5}
        for colour, marker in zip(colours(count, ordered), cycle(MARKERS), strict=False)
    ]


def accuracy_limits(
    mean: NDArray[np.float64], deviation: NDArray[np.float64] | None = None, reach: float = 3
) -> tuple[float, float]:
    """Of an axis for `mean` and its error bars, in %, where NaN does not count.

    What is far below the rest must not squash it: the lower limit is the lowest value, but no further below the
    highest than `reach` times the median's distance. First epochs are far below; of configurations, which have all
    been trained, most of them should be seen: REACH.
    """
    values = mean if deviation is None else np.concatenate([mean, mean - deviation, mean + deviation])
    values = values[np.isfinite(values)]
    high = float(values.max())
    distance = high - float(np.median(values))
    low = float(values.min())
    if distance > 0:
        low = max(low, high - reach * distance)
    room = max(0.06 * (high - low), 0.1)
    return low - room, high + room


def epoch_axis(axes: Axes, last: int) -> None:
    """Whole epochs from 1 to `last`."""
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))


def number_axis(axis: Axis, numbers: Sequence[float]) -> None:
    """The x axis of `numbers`: a logarithm where they span decades, ticks at each where whole ones have the room.

    Call it when all is drawn: without data matplotlib cannot scale a logarithm.
    """
    places = np.unique(numbers)
    if places[0] > 0 and places[-1] >= 20 * places[0]:
        axis.axes.set_xscale("log")
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
    elif (places % 1 == 0).all() and (np.diff(places) * 12 >= np.ptp(places)).all():
        axis.set_major_locator(FixedLocator(places.tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def mark_clipped(axes: Axes, x: NDArray[Any], y: NDArray[np.float64], colour: str, face: str | None = None) -> None:
    """A triangle on the lower edge for every point below it; call when the limits are set."""
    below = y < axes.get_ylim()[0]
    if below.any():
        edge = np.full(below.sum(), 0.018)
        across = axes.get_xaxis_transform()
        axes.plot(
            x[below], edge, "v", color=colour, mfc=face or colour, ms=6, transform=across, label=CLIPPED, zorder=5
        )


def panels(count: int, columns: int, height: float, x: str, y: str) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of `height` inches, their axes shared and named `x` and `y`."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, rows * height + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count:columns]:
        axes.set_ylabel(y)
    for axes in grid[count - columns : count]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(x)
    return figure, list(grid[:count])


def set_title(figure: Figure, text: str) -> None:
    """Of the whole figure, which grows by it; lines that are wider than the figure are broken."""
    lines = "\n".join(fill(line, 90) for line in text.splitlines())
    figure.suptitle(lines)
    _grow(figure, lines.count("\n") + 1)


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str | None = None) -> None:
    """Below all panels in as many columns as there is room for; the figure grows by it. It explains triangles too."""
    handles, labels = list(handles), [fill(label, 90) for label in labels]
    if any(line.get_label() == CLIPPED for axes in figure.axes for line in axes.lines):
        handles.append(Line2D([], [], ls="", marker="v", color="#555555"))
        labels.append("below the axis")
    if not labels:
        return
    columns = max(1, min(len(labels), 6, round(100 / (max(map(len, labels)) + 8))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title, fontsize=9, title_fontsize=9)
    _grow(figure, -(-sum(label.count("\n") + 1 for label in labels) // columns))


def _grow(figure: Figure, lines: int) -> None:
    """Room for so many lines of text, which would otherwise be taken from the panels."""
    figure.set_figheight(figure.get_figheight() + 0.2 * lines)
