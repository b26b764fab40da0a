"""The event buffer: a ring of a layer's non-zero inputs, whole samples kept until they have been learned."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import EVENT_MARGIN, SAMPLES_HELD, LayerPlan
from locallearn.rtl.layouts import event_layout, sample_layout
from locallearn.rtl.memory import BlockMemory
from locallearn.rtl.target import Target

__all__ = ["EventBuffer"]


class EventBuffer(wiring.Component):
    """Takes events at one a cycle; a reader walks over the samples held, as often as it likes, by address.

    i         events; a sample counts as held 2 cycles after its last event
    address   to read; `event` is there 2 cycles later: {value, index} of the event at that address
    held      samples held whole, 0 to SAMPLES_HELD
    start     address of the oldest sample's first event
    samples   where the oldest sample and the next end, and their labels, see `sample_layout`
    release   drop the oldest sample; at most once a cycle and only where one is held
    taken     an event was written in this cycle

    The events of a sample whose last one is `void` are forgotten. One sample always fits, so a buffer that is full
    waits for releases and for nothing else. `i.ready` is a register that looks at the space two cycles before:
    EVENT_MARGIN words must have been free then.
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        event = event_layout(plan)
        self._word = data.StructLayout({"value": event["value"].shape, "index": event["index"].shape})
        super().__init__(
            {
                "i": In(stream.Signature(event)),
                "address": In(range(plan.event_depth)),
                "event": Out(self._word),
                "held": Out(range(SAMPLES_HELD + 1)),
                "start": Out(range(plan.event_depth)),
                # No array layout: synthesis takes its `samples[1]` for a bit of another signal.
                "samples": Out(sample_layout(plan)).array(2),
                "release": In(1),
                "taken": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._plan.event_depth
        m.submodules.memory = memory = BlockMemory(self._target, self._word.size, depth)
        m.d.comb += [memory.address.eq(self.address), self.event.as_value().eq(memory.data)]

        before, tail, after = Signal(range(depth), init=depth - 1), Signal(range(depth)), Signal(range(depth))
        first = Signal(init=1)
        space, next_held = Signal(range(depth)), Signal.like(self.held)
        # A sample that is complete is held one cycle later; the event behind it waits for that.
        complete, arrived, sample = Signal(), Signal(), Signal(sample_layout(self._plan))
        word = Signal(self._word)
        ends = self.i.payload.last
        if self._plan.can_be_void:
            ends &= ~self.i.payload.void
        m.d.comb += [
            after.eq(tail + 1),
            self.taken.eq(self.i.valid & self.i.ready),
            complete.eq(self.taken & ends),
            word.index.eq(self.i.payload.index),
            word.value.eq(self.i.payload.value),
            memory.write_address.eq(tail),
            memory.write_data.eq(word),
            memory.write.eq(self.taken),
            next_held.eq(self.held + arrived - self.release),
        ]
        m.d.sync += [
            # One word always stays free, so that full and empty differ.
            space.eq(self.start - after),
            self.i.ready.eq((space >= EVENT_MARGIN) & ~complete & (next_held != SAMPLES_HELD)),
            self.held.eq(next_held),
            arrived.eq(complete),
            sample.before.eq(before),
            sample.alone.eq(first),
            sample.label.eq(self.i.payload.label),
            sample.learn.eq(self.i.payload.learn),
        ]
        with m.If(self.taken):
            m.d.sync += [before.eq(tail), tail.eq(after), first.eq(self.i.payload.last)]
        if self._plan.can_be_void:
            begin = Signal(range(depth))
            with m.If(complete):
                m.d.sync += begin.eq(after)
            with m.If(self.taken & self.i.payload.last & self.i.payload.void):
                m.d.sync += [before.eq(begin - 1), tail.eq(begin)]

        # A shift register, so that the oldest samples are seen without a choice.
        queue = [Signal(sample_layout(self._plan), name=f"sample_{i}") for i in range(SAMPLES_HELD)]
        m.d.comb += [self.samples[i].eq(queue[i]) for i in range(2)]
        place = Signal.like(self.held)
        m.d.comb += place.eq(self.held - self.release)
        for i, held in enumerate(queue):
            with m.If(arrived & (place == i)):
                m.d.sync += held.eq(sample)
            if i + 1 < SAMPLES_HELD:
                with m.Elif(self.release):
                    m.d.sync += held.eq(queue[i + 1])
        with m.If(self.release):
            m.d.sync += self.start.eq(queue[0].before + 2)
        return m
