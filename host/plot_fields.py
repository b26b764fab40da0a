"""Pictures of a sweep's accuracy against what it varied."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from locallearn.host.plot_axes import (
    ERROR_BARS,
    REACH,
    accuracy_limits,
    legend_below,
    line_styles,
    mark_clipped,
    number_axis,
    panels,
    set_title,
)
from locallearn.host.plot_sweep_data import Configuration, Sweep, field_name

__all__ = ["against", "field_pictures", "heat_map"]

MAX_LINES = 8
"""Lines that one panel can hold."""

MAX_WRITTEN = 16
"""Columns up to which a heat map has room for its numbers."""

UNITS = {"shift": "pixels", "cutout": "pixels", "rate_shift": "bits", "score_shift": "bits", "init_shift": "bits"}
"""Of fields, by the end of their path."""


def field_pictures(sweep: Sweep, title: str) -> dict[str, Figure]:
    """By name: `bits` for formats of weights and activations, FIELD where one number varies, `heatmap` for two."""
    numeric = [f for f in sweep.fields if sweep.is_numeric(f)]
    weight = [f for f in numeric if f in ("weight", "weight.bits")]
    activation = [f for f in numeric if f in ("activation", "activation.bits")]
    if weight and activation:
        return {"bits": against(sweep, weight[0], activation[:1], title)}
    if len(numeric) == 1:
        others = [f for f in sweep.fields if f not in numeric]
        return {numeric[0].replace("*", "all"): against(sweep, numeric[0], others, title)}
    if len(numeric) == 2:
        return {"heatmap": heat_map(sweep, numeric[0], numeric[1], title)}
    return {}


def against(sweep: Sweep, field: str, others: Sequence[str], title: str) -> Figure:
    """Accuracy against a numeric field: a line for every layer, or a panel where the lines are `others`' values.

    Where still other fields vary, every point is the best of their configurations, by its best layer.
    """
    groups = sweep.groups(others)
    ranked = sorted(groups, key=lambda name: -max(c.best for c in groups[name]))[:MAX_LINES]
    lines = {name: _points(sweep, group, field) for name, group in groups.items() if name in ranked}
    if len(lines) < len(groups):
        title += f"\nthe best {len(lines)} of {len(groups)} lines, by their best layer"
    title += _best_of_others(sweep, [field, *others])
    names = (_axis_name(sweep, field), "held-out accuracy [%]")
    if others:
        figure, grid = panels(sweep.layers, 2 if sweep.layers <= 4 else 3, 3.2, *names)
        styles = line_styles(len(lines), all(map(sweep.is_numeric, others)))
    else:
        figure, (axes,) = panels(1, 1, 4.0, *names)
        grid = [axes] * sweep.layers
        styles = line_styles(sweep.layers)
    set_title(figure, title)
    _, means, deviations = zip(*lines.values(), strict=True)
    limits = accuracy_limits(np.concatenate(means), np.concatenate(deviations), REACH)
    for axes in grid:
        axes.set_ylim(limits)
    for line, (numbers, mean, deviation) in enumerate(lines.values()):
        for layer, axes in enumerate(grid):
            style = styles[line if others else layer]
            axes.errorbar(numbers, mean[:, layer], deviation[:, layer], **ERROR_BARS, **style)
            mark_clipped(axes, numbers, mean[:, layer], style["color"])
            if others:
                axes.set_title(f"layer {layer}")
    for axes in grid:
        number_axis(axes.xaxis, [c.number(field) or 0.0 for c in sweep.configurations])
    labels = list(lines) if others else [f"layer {layer}" for layer in range(sweep.layers)]
    legend_below(figure, [Line2D([], [], **style) for style in styles], labels)
    return figure


def heat_map(sweep: Sweep, x: str, y: str, title: str) -> Figure:
    """Accuracy of every layer over two numeric fields; white where there is no configuration.

    Where still other fields vary, every cell is the best of their configurations, by its best layer.
    """
    rows = sorted({c.number(y) or 0.0 for c in sweep.configurations})
    columns = sorted({c.number(x) or 0.0 for c in sweep.configurations})
    cells, deviations = np.full((2, sweep.layers, len(rows), len(columns)), np.nan)
    for row, value in enumerate(rows):
        numbers, mean, deviation = _points(sweep, [c for c in sweep.configurations if c.number(y) == value], x)
        filled = np.searchsorted(columns, numbers)
        cells[:, row, filled], deviations[:, row, filled] = mean.T, deviation.T
    across = 1 if len(columns) > 8 else 2
    height = 0.7 + 0.42 * len(rows)
    figure, grid = panels(sweep.layers, across, height, _axis_name(sweep, x), _axis_name(sweep, y))
    set_title(figure, title + _best_of_others(sweep, [x, y]))
    low, high = accuracy_limits(cells, reach=REACH)
    for layer, axes in enumerate(grid):
        image = axes.imshow(cells[layer], cmap="viridis", vmin=low, vmax=high, origin="lower", aspect="auto")
        axes.grid(False)
        axes.set_title(f"layer {layer}")
        axes.set_xticks(range(len(columns)), [f"{n:g}" for n in columns])
        axes.set_yticks(range(len(rows)), [f"{n:g}" for n in rows])
        if len(columns) <= MAX_WRITTEN:
            _write(axes, cells[layer], deviations[layer], (low + high) / 2)
    bar = figure.colorbar(image, ax=grid, extend="min" if np.nanmin(cells) < low else "neither")
    bar.set_label("held-out accuracy [%]")
    return figure


def _write(axes: Axes, cells: NDArray[np.float64], deviations: NDArray[np.float64], middle: float) -> None:
    """Every cell's number, its deviation below; white on what is darker than `middle`."""
    for (row, column), accuracy in np.ndenumerate(cells):
        if np.isfinite(accuracy):
            deviation = deviations[row, column]
            text = f"{accuracy:.2f}" + (f"\n±{deviation:.2f}" if np.isfinite(deviation) else "")
            colour = "white" if accuracy < middle else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _points(
    sweep: Sweep, configurations: Sequence[Configuration], field: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The field's numbers (n,), ascending, mean and deviation (n, layers) in % of the best configuration at each.

    NaN where a configuration has not so many layers.
    """
    best: dict[float, Configuration] = {}
    for c in sorted(configurations, key=lambda c: c.best):
        best[c.number(field) or 0.0] = c
    numbers = np.array(sorted(best))
    mean, deviation = np.full((2, len(numbers), sweep.layers), np.nan)
    for place, value in enumerate(numbers):
        layers = len(best[value].mean)
        mean[place, :layers] = best[value].mean
        deviation[place, :layers] = best[value].deviation
    return numbers, mean, deviation


def _best_of_others(sweep: Sweep, shown: Sequence[str]) -> str:
    """A line for the title where more varies than is shown."""
    others = [field_name(f) for f in sweep.fields if f not in shown]
    return f"\neach the best of {', '.join(others)}" if others else ""


def _axis_name(sweep: Sweep, field: str) -> str:
    name = field_name(field).replace(".", " ")
    unit = UNITS.get(field.rpartition(".")[2])
    if any(isinstance(c.values[field], dict) for c in sweep.configurations):
        return f"{name} bits"
    return f"{name} [{unit}]" if unit else name
