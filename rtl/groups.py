"""Groups of scaled errors on their way from any classifier to the lanes, one feature a cycle."""

from typing import Any

from amaranth import Module, Signal, signed
from amaranth.lib.wiring import In, Member, Out

from locallearn.quant.layer_plan import LayerPlan

__all__ = ["group_members", "pass_groups", "walk_groups"]


def group_members(plan: LayerPlan) -> dict[str, Member]:
    """Of a classifier, for its way back.

    project     start the backward pass, group by group
    load_g      high once for every feature of the group, with its number in it, `g_lane`, and `next_g`, the error
                h << (max_decay - decay), 0 for lanes without a neuron
    group_ready the group is whole, `timing.group_cycles` after `project` or `next_group`
    group_zero  all of it is 0
    next_group  give the group up and start the following one
    """
    return {
        "project": In(1),
        "group_ready": Out(1),
        "group_zero": Out(1),
        "next_group": In(1),
        "load_g": Out(1),
        "g_lane": Out(range(plan.error_group)),
        "next_g": Out(signed(plan.scaled_error_width)),
    }


def walk_groups(m: Module, plan: LayerPlan, classifier: Any) -> tuple[Signal, Signal]:
    """From `project` on, a feature a cycle to the end of its group, and the next group after `next_group`.

    Returns whether a feature is walked over, and which; the last group's lanes without one count too.
    """
    every = plan.error_groups * plan.error_group
    feature, lane = Signal(range(every + 1)), Signal(range(plan.error_group))
    walking, last_group = Signal(), Signal()
    m.d.sync += last_group.eq(feature == every)
    with m.If(walking):
        m.d.sync += [feature.eq(feature + 1), lane.eq(lane + 1)]
        with m.If(lane == plan.error_group - 1):
            m.d.sync += [lane.eq(0), walking.eq(0)]
    with m.If(classifier.project):
        m.d.sync += [feature.eq(0), lane.eq(0), walking.eq(1)]
    with m.If(classifier.next_group):
        m.d.sync += walking.eq(~last_group)
    return walking, feature


def pass_groups(m: Module, plan: LayerPlan, classifier: Any) -> None:
    """Features in their order, until the group is whole; the classifier says `next_g` and `load_g`."""
    with m.If(classifier.load_g):
        m.d.sync += [
            classifier.group_zero.eq(((classifier.g_lane == 0) | classifier.group_zero) & (classifier.next_g == 0)),
            classifier.g_lane.eq(classifier.g_lane + 1),
        ]
        with m.If(classifier.g_lane == plan.error_group - 1):
            m.d.sync += [classifier.g_lane.eq(0), classifier.group_ready.eq(1)]
    with m.If(classifier.next_group):
        m.d.sync += classifier.group_ready.eq(0)
