"""How many words a training sample moves: by backpropagation, by local errors, and on the chip, which passes over
zeros and over samples that leave no error."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from locallearn.fpga.estimate_activity import Activity, dense
from locallearn.host.build_table import plain_table
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.plan import NetworkPlan

__all__ = ["Traffic", "chip_traffic", "paper_traffic", "traffic_rows", "traffic_table"]


@dataclass(frozen=True)
class Traffic:
    """For a training sample, on average.

    reads, writes  of words: a weight, or an activation that waits for its error
    operations     multiplications, and additions in classifiers
    """

    reads: float
    writes: float
    operations: float


def paper_traffic(plan: NetworkPlan, batch: int) -> tuple[Traffic, Traffic]:
    """(backpropagation, local errors), both for dense inputs, as the paper counts them for a minibatch:

                    backpropagation          local errors
        reads       sum(2 P_i + a_i)         sum P_i
        writes      sum(P_i + a_i)           sum P_i
        operations  3 sum(R_i-1 a_i-1)       sum(2 R_i-1 a_i-1 + 2 C a_i)

    P_i parameters of layer i, a_i its activations and R_i their fan-out, C classes. A layer's own activations are at
    hand while it is at work; parameters come once a pass. Backpropagation has an output layer more; the classifiers of
    local errors come from a generator, and see the features of a convolution.

    Source: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local errors" (2017); its table could only be
    had in its text's words.
    """
    local = sum(p.fan_in * p.neurons for p in plan.layers)
    last = plan.layers[-1]
    output = (last.outputs + 1) * last.classes
    kept = sum(p.outputs for p in plan.layers)
    forward = sum(p.places * (p.fan_in - 1) * p.neurons for p in plan.layers)
    return (
        Traffic(
            2 * (local + output) / batch + kept,
            (local + output) / batch + kept,
            3 * (forward + last.outputs * last.classes),
        ),
        Traffic(local / batch, local / batch, 2 * forward + 2 * last.classes * sum(p.features for p in plan.layers)),
    )


def chip_traffic(plan: NetworkPlan, activity: Activity) -> Traffic:
    """What the chip does for samples of this activity: a row of weights (one a lane) is read for every event and group
    of neurons, and once more, and written, where there is an error to learn from; all of a convolution's once in this
    case, when the errors of all places have met what the lanes see there. Every feature passes its classifier.
    """
    reads = writes = operations = 0.0
    for p, layer in zip(plan.layers, activity.layers, strict=True):
        forward = layer.met * p.groups * p.lanes
        learning = forward * layer.learned * layer.rows
        conv = isinstance(p, ConvPlan)
        written = p.weight_rows * p.lanes * layer.learned * layer.rows if conv else learning
        reads += forward + written
        writes += written
        operations += forward + learning + p.classes * p.features * (1 + layer.learned)
    return Traffic(reads, writes, operations)


def traffic_rows(
    plan: NetworkPlan, activity: Activity, batch: int, counters: Mapping[str, Any] | None
) -> dict[str, Traffic]:
    """By name: the paper's two, then the chip's as one thing after the other is passed over.

    counters  of the run that the activity was counted in; where a chip ran it, a row more has what it read ahead of an
              error that then made it void
    """
    backprop, local = paper_traffic(plan, batch)
    everything = dense(plan)
    zeros_skipped = tuple(replace(layer, learned=1, rows=1) for layer in activity.layers)
    passed_over = chip_traffic(plan, activity)
    rows = {
        f"backpropagation, batch {batch}": backprop,
        f"local errors, batch {batch}": local,
        "chip, nothing passed over": chip_traffic(plan, everything),
        "chip, zeros passed over": chip_traffic(plan, Activity("", 0, zeros_skipped)),
        "chip, and learning without error": passed_over,
    }
    if counters and counters["cycles"] is not None:
        layers = zip(plan.layers, counters["layers"], strict=True)
        void = sum(p.lanes * layer["discarded"] for p, layer in layers) / counters["samples"]
        rows["chip, rows read in vain included"] = replace(
            passed_over, reads=passed_over.reads + void, operations=passed_over.operations + void
        )
    return rows


def traffic_table(rows: Mapping[str, Traffic]) -> Table:
    """The last columns: how many times a row's words, and its operations, the first row has."""
    table = plain_table("a training sample", "reads", "writes", "words\n1 / n", "operations", "\n1 / n")
    first = next(iter(rows.values()))
    for name, row in rows.items():
        words = (first.reads + first.writes) / (row.reads + row.writes)
        reads, writes, operations = (f"{value:,.0f}" for value in (row.reads, row.writes, row.operations))
        table.add_row(name, reads, writes, f"{words:.3g}", operations, f"{first.operations / row.operations:.3g}")
    return table
