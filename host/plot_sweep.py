"""Pictures of a sweep, and how its configurations learned."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from locallearn.host.plot_axes import (
    accuracy_limits,
    epoch_axis,
    legend_below,
    line_styles,
    mark_clipped,
    panels,
    set_title,
)
from locallearn.host.plot_data import read_curves, read_origin
from locallearn.host.plot_fields import field_pictures
from locallearn.host.plot_sweep_data import Sweep, read_sweep, sample_deviation
from locallearn.host.plot_tradeoff import tradeoff

__all__ = ["learning", "sweep_pictures"]

MAX_CURVES = 8
"""Configurations whose learning curves a picture can hold; there are as many colours and markers."""


def sweep_pictures(folder: Path) -> tuple[dict[str, Figure], list[str]]:
    """The pictures by name, and sentences about what is missing. Raises RunError where the folder is damaged."""
    sweep = read_sweep(folder)
    title = sweep.seeds if sweep.seeds == "1 seed" else f"mean and deviation of {sweep.seeds}"
    with_runs = (folder / "trials").is_dir()
    if with_runs:
        origin = read_origin(sweep.configurations[0].folders[0])
        title = f"{origin.spec}: {title}\n{origin.data}"
    pictures, notes = {}, []
    if sweep.missing is not None:
        title += f"\n{sweep.missing}"
        notes.append(sweep.missing)
    if with_runs:
        pictures["learning"] = learning(sweep, title)
    else:
        notes.append(f"{folder} has no trials/, so there are no learning curves")
    if len({c.memory for c in sweep.configurations}) > 1:
        pictures["tradeoff"] = tradeoff(sweep, title)
    else:
        notes.append("all configurations have the same weight memory, so there is no trade-off")
    return pictures | field_pictures(sweep, title), notes


def learning(sweep: Sweep, title: str) -> Figure:
    """Mean accuracy after each epoch, with a band of the deviation over seeds; a panel for every layer."""
    shown = sorted(sweep.configurations, key=lambda c: -c.best)[:MAX_CURVES]
    total = len(sweep.configurations)
    if len(shown) < total:
        title += f"\nthe best {len(shown)} of {total} configurations, by their best layer"
    figure, grid = panels(sweep.layers, 2 if sweep.layers <= 4 else 3, 3.0, "epoch", "held-out accuracy [%]")
    set_title(figure, title)
    runs = [_held_out(c.folders) for c in shown]
    means = [run.mean(0) for run in runs]
    deviations = [sample_deviation(run) for run in runs]
    limits = accuracy_limits(np.concatenate(means, axis=None), np.concatenate(deviations, axis=None))
    longest = max(map(len, means))
    for layer, axes in enumerate(grid):
        axes.set_title(f"layer {layer}")
        axes.set_ylim(limits)
        epoch_axis(axes, longest)
    styles = line_styles(len(shown))
    for mean, deviation, style in zip(means, deviations, styles, strict=True):
        epochs = np.arange(1, len(mean) + 1)
        for layer, axes in enumerate(grid[: mean.shape[1]]):
            axes.plot(epochs, mean[:, layer], **style, markevery=max(1, longest // 12))
            mark_clipped(axes, epochs, mean[:, layer], style["color"])
            band = mean[:, layer] + np.outer([-1, 1], deviation[:, layer])
            axes.fill_between(epochs, *band, color=style["color"], alpha=0.12, lw=0)
    names = [c.name(sweep.fields) for c in shown] if sweep.fields else []
    legend_below(figure, [Line2D([], [], **style) for style in styles[: len(names)]], names)
    return figure


def _held_out(folders: list[Path]) -> NDArray[np.float64]:
    """(seeds, epochs, layers) in %, of the epochs that all seeds have."""
    runs = [read_curves(folder).held_out for folder in folders]
    epochs = min(len(run) for run in runs)
    return np.array([run[:epochs] for run in runs])
