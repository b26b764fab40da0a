"""The event buffer: a ring of a layer's non-zero inputs, whole samples kept until they have been learned."""

from amaranth import Array, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from locallearn.quant.plan import SAMPLES_HELD, LayerPlan
from locallearn.rtl.layouts import event_layout, sample_layout

__all__ = ["EventBuffer"]


class EventBuffer(wiring.Component):
    """Takes events at one a cycle; a reader walks over the samples held, as often as it likes, by address.

    i         events; a sample counts as held once its last event is in
    address   to read; `event` is there in the next cycle: {value, index} of the event at that address
    held      samples held whole, 0 to SAMPLES_HELD
    start     address of the oldest sample's first event
    samples   end address and label of the oldest sample and of the next
    release   drop the oldest sample; at most once a cycle and only where one is held
    taken     an event was written in this cycle

    One sample always fits, so a buffer that is full waits for a release and for nothing else.
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        event = event_layout(plan)
        self._word = data.StructLayout({"value": event["value"].shape, "index": event["index"].shape})
        super().__init__(
            {
                "i": In(stream.Signature(event)),
                "address": In(range(plan.event_depth)),
                "event": Out(self._word),
                "held": Out(range(SAMPLES_HELD + 1)),
                "start": Out(range(plan.event_depth)),
                "samples": Out(data.ArrayLayout(sample_layout(plan), 2)),
                "release": In(1),
                "taken": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._word, depth=self._plan.event_depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [read.addr.eq(self.address), self.event.eq(read.data)]

        tail = Signal(range(self._plan.event_depth))
        after = Signal.like(tail)
        m.d.comb += [
            after.eq(tail + 1),
            # One word stays free, so that full and empty differ.
            self.i.ready.eq((after != self.start) & (self.held != SAMPLES_HELD)),
            self.taken.eq(self.i.valid & self.i.ready),
            write.addr.eq(tail),
            write.data.index.eq(self.i.payload.index),
            write.data.value.eq(self.i.payload.value),
            write.en.eq(self.taken),
        ]
        with m.If(self.taken):
            m.d.sync += tail.eq(after)

        queue = Array(Signal(sample_layout(self._plan), name=f"sample_{i}") for i in range(SAMPLES_HELD))
        oldest, newest = Signal(range(SAMPLES_HELD)), Signal(range(SAMPLES_HELD))
        second = Signal.like(oldest)
        complete = Signal()
        m.d.comb += [
            second.eq(oldest + 1),
            self.samples[0].eq(queue[oldest]),
            self.samples[1].eq(queue[second]),
            complete.eq(self.taken & self.i.payload.last),
        ]
        with m.If(complete):
            m.d.sync += [
                newest.eq(newest + 1),
                queue[newest].end.eq(after),
                queue[newest].label.eq(self.i.payload.label),
                queue[newest].learn.eq(self.i.payload.learn),
            ]
        with m.If(self.release):
            m.d.sync += [oldest.eq(second), self.start.eq(self.samples[0].end)]
        m.d.sync += self.held.eq(self.held + complete - self.release)
        return m
