"""Pictures of one run: how it learned, what it mistakes for what, and what early exit saves."""

from math import inf
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from locallearn.host.plot_axes import (
    WIDTH,
    accuracy_limits,
    colours,
    epoch_axis,
    legend_below,
    line_styles,
    mark_clipped,
    panels,
    set_title,
)
from locallearn.host.plot_data import Curves, ExitCurve, Origin, read_curves, read_exits, read_origin
from locallearn.host.run import Run

__all__ = ["confusion", "exits", "learning", "run_pictures"]

MAX_COUNTED = 20
"""Classes up to which a confusion matrix has room for its counts."""


def run_pictures(folder: Path) -> tuple[dict[str, Figure], list[str]]:
    """The pictures by name, and sentences about what is missing. Raises RunError where the folder is damaged."""
    origin = read_origin(folder)
    pictures = {"learning": learning(read_curves(folder), origin)}
    if (folder / "exits.json").exists():
        pictures["exits"] = exits(read_exits(folder), origin)
    if not (folder / "confusion.npz").exists():
        return pictures, [f"{folder} has no confusion.npz, so there is no confusion matrix"]
    pictures["confusion"] = confusion(Run(folder).confusion(), origin)
    return pictures, []


def learning(curves: Curves, origin: Origin) -> Figure:
    """Accuracy of every layer after each epoch; below it decay and samples learned from."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    set_title(figure, f"{origin.spec}, seed {origin.seed}\n{origin.data}")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    layers = curves.held_out.shape[1]
    marker = "o" if len(curves.epochs) <= 30 else ""
    above.set_ylim(accuracy_limits(np.concatenate([curves.held_out, curves.train])))
    for layer, colour in enumerate(colours(layers)):
        held_out, train = curves.held_out[:, layer], curves.train[:, layer]
        above.plot(curves.epochs, held_out, marker=marker, ms=4, lw=1.8, color=colour, label=f"layer {layer}", zorder=3)
        above.plot(curves.epochs, train, "--", marker=marker and ".", ms=4, lw=0.9, color=colour, label="_training")
        mark_clipped(above, curves.epochs, train, colour, "white")
        mark_clipped(above, curves.epochs, held_out, colour)
        below.plot(curves.epochs, curves.learned[:, layer], lw=1.4, marker=marker, ms=3, color=colour)
    above.set_ylabel("accuracy [%]")
    below.set_ylabel("learned from\n[% of samples]")
    below.set_ylim(bottom=0)
    below.set_xlabel("epoch")
    epoch_axis(below, int(curves.epochs[-1]))
    if curves.decay.any():
        _add_decay(below, curves)
    handles, labels = above.get_legend_handles_labels()
    handles.append(Line2D([], [], marker=marker, ms=4, lw=1.8, color="#555555"))
    handles.append(Line2D([], [], ls="--", marker=marker and ".", ms=4, lw=0.9, color="#555555"))
    legend_below(figure, handles, [*labels, "held out", "training"])
    return figure


def _add_decay(axes: Axes, curves: Curves) -> None:
    """A grey step behind the curves, with its own scale on the right; lines in their colours if layers differ."""
    behind = axes.twinx()
    behind.grid(False)
    edges = np.append(curves.epochs - 0.5, curves.epochs[-1] + 0.5)
    behind.stairs(curves.decay.max(axis=1), edges, fill=True, color="#e2e2e2", label="decay")
    if np.ptp(curves.decay, axis=1).any():
        for decay, colour in zip(curves.decay.T, colours(curves.decay.shape[1]), strict=True):
            behind.stairs(decay, edges, lw=0.8, color=colour, baseline=None)
    behind.set_ylim(0, 1.25 * curves.decay.max())
    behind.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    behind.set_ylabel("decay [bits]", color="#777777")
    behind.tick_params(colors="#777777")
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def exits(curve: ExitCurve, origin: Origin) -> Figure:
    """Accuracy against what a sample costs, a point for every threshold; below it the layers that answer."""
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    set_title(figure, f"{origin.spec}, seed {origin.seed}, early exit\n{curve.data}")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    above.set_ylim(accuracy_limits(curve.accuracy, reach=inf))
    above.axhline(curve.accuracy[-1], lw=0.9, ls="--", color="#555555")
    above.plot(curve.cost, curve.accuracy, marker="o", ms=4, lw=1.5, color=colours(1)[0])
    for name, place in zip(curve.names, zip(curve.cost, curve.accuracy, strict=True), strict=True):
        above.annotate(name, place, (4, -11), textcoords="offset points", fontsize=8)
    above.set_ylabel("held-out accuracy [%]")
    for layer, style in enumerate(line_styles(curve.answered.shape[1])):
        below.plot(curve.cost, curve.answered[:, layer], label=f"by layer {layer}", **style)
    below.set_ylabel("answered [%]")
    below.set_ylim(-4, 104)
    below.set_xlabel(f"{curve.unit}, mean")
    handles, labels = below.get_legend_handles_labels()
    legend_below(figure, handles, labels, "points are named by their odds, best class to second")
    return figure


def confusion(counts: list[NDArray[np.int64]], origin: Origin) -> Figure:
    """Confusion matrices, coloured by their share of the label's samples: of up to 4 layers, else of the last."""
    layers = range(len(counts)) if len(counts) <= 4 else [len(counts) - 1]
    classes = len(counts[0])
    # Counts of more than ten classes need the whole width.
    columns = 1 if 10 < classes <= MAX_COUNTED else 2
    wide = columns == 1 or len(layers) == 1
    figure, grid = panels(len(layers), columns, 6.6 if wide else 3.7, "predicted class", "label")
    set_title(figure, f"{origin.spec}, seed {origin.seed}\n{origin.data}")
    for layer, axes in zip(layers, grid, strict=True):
        image = _matrix(axes, counts[layer], 9 if wide else 7)
        axes.set_title(f"layer {layer}: {100 * np.trace(counts[layer]) / max(1, counts[layer].sum()):.2f} %")
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=40, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("of the label's samples [%]")
    return figure


def _matrix(axes: Axes, counts: NDArray[np.int64], size: int) -> AxesImage:
    """One matrix with its counts in letters of `size` points, where there is room for them."""
    classes = len(counts)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # Mistakes are few: a root makes 1 % of a row visible beside 98 %.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 100))
    axes.grid(False)
    if classes <= MAX_COUNTED:
        axes.set_xticks(range(classes))
        axes.set_yticks(range(classes))
        for (label, predicted), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[label, predicted] > 25 else "#222222"
                axes.text(predicted, label, str(count), ha="center", va="center", fontsize=size, color=colour)
    return image
