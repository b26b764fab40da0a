"""Cycles a sample, before anything is simulated: the sequencer's walk, and what it waits for.

    look-up, a row for every event and group | readout, errors, answer | for every group: its errors, its rows | settle
    `--------------- forward ---------------'`------- judging --------'`-------------- learning --------------------'

The next sample's walk goes on beside the judging; it is void if there is something to learn.

A convolution begins its next sample when it has done with the one before. It walks over what its windows have that is
not zero, group by group, and over the same once more for what it learns.
"""

from dataclasses import dataclass

from locallearn.fpga.estimate_activity import Activity, LayerActivity
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.frames import MAX_PAYLOAD
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.packets import result_size
from locallearn.quant.plan import NetworkPlan
from locallearn.rtl.timing import (
    OPERANDS,
    READOUT,
    SAY_CYCLES,
    SLOT_CYCLES,
    SUM,
    WRITTEN,
    error_cycles,
    group_cycles,
    score_cycles,
)

__all__ = ["ChipCycles", "LayerCycles", "estimate_cycles", "estimate_layer_cycles"]


MATRIX = 12
"""From the last group's errors to a matrix that is learned, beside the walks over the group and over all rows."""

WALK = 10
"""From the order for a convolution's pass to its first input at the lanes."""

FEATURES = 12
"""From a convolution's last activation, through pool and queue, to its first feature."""

HANDOVER = 6
"""From a layer's last activation to the first row of the next."""


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
    if isinstance(plan, ConvPlan):
        return _conv_cycles(plan, activity)
    forward = _forward(plan, activity.events)
    infer = _overlapped(plan, activity.events, _judging(plan, learn=False))
    judging = _judging(plan, learn=True)
    unlearned = _overlapped(plan, activity.events, judging)
    learned = forward + judging + _learning(plan, activity, single_port)
    train = activity.learned * learned + (1 - activity.learned) * unlearned
    return LayerCycles(infer, train, train - unlearned)


def _conv_cycles(plan: ConvPlan, activity: LayerActivity) -> LayerCycles:
    conv, (_, _, channels), (place_rows, _, _) = plan.conv, plan.input_map, plan.convolved_map
    # A window's words are looked up one a cycle, with ones or without, and its sum has to be read out.
    look_up = conv.kernel**2 * plan.channel_words + 1
    windows = plan.places * plan.groups
    forward = WALK + windows * max(activity.met / plan.places, look_up, _read_out(plan.lanes))
    passing = SUM + READOUT + plan.lanes + FEATURES + plan.features + score_cycles(plan) + plan.sums_scores
    unlearned, judged = (forward + passing + error_cycles(plan, learn) + 2 for learn in (False, True))
    rows = activity.rows * plan.weight_rows
    tokens = max(activity.met * plan.groups * activity.rows, rows * place_rows * plan.column_words)
    learning = group_cycles(plan) + WALK + tokens + rows + 2 * WRITTEN
    if plan.classifier.learns:
        learning = max(learning, 2 * plan.features + MATRIX)
    # The next sample's map: an event takes three cycles, a word of its masks one.
    pixels, words = plan.input_map[0] * plan.input_map[1], plan.input_map[0] * plan.column_words
    arriving = 3 * activity.events + pixels * plan.channel_words + words * (channels + 1)
    train = max(arriving, judged + activity.learned * learning)
    return LayerCycles(max(arriving, unlearned), train, activity.learned * learning)


def _forward(plan: LayerPlan, events: float) -> float:
    """From the look-up to a sample's last row. A group's last row waits until the group before has been read out."""
    return events + (plan.groups - 1) * max(events, _read_out(plan.lanes))


def _read_out(lanes: int) -> int:
    """From a group's last row until that of the next may be issued."""
    return SUM + lanes + 2


def _judging(plan: LayerPlan, learn: bool) -> int:
    """From a sample's last row to the decision whether it is learned from, with some cycles between the blocks."""
    return _passing(plan) + score_cycles(plan) + error_cycles(plan, learn) + 2


def _passing(plan: LayerPlan) -> int:
    """From a sample's last row until its last activation has left."""
    return SUM + READOUT + plan.neurons - (plan.groups - 1) * plan.lanes


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

    before_last = (plan.groups - 1) * mean(group, errors)
    learned = errors + before_last + mean(last, 2)
    if plan.classifier.learns:
        # Its matrix is learned once the last group's errors have been asked for, row by row.
        learned = max(learned, before_last + plan.lanes + plan.neurons + MATRIX)
    return learned


@dataclass(frozen=True)
class ChipCycles:
    """Cycles a sample, on average: those of the slowest part.

    layers   of each layer
    decoder  SLOT_CYCLES a full frame, and one for the bias
    results  SAY_CYCLES a byte that leaves
    round_trip
             from a layer that learns from the last one's error up to that one, and what it then learns; 0 without
    """

    layers: tuple[LayerCycles, ...]
    decoder: float
    results: int
    round_trip: float

    @property
    def infer(self) -> float:
        return max(self.decoder, self.results, *(layer.infer for layer in self.layers))

    @property
    def train(self) -> float:
        return max(self.decoder, self.results, self.round_trip, *(layer.train for layer in self.layers))


def estimate_cycles(plan: NetworkPlan, activity: Activity, single_port: bool) -> ChipCycles:
    """What the chip takes for a sample of many: its parts work side by side."""
    layers = (estimate_layer_cycles(*layer, single_port) for layer in zip(plan.layers, activity.layers, strict=True))
    results = SAY_CYCLES * result_size(plan)
    decoder = SLOT_CYCLES / MAX_PAYLOAD * activity.bytes + 1
    return ChipCycles(tuple(layers), decoder, results, _round_trip(plan, activity, single_port))


def _round_trip(plan: NetworkPlan, activity: Activity, single_port: bool) -> float:
    """The first layer that waits for the last one's error goes on to another sample when it has learned from it. Where
    there is none, that sample's rows have been read meanwhile."""
    waiting = next((layer.index for layer in plan.layers if layer.classifier.error == "top"), None)
    if waiting is None:
        return 0
    pairs = list(zip(plan.layers, activity.layers, strict=True))
    first, *above = pairs[waiting:]
    up: float = sum(_passing(layer) for layer, _ in pairs[waiting:-1]) + _judging(plan.layers[-1], learn=True)
    up += sum(_forward(layer, samples.events) + HANDOVER for layer, samples in above)
    again = _forward(first[0], first[1].events) + _learning(*first, single_port)
    return up + first[1].learned * again
