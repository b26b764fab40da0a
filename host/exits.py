"""Early exit: what a trained network loses and saves when samples stop at the first layer that is sure of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from locallearn.host.build_table import plain_table
from locallearn.host.datasets import Dataset
from locallearn.host.device import Device
from locallearn.host.train import Display

__all__ = ["ExitPoint", "best_point", "exit_table", "measure_exits"]


_ALONE = 1000
"""Samples that are sent one by one: each waits for the result of the one before."""


@dataclass(frozen=True)
class ExitPoint:
    """The held-out samples at one threshold.

    odds      at which they stop, see `NetworkPlan.exits`; None: all go through all layers
    accuracy  of the layer that answers, in %
    answered  share of the samples that each layer answers, in %
    words     weights that are read for a sample, of all layers together
    cycles    of the chip for a sample, one close behind another; None on a model
    latency   cycles from a sample's first byte to its result's last, alone in the chip, the mean of the first _ALONE;
              None on a model
    """

    odds: float | None
    accuracy: float
    answered: list[float]
    words: float
    cycles: float | None
    latency: float | None


def measure_exits(device: Device, data: Dataset, odds: Sequence[float], display: Display) -> list[ExitPoint]:
    """All of `odds`, then without any exit. The device keeps its weights."""
    points = []
    for ratio in (*odds, None):
        name = "no exit" if ratio is None else f"odds of {ratio:g}"
        device.set_exits(device.plan.exits(odds=ratio))
        device.clear_counters()
        results = device.stream(data.test_x, None, display.task(name, len(data.test_x)))
        counters = device.counters()
        samples = len(results)
        layers = zip(device.plan.layers, counters.layers, strict=True)
        points.append(
            ExitPoint(
                ratio,
                results.accuracy(data.test_y)[-1],
                [round(share, 2) for share in results.shares(len(device.plan.layers))],
                round(sum(plan.lanes * layer.words_read for plan, layer in layers) / samples, 2),
                None if counters.cycles is None else round(counters.cycles / samples, 2),
                None if counters.cycles is None else _latency(device, data.test_x[:_ALONE], display),
            )
        )
    return points


def _latency(device: Device, pixels: NDArray[np.uint8], display: Display) -> float:
    """Cycles a sample, one by one."""
    device.clear_counters()
    progress = display.task("one by one", len(pixels))
    for number in range(len(pixels)):
        device.stream(pixels[number : number + 1], None)
        progress(number + 1)
    cycles = device.counters().cycles
    assert cycles is not None
    return round(cycles / len(pixels), 2)


def best_point(points: Sequence[ExitPoint], lose: float) -> ExitPoint:
    """The one that reads fewest weights of those that lose no more than `lose` % of accuracy against no exit."""
    whole = points[-1].accuracy
    return min((point for point in points if whole - point.accuracy <= lose + 1e-9), key=lambda point: point.words)


def exit_table(points: Sequence[ExitPoint]) -> Table:
    """A row for each threshold."""
    layers = range(len(points[0].answered))
    timed = points[0].cycles is not None
    titles = ["accuracy\n[%]", "lost\n[%]", *(f"by layer {layer}\n[%]" for layer in layers), "weights\nread"]
    table = plain_table("odds", *titles, *(["cycles", "latency\n[cycles]"] if timed else []))
    for point in points:
        table.add_row(
            "no exit" if point.odds is None else f"{point.odds:g}",
            f"{point.accuracy:.2f}",
            f"{points[-1].accuracy - point.accuracy:.2f}",
            *(f"{share:.1f}" for share in point.answered),
            f"{point.words:.0f}",
            *(f"{cycles:.1f}" for cycles in (point.cycles, point.latency) if cycles is not None),
        )
    return table
