"""Cycles a sample, before anything is simulated: the sequencer's walk, and what it waits for.

    look-up, a row for every event and group | readout, errors, answer | for every group: its errors, its rows | settle
    `--------------- forward ---------------'`------- judging --------'`-------------- learning --------------------'

The next sample's walk goes on beside the judging; it is void if there is something to learn.
"""

from dataclasses import dataclass

from locallearn.fpga.estimate_activity import Activity, LayerActivity
from locallearn.quant.packets import record_size, result_fields
from locallearn.quant.plan import LayerPlan, NetworkPlan
from locallearn.rtl.timing import OPERANDS, READOUT, SUM, WRITTEN, error_cycles, group_cycles, score_cycles

__all__ = ["ChipCycles", "LayerCycles", "estimate_cycles", "estimate_layer_cycles"]


@dataclass(frozen=True)
class LayerCycles:
    """Cycles a sample, on average.

    infer     of a sample without a label
    train     of a sample with one
    learning  of the latter, those that it takes to learn from it, the next sample's rows thrown away included
    """

    infer: float
    train: float
    learning: float


def estimate_layer_cycles(plan: LayerPlan, activity: LayerActivity, single_port: bool) -> LayerCycles:
    """What a layer takes where it waits for no other.

    single_port  weights lie in memories of a single port: a row that is learned takes two cycles
    """
    forward = _forward(plan, activity.events)
    infer = _overlapped(plan, activity.events, _judging(plan, learn=False))
    judging = _judging(plan, learn=True)
    unlearned = _overlapped(plan, activity.events, judging)
    learned = forward + judging + _learning(plan, activity, single_port)
    train = activity.learned * learned + (1 - activity.learned) * unlearned
    return LayerCycles(infer, train, train - unlearned)


def _forward(plan: LayerPlan, events: float) -> float:
    """From the look-up to a sample's last row. A group's last row waits until the group before has been read out."""
    return events + (plan.groups - 1) * max(events, _read_out(plan.lanes))


def _read_out(lanes: int) -> int:
    """From a group's last row until that of the next may be issued."""
    return SUM + lanes + 2


def _judging(plan: LayerPlan, learn: bool) -> int:
    """From a sample's last row to the decision whether it is learned from, with some cycles between the blocks."""
    lanes = plan.neurons - (plan.groups - 1) * plan.lanes
    return SUM + READOUT + lanes + score_cycles(plan) + error_cycles(plan, learn) + 2


def _overlapped(plan: LayerPlan, events: float, judging: int) -> float:
    """From one sample to the next where nothing is learned.

    The slowest of: a walk and its look-up; the way from one decision to the next, where the first group is read out
    after the decision before; and half of what it takes from a decision to the next but one, of which no more than
    the walk is done ahead.
    """
    forward = _forward(plan, events)
    if plan.groups == 1:
        decided: float = judging - SUM
    else:
        decided = plan.lanes + 2 + (plan.groups - 2) * max(events, _read_out(plan.lanes)) + judging
    return max(forward + 1, decided, (2 + forward + judging) / 2)


def _learning(plan: LayerPlan, activity: LayerActivity, single_port: bool) -> float:
    """From the decision to the next sample's look-up. A group that has no error is passed over when that is known."""
    errors = group_cycles(plan)
    rows = (1 + single_port) * activity.events
    # The group behind begins when it is whole, which it could not be before this one had begun.
    group = max(rows + 1 - single_port, errors + OPERANDS - 1)
    last = rows + 1 - single_port + WRITTEN + 1

    def mean(learned: float, passed_over: float) -> float:
        return activity.rows * learned + (1 - activity.rows) * passed_over

    return errors + (plan.groups - 1) * mean(group, errors) + mean(last, 2)


@dataclass(frozen=True)
class ChipCycles:
    """Cycles a sample, on average: those of the slowest part.

    layers   of each layer
    decoder  one a byte that comes, and one for the bias
    results  one a byte that leaves
    """

    layers: tuple[LayerCycles, ...]
    decoder: float
    results: int

    @property
    def infer(self) -> float:
        return max(self.decoder, self.results, *(layer.infer for layer in self.layers))

    @property
    def train(self) -> float:
        return max(self.decoder, self.results, *(layer.train for layer in self.layers))


def estimate_cycles(plan: NetworkPlan, activity: Activity, single_port: bool) -> ChipCycles:
    """What the chip takes for a sample of many: its parts work side by side."""
    layers = (estimate_layer_cycles(*layer, single_port) for layer in zip(plan.layers, activity.layers, strict=True))
    results = 1 + len(plan.layers) * record_size(result_fields(plan))
    return ChipCycles(tuple(layers), activity.bytes + 1, results)
