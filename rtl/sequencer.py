"""The sequencer: which weight row is read for which event, cycle by cycle, forward and learning."""

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import SAMPLES_HELD, LayerPlan
from locallearn.rtl.layouts import sample_layout
from locallearn.rtl.target import Target

__all__ = ["Sequencer", "token_layout"]

_AHEAD = 2
"""Samples that can be forwarded and not released: the oldest, and one more in case the oldest learns nothing."""


def token_layout(plan: LayerPlan) -> data.StructLayout:
    """One row's way down the pipeline: the phase, the ends of a group's walk, and the first row of the group."""
    return data.StructLayout({"learn": 1, "first": 1, "last": 1, "base": range(plan.weight_rows)})


class Sequencer(wiring.Component):
    """Walks over the events of a sample once for every group of neurons, one event a cycle.

    Forward does not wait until the error of the sample before is known: most samples have none. If it turns out
    that it has one, the sample begun too early is forgotten, learning runs, and it begins again. A cycle passes
    before each walk over a sample forward, in which its end is looked up, and before each group of learning. With
    weights in single-port memory learning reads a row every second cycle, and writes the learned rows in between.

    held, start, samples  of the event buffer
    release               the oldest sample leaves the buffer
    room                  the readout can take another group: it is free, and no group is on its way to it
    learn                 high for a cycle: learn from the oldest sample. Everything forward in flight is void
    learned               high for a cycle when the last updated row is written
    group_ready, group_zero, next_group
                          the classifier's groups of scaled errors; a group that is all 0 is passed over
    empty                 no token is under way in the pipeline
    issue, token, address a row is read in this cycle: what for, and its event's address
    group_taken           the pipeline has copied the group's scaled errors
    discarded             rows read for the sample after the oldest before this cycle: `learn` makes them void
    waiting, starved      no row is read although a sample is held, or because none is
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        super().__init__(
            {
                "held": In(range(SAMPLES_HELD + 1)),
                "start": In(range(plan.event_depth)),
                "samples": In(sample_layout(plan)).array(2),
                "release": In(1),
                "room": In(1),
                "learn": In(1),
                "learned": Out(1),
                "group_ready": In(1),
                "group_zero": In(1),
                "group_taken": In(1),
                "next_group": Out(1),
                "empty": In(1),
                "issue": Out(1),
                "token": Out(token_layout(plan)),
                "address": Out(range(plan.event_depth)),
                "discarded": Out(range(plan.weight_rows + 1)),
                "waiting": Out(1),
                "starved": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        group, base = Signal(range(p.groups)), Signal(range(p.weight_rows))
        # The sample that is being walked over: where it begins, and the address before its end, which is what tells
        # that the `last` event comes next. Whether there is a single event, whether the next is the first.
        walking, first, last, single = Signal(), Signal(init=1), Signal(), Signal()
        learning = Signal()
        begin, before, after = (Signal(range(p.event_depth), name=name) for name in ("begin", "before", "after"))
        forwarded = Signal(range(_AHEAD + 1))
        last_group, next_group = Signal(init=p.groups == 1), Signal()
        m.d.comb += [
            after.eq(self.address + 1),
            self.token.first.eq(first),
            self.token.last.eq(last),
            self.token.base.eq(base),
        ]

        with m.If(self.issue):
            m.d.sync += [
                # Samples lie behind one another: the next begins where this one ends.
                self.address.eq(Mux(last & ~last_group, begin, after)),
                first.eq(last),
                last.eq(Mux(last, single, self.address == before)),
            ]
            m.d.comb += next_group.eq(last)
        with m.If(next_group):
            m.d.sync += [group.eq(group + 1), base.eq(base + p.fan_in)]
            if p.groups > 1:
                m.d.sync += last_group.eq(group == p.groups - 2)
            with m.If(last_group):
                m.d.sync += [group.eq(0), base.eq(0)]

        look_up = Signal()
        oldest, next_sample = self.samples[0], self.samples[1]
        with m.If(look_up):
            m.d.sync += begin.eq(self.address)
            m.d.sync += [before.eq(next_sample.before), single.eq(next_sample.alone), last.eq(next_sample.alone)]
            with m.If((forwarded == 0) | learning):
                m.d.sync += [before.eq(oldest.before), single.eq(oldest.alone), last.eq(oldest.alone)]

        # A sample is held that has not been forwarded. Said so, it is a single LUT; a comparison is a chain of them.
        more = Signal()
        m.d.comb += more.eq(Cat((forwarded == n) & (self.held > n) for n in range(_AHEAD + 1)).any())
        sample_done = Signal()
        m.d.sync += forwarded.eq(forwarded + sample_done - self.release)
        # A group that is being learned from stays `group_ready` until the pipeline has copied it.
        claimed = Signal()
        with m.If(self.group_taken):
            m.d.sync += claimed.eq(0)
        m.d.comb += self.next_group.eq(self.group_taken)
        # While learning in single-port memory every second cycle is for writing, beyond a group's end too, as the next
        # group begins while rows of the one before are still on their way back.
        may_read: Value | int = 1
        if self._target.single_port_weights:
            turn = Signal()
            m.d.sync += turn.eq(self.learn | ~turn)
            may_read = turn | ~learning

        m.d.comb += [
            self.token.learn.eq(learning),
            # Learning finds room: what was in the readout is void.
            self.issue.eq(walking & (self.room | ~last) & may_read),
            self.starved.eq(~learning & ~walking & ~more),
            self.waiting.eq(~self.issue & ~self.starved),
        ]
        with m.FSM(name="phase"):
            with m.State("Forward"):
                with m.If(self.issue & (forwarded != 0)):
                    m.d.sync += self.discarded.eq(self.discarded + 1)
                with m.If(self.release | self.learn):
                    m.d.sync += self.discarded.eq(0)
                with m.If(~walking & more & (forwarded != _AHEAD)):
                    m.d.comb += look_up.eq(1)
                    m.d.sync += walking.eq(1)
                with m.If(self.issue & last & last_group):
                    m.d.comb += sample_done.eq(1)
                    m.d.sync += walking.eq(0)
                with m.If(self.learn):
                    # What is issued in this cycle is void too.
                    m.d.sync += [
                        self.address.eq(self.start),
                        *(group.eq(0), base.eq(0), last_group.eq(p.groups == 1)),
                        *(first.eq(1), walking.eq(0), learning.eq(1)),
                    ]
                    m.next = "Turn back"
            with m.State("Turn back"):
                m.d.comb += look_up.eq(1)
                m.next = "Learn"
            with m.State("Learn"):
                with m.If(~walking & self.group_ready & ~claimed):
                    with m.If(self.group_zero):
                        m.d.comb += [next_group.eq(1), self.next_group.eq(1)]
                    with m.Else():
                        m.d.sync += [walking.eq(1), claimed.eq(1)]
                with m.If(self.issue & last):
                    m.d.sync += walking.eq(0)
                with m.If(next_group & last_group):
                    m.next = "Settle"
            with m.State("Settle"), m.If(self.empty):
                m.d.comb += self.learned.eq(1)
                # The oldest sample stays the one that is forwarded, until its release.
                m.d.sync += [self.address.eq(before + 2), forwarded.eq(1), learning.eq(0)]
                m.next = "Forward"

        return m
