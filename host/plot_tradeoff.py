"""The picture of what accuracy costs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from locallearn.host.plot_axes import (
    ERROR_BARS,
    MARKERS,
    REACH,
    WIDTH,
    accuracy_limits,
    colours,
    legend_below,
    mark_clipped,
    number_axis,
    set_title,
)
from locallearn.host.plot_sweep_data import Configuration, Sweep, field_name

__all__ = ["tradeoff"]

MAX_NAMED = 12
"""Values of a field that a legend can name."""


def tradeoff(sweep: Sweep, title: str) -> Figure:
    """The best layer's accuracy against the weights' memory, a point for every configuration.

    Colours tell the first field and markers the others; the legend says where they are too many for markers.
    """
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    set_title(figure, title)
    axes = figure.subplots()
    _, mean, deviation = _points(sweep.configurations)
    axes.set_ylim(accuracy_limits(mean, deviation, REACH))
    axes.set_xlabel("weight memory [kbit]")
    axes.set_ylabel("held-out accuracy of the best layer [%]")

    fields = _marked_fields(sweep)
    hued, shaped = fields[:1], fields[1:]
    unmarked = None
    if len(sweep.groups(shaped)) > len(MARKERS):
        unmarked = f"not told apart: {', '.join(map(field_name, shaped))}"
        shaped = []
    hues, shapes = sweep.groups(hued), sweep.groups(shaped)
    colour = dict(zip(hues, colours(len(hues), any(map(sweep.is_numeric, hued))), strict=True))
    marker = dict(zip(shapes, MARKERS, strict=False))
    for group in sweep.groups(hued + shaped).values():
        hue, shape = group[0].name(hued), group[0].name(shaped)
        memory, mean, deviation = _points(group)
        axes.errorbar(memory, mean, deviation, **ERROR_BARS, ls="", marker=marker[shape], ms=5, color=colour[hue])
        mark_clipped(axes, memory, mean, colour[hue])
    number_axis(axes.xaxis, [c.memory / 1000 for c in sweep.configurations])
    legend = {h: Line2D([], [], ls="", marker="o", color=colour[h]) for h in _some(list(hues))}
    if shaped:
        legend |= {s: Line2D([], [], ls="", marker=marker[s], color="#555555") for s in shapes}
    legend_below(figure, list(legend.values()), list(legend), unmarked)
    return figure


def _points(configurations: Sequence[Configuration]) -> tuple[NDArray[np.float64], ...]:
    """Memory in kbit, mean and deviation of the best layer in %: (configurations,) each."""
    best = [int(c.mean.argmax()) for c in configurations]
    return (
        np.array([c.memory / 1000 for c in configurations]),
        np.array([c.mean[layer] for c, layer in zip(configurations, best, strict=True)]),
        np.array([c.deviation[layer] for c, layer in zip(configurations, best, strict=True)]),
    )


def _marked_fields(sweep: Sweep) -> list[str]:
    """All but the numbers that the memory tells already, such as the weights' bits; where there is no other, one."""
    memories = len({c.memory for c in sweep.configurations})
    pairs = {f: len({(c.memory, c.names[f]) for c in sweep.configurations}) for f in sweep.fields}
    return [f for f in sweep.fields if pairs[f] > memories or not sweep.is_numeric(f)] or sweep.fields[:1]


def _some(names: list[str]) -> list[str]:
    """All names, or so many of them, evenly spaced, as a legend has room for."""
    if len(names) <= MAX_NAMED:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, MAX_NAMED).round().astype(int)]
