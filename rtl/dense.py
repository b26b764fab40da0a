"""A dense layer that learns from its own local classifier.

    i -> event buffer -> sequencer -> banks of lanes with their weights -> readout -> o (to the next layer)
                             ^  event, row, phase          ^                  |
                             |                             |                  v
                             +---------- learn ----- scaled errors <-- classifier <-> error unit -> result

The banks form a systolic chain: each does in every cycle what the bank before it did in the last one.

One sample is being read out, judged and learned from while the next is already in the lanes.
"""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring

from locallearn.quant.layer_plan import MASK_LEAP
from locallearn.quant.registers import LAYER_COUNTERS, Kind
from locallearn.rtl.bank import LaneBank, control_layout
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.events import EventBuffer
from locallearn.rtl.layer import Layer
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.lfsr import LeapLfsr
from locallearn.rtl.readout import Readout
from locallearn.rtl.sequencer import Sequencer, token_layout
from locallearn.rtl.timing import EVENT, OPERANDS, PRODUCT, ROW, SUM, WRITTEN

__all__ = ["DenseLayer"]


class DenseLayer(Layer):
    """Layer `plan.index`. Takes one sample of E events in about E x groups cycles, twice that where it learns,
    three times with weights in single-port memory.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.buffer = self._buffer = EventBuffer(p, self._target)
        m.submodules.sequencer = self._sequencer = Sequencer(p, self._target)
        m.submodules.readout = self._readout = Readout(p, p.neurons)
        self._units(m)
        wiring.connect(m, wiring.flipped(self.i), self._buffer.i)
        saturated = self._pipeline(m)
        counts = self._samples(m)
        m.submodules.counters = self._counters = CounterBank(
            LAYER_COUNTERS, counts | {"saturated": saturated}, self._target
        )
        self._host_access(m, self._regions(m))
        self._work(m, self._buffer.held, self._sequencer.learned)
        return m

    def _pipeline(self, m: Module) -> Value:
        """Rows through memory and lanes and back. Returns how many weights were clipped, a little later."""
        p, buffer, sequencer, classifier = self._plan, self._buffer, self._sequencer, self._classifier
        m.d.comb += [
            sequencer.held.eq(buffer.held),
            sequencer.start.eq(buffer.start),
            *(port.eq(sample) for port, sample in zip(sequencer.samples, buffer.samples, strict=True)),
            sequencer.group_ready.eq(classifier.group_ready),
            sequencer.group_zero.eq(classifier.group_zero),
            classifier.next_group.eq(sequencer.next_group),
            buffer.address.eq(Mux(self._accessed, self.access.row, sequencer.address)),
        ]
        token = [sequencer.token, *(Signal(token_layout(p), name=f"token_{i}") for i in range(1, WRITTEN + 1))]
        valid = [sequencer.issue, *(Signal(name=f"valid_{i}") for i in range(1, WRITTEN + 1))]
        for i in range(1, WRITTEN + 1):
            # What was read too early never arrives; nothing that learns is under way at that moment.
            m.d.sync += [token[i].eq(token[i - 1]), valid[i].eq(valid[i - 1] & ~sequencer.learn)]
        m.d.sync += sequencer.empty.eq(~Cat(*valid[:-1]).any())

        # The host's rows take the same way: with an input of 0 a weight is its own update.
        fetch, store = self._stage_access(m)

        row = {i: Signal(range(p.weight_rows), name=f"row_{i}") for i in range(ROW, WRITTEN + 1)}
        x = {i: Signal(p.input_format.bits, name=f"x_{i}") for i in range(ROW, OPERANDS + 2)}
        m.d.sync += [
            row[ROW].eq(Mux(self._accessed, self.access.row, token[EVENT].base + buffer.event.index)),
            x[ROW].eq(Mux(self._accessed, 0, buffer.event.value)),
            *(row[i].eq(row[i - 1]) for i in range(ROW + 1, WRITTEN + 1)),
            *(x[i].eq(x[i - 1]) for i in range(ROW + 1, OPERANDS + 2)),
        ]

        learn = {i: valid[i - 1] & token[i - 1].learn for i in range(1, WRITTEN)}
        forward = {i: valid[i - 1] & ~token[i - 1].learn & ~sequencer.learn for i in (PRODUCT, SUM)}
        take_g = learn[OPERANDS - 1] & token[OPERANDS - 2].first
        orders = {
            "take_g": take_g,
            "add": forward[PRODUCT],
            "round": learn[PRODUCT] | fetch[PRODUCT - 1],
            "subtract": learn[SUM] | fetch[SUM - 1],
            "update": learn[WRITTEN - 1] | store[WRITTEN - 2],
            "shift": self._shift,
            "sum": forward[SUM] & token[SUM - 1].last,
        }
        control = Signal(control_layout(p))
        self._order(m, control, orders)
        m.d.sync += self._noise.step.eq(learn[PRODUCT])
        m.d.comb += [
            sequencer.group_taken.eq(take_g),
            control.row.eq(row[ROW]),
            control.x.eq(x[OPERANDS + 1]),
            control.learn.eq(token[OPERANDS].learn),
            control.next_g.eq(classifier.next_g),
            control.g_lane.eq(classifier.g_lane),
            control.load_g.eq(classifier.load_g),
            control.first.eq(token[PRODUCT].first),
            control.noise.eq(self._noise.state),
            control.write_row.eq(row[WRITTEN - 1]),
        ]
        saturated = self._lanes(m, control, LaneBank)

        # A group has the readout to itself from the issue of its last row until it has left.
        reserved = Signal()
        with m.If(sequencer.issue & sequencer.token.last & ~sequencer.token.learn):
            m.d.sync += reserved.eq(1)
        m.d.comb += [sequencer.room.eq(~reserved), self._readout.flush.eq(sequencer.learn)]
        with m.If(sequencer.learn | self._readout.left):
            m.d.sync += reserved.eq(0)
        return saturated

    def _samples(self, m: Module) -> dict[str, Value]:
        """The oldest sample from the readout to the judge, and back. Returns what the counters add."""
        buffer, sequencer, readout, classifier = self._buffer, self._sequencer, self._readout, self._classifier
        taken = Signal()
        passed = self._drop(m, taken) if self._plan.dropped else readout.o.payload
        ended = taken & readout.o.payload.last
        ready, passed_on = self._pass_on(m, readout.o.valid, passed, ended)
        m.d.comb += [
            self._sample.label.eq(buffer.samples[0].label),
            self._sample.learn.eq(buffer.samples[0].learn),
            readout.enable.eq(self._reading),
            readout.o.ready.eq(ready),
            taken.eq(readout.o.valid & readout.o.ready),
            classifier.activation.eq(passed),
            classifier.take.eq(taken),
            sequencer.learn.eq(self._learn),
            buffer.release.eq(self._release),
            sequencer.release.eq(self._release),
        ]
        self._judge(m, ended, sequencer.learned, passed_on)
        phase = sequencer.token.learn
        return {
            "events": buffer.taken,
            "forward": sequencer.issue & ~phase,
            "discarded": Mux(sequencer.learn, sequencer.discarded + sequencer.issue, 0),
            "gradients": Const(0, 1),
            "updates": sequencer.issue & phase,
            "learned": self._learn,
            "skipped": self._skipped,
            "starved": self.busy & sequencer.starved,
            "waiting": self.busy & sequencer.waiting,
        }

    def _regions(self, m: Module) -> dict[Kind, Value]:
        """What only a dense layer has for the host: its events, and its mask."""
        own: dict[Kind, Value] = {}
        if self._plan.dropped:
            write = Signal()
            m.d.sync += write.eq(self.access.request & self.access.write & (self.access.kind == Kind.MASK_STATE))
            m.d.comb += [self._mask.seed.eq(self.access.data), self._mask.load.eq(write)]
            own[Kind.MASK_STATE] = self._mask.state
        # Where the last sample began is history to the buffer; only the host asks for it.
        begin = Signal(range(self._plan.event_depth))
        with m.If(self._buffer.release):
            m.d.sync += begin.eq(self._buffer.start)
        return own | {
            Kind.EVENTS: self._buffer.event.as_value(),
            Kind.EVENT_SPAN: Mux(self.access.row[0], self._buffer.start, begin),
        }

    def _drop(self, m: Module, taken: Value) -> Any:
        """The activation that is read out, 0 where the mask leaves its neuron out of a labelled sample."""
        m.submodules.mask = self._mask = LeapLfsr(MASK_LEAP)
        sample = self._sample
        kept = ~sample.learn | (self._mask.state[:MASK_LEAP] >= self._plan.dropped)
        passed = Signal(activation_layout(self._plan))
        m.d.comb += [
            self._mask.step.eq(taken & sample.learn),
            passed.eq(self._readout.o.payload),
            passed.value.eq(Mux(kept, self._readout.o.payload.value, 0)),
            passed.active.eq(self._readout.o.payload.active & kept),
        ]
        return passed
