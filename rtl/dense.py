"""A dense layer that learns from its own local classifier.

    i -> event buffer -> sequencer -> weight memory -> lanes -> readout -> o (to the next layer)
                            ^   event, row  |  weights    ^  |                |
                            |               +-- updated --|--+                v
                            +---------- learn ---- scaled errors <-- classifier <-> error unit -> result

One sample is being read out, judged and learned from while the next is already in the lanes.
"""

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.lfsr import STATE_BITS
from locallearn.quant.plan import NOISE_LEAP, NetworkPlan, lane_rotation
from locallearn.quant.registers import LAYER_COUNTERS, Kind
from locallearn.rtl.arithmetic import popcount
from locallearn.rtl.classifier import Classifier
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.error import ErrorUnit
from locallearn.rtl.events import EventBuffer
from locallearn.rtl.lanes import Lane
from locallearn.rtl.layouts import AccessSignature, event_layout, result_layout
from locallearn.rtl.lfsr import LeapLfsr
from locallearn.rtl.readout import Readout
from locallearn.rtl.sequencer import Sequencer, token_layout
from locallearn.rtl.weights import WeightMemory

__all__ = ["DenseLayer"]

# The cycle after its issue in which a row's token ...
_ADDRESS = 1  # has its event, so that the row's address can be made
_OPERANDS = 3  # has its weights at the lanes
_SUM = 5  # is added up, or meets the rounding noise
_TOTAL = 6  # is in the accumulator
_WRITE = 7  # is a new weight on its way back to the memory

_ACCESS_LATENCY = 4
"""Cycles until any region's element has arrived; the slowest is a weight, by its row register and lane choice."""


class DenseLayer(wiring.Component):
    """Layer `plan.index`. Takes one sample of E events in about E x groups cycles, twice that where it learns.

    i       events of samples, see `event_layout`
    o       events for the next layer; the last layer has none
    result  one for every sample, in order
    decay   what the learning rate's shift has grown by; changes only while nothing is in flight
    working a sample is held here, until it has been learned and passed on
    busy    anything in the chip is in flight: the counters count
    access  the host's access to the layer's regions; only while nothing is in flight
    """

    def __init__(self, network: NetworkPlan, index: int) -> None:
        self._plan = plan = network.layers[index]
        self._next = network.layers[index + 1] if index + 1 < len(network.layers) else None
        members = {
            "i": In(stream.Signature(event_layout(plan))),
            "result": Out(stream.Signature(result_layout(network))),
            "decay": In(range(plan.max_decay + 1)),
            "working": Out(1),
            "busy": In(1),
            "access": In(AccessSignature(network)),
        }
        if self._next is not None:
            members["o"] = Out(stream.Signature(event_layout(self._next)))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.buffer = self._buffer = EventBuffer(p)
        m.submodules.sequencer = self._sequencer = Sequencer(p)
        m.submodules.weights = self._weights = WeightMemory(p)
        m.submodules.readout = self._readout = Readout(p)
        m.submodules.classifier = self._classifier = Classifier(p)
        m.submodules.error = self._error = ErrorUnit(p)
        m.submodules.noise = self._noise = LeapLfsr(NOISE_LEAP)
        wiring.connect(m, wiring.flipped(self.i), self._buffer.i)
        m.d.comb += self.working.eq(self._buffer.held != 0)
        saturated = self._pipeline(m)
        counts = self._judge(m)
        m.submodules.counters = self._counters = CounterBank(LAYER_COUNTERS, counts | {"saturated": saturated})
        self._host_access(m)
        return m

    def _pipeline(self, m: Module) -> Value:
        """Rows through memory and lanes and back. Returns how many weights were clipped, a little later."""
        p, buffer, sequencer, classifier = self._plan, self._buffer, self._sequencer, self._classifier
        m.d.comb += [
            sequencer.held.eq(buffer.held),
            sequencer.start.eq(buffer.start),
            sequencer.samples.eq(buffer.samples),
            sequencer.group_ready.eq(classifier.group_ready),
            sequencer.group_zero.eq(classifier.group_zero),
            classifier.next_group.eq(sequencer.next_group),
            buffer.address.eq(Mux(self.access.request, self.access.row, sequencer.address)),
        ]
        token = [sequencer.token, *(Signal(token_layout(p), name=f"token_{i}") for i in range(1, _WRITE + 1))]
        valid = [sequencer.issue, *(Signal(name=f"valid_{i}") for i in range(1, _WRITE + 1))]
        for i in range(1, _WRITE + 1):
            # What was read too early never arrives; nothing that learns is under way at that moment.
            m.d.sync += [token[i].eq(token[i - 1]), valid[i].eq(valid[i - 1] & ~sequencer.learn)]
        m.d.comb += sequencer.empty.eq(~Cat(*valid[1:]).any())

        row = {i: Signal(range(p.weight_rows), name=f"row_{i}") for i in range(2, _WRITE + 1)}
        x = {i: Signal(p.input_format.bits, name=f"x_{i}") for i in range(2, _OPERANDS + 1)}
        m.d.sync += [row[2].eq(token[_ADDRESS].base + buffer.event.index), x[2].eq(buffer.event.value)]
        m.d.sync += [row[i].eq(row[i - 1]) for i in range(3, _WRITE + 1)]
        m.d.sync += [x[i].eq(x[i - 1]) for i in range(3, _OPERANDS + 1)]

        learn = [valid[i] & token[i].learn for i in range(_WRITE + 1)]
        g = [Signal(signed(p.scaled_error_width), name=f"g_{i}", reset_less=True) for i in range(p.lanes)]
        take = learn[_OPERANDS - 1] & token[_OPERANDS - 1].first
        with m.If(take):
            m.d.sync += [now.eq(scaled) for now, scaled in zip(g, classifier.scaled_errors, strict=True)]
        m.d.comb += [
            sequencer.group_taken.eq(take),
            self._noise.step.eq(learn[_SUM]),
            self._weights.row.eq(row[_OPERANDS - 1]),
            self._weights.update.eq(learn[_WRITE]),
            self._weights.write_row.eq(row[_WRITE]),
        ]
        clipped = []
        for index in range(p.lanes):
            m.submodules[f"lane_{index}"] = lane = Lane(p)
            m.d.comb += [
                lane.x.eq(x[_OPERANDS]),
                lane.weight.eq(self._weights.weights[index]),
                lane.learn.eq(token[_OPERANDS].learn),
                lane.g.eq(g[index]),
                lane.add.eq(valid[_SUM] & ~token[_SUM].learn),
                lane.first.eq(token[_SUM].first),
                lane.round.eq(learn[_SUM]),
                lane.subtract.eq(learn[_TOTAL]),
                lane.noise.eq(self._noise.state.rotate_right(lane_rotation(index))),
                self._weights.updated[index].eq(lane.updated),
                self._readout.accumulators[index].eq(lane.accumulator),
            ]
            clipped.append(lane.saturated)

        # A group has the readout to itself from the issue of its last row until it has left.
        reserved = Signal()
        with m.If(sequencer.issue & sequencer.token.last & ~sequencer.token.learn):
            m.d.sync += reserved.eq(1)
        m.d.comb += [
            sequencer.room.eq(~reserved),
            self._readout.load.eq(valid[_TOTAL] & token[_TOTAL].last & ~token[_TOTAL].learn),
            self._readout.flush.eq(sequencer.learn),
        ]
        with m.If(sequencer.learn | self._readout.left):
            m.d.sync += reserved.eq(0)

        saturated = Signal(range(p.lanes + 1))
        m.d.sync += saturated.eq(0)
        with m.If(learn[_WRITE]):
            m.d.sync += saturated.eq(popcount(Cat(*clipped)))
        return saturated

    def _judge(self, m: Module) -> dict[str, Value]:
        """Readout, classifier and error of the oldest sample, then learning. Returns what the counters add."""
        buffer, sequencer, readout = self._buffer, self._sequencer, self._readout
        classifier, error = self._classifier, self._error
        sample = buffer.samples[0]
        taken, judging = Signal(), Signal()

        ready: Value | int = 1
        passed_on: Value | int = 1
        if self._next is not None:
            bias = Signal()
            out = self.o.payload
            m.d.comb += [
                self.o.valid.eq(bias | (readout.o.valid & (readout.o.payload.value != 0))),
                out.index.eq(Mux(bias, self._next.inputs, readout.o.payload.index)),
                out.value.eq(Mux(bias, self._next.input_format.half, readout.o.payload.value)),
                out.last.eq(bias),
                out.label.eq(sample.label),
                out.learn.eq(sample.learn),
            ]
            ready = self.o.ready | (readout.o.payload.value == 0)
            passed_on = ~bias
            with m.If(bias & self.o.ready):
                m.d.sync += bias.eq(0)
            with m.If(taken & readout.o.payload.last):
                m.d.sync += bias.eq(1)
        m.d.comb += [
            readout.o.ready.eq(ready),
            taken.eq(readout.o.valid & readout.o.ready),
            classifier.activation.eq(readout.o.payload),
            classifier.take.eq(taken),
            classifier.decay.eq(self.decay),
            *(e.eq(made) for e, made in zip(classifier.errors, error.errors, strict=True)),
            *(s.eq(made) for s, made in zip(error.scores, classifier.scores, strict=True)),
            error.label.eq(sample.label),
            error.learn.eq(sample.learn),
            self.result.payload.predicted.eq(error.predicted),
            self.result.payload.error.eq(error.size),
            classifier.restart.eq(judging | self.access.request),
        ]
        learned, skipped = Signal(), Signal()
        with m.FSM(name="judge"):
            with m.State("Read out"):
                m.d.comb += readout.enable.eq(1)
                with m.If(taken & readout.o.payload.last):
                    m.next = "Judge"
            with m.State("Judge"):
                m.d.comb += [judging.eq(1), error.start.eq(1)]
                m.next = "Wait"
            with m.State("Wait"), m.If(error.done):
                m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    with m.If(error.size != 0):
                        m.d.comb += [learned.eq(1), sequencer.learn.eq(1), classifier.project.eq(1)]
                        m.next = "Learn"
                    with m.Else():
                        m.d.comb += skipped.eq(sample.learn)
                        m.next = "Release"
            with m.State("Learn"), m.If(sequencer.learned):
                m.next = "Release"
            with m.State("Release"):
                m.d.comb += judging.eq(1)
                with m.If(passed_on):
                    m.d.comb += [buffer.release.eq(1), sequencer.release.eq(1)]
                    m.next = "Read out"
        phase = sequencer.token.learn
        return {
            "events": buffer.taken,
            "forward": sequencer.issue & ~phase,
            "discarded": Mux(sequencer.learn, sequencer.discarded, 0),
            "updates": sequencer.issue & phase,
            "learned": learned,
            "skipped": skipped,
            "starved": self.busy & sequencer.starved,
            "waiting": self.busy & sequencer.waiting,
        }

    def _host_access(self, m: Module) -> None:
        """Every region has its element ready `_ACCESS_LATENCY` cycles after the request; writes happen in the first."""
        p, access = self._plan, self.access
        age = Signal(range(_ACCESS_LATENCY + 1))
        with m.If(~access.request | access.done):
            m.d.sync += age.eq(0)
        with m.Else():
            m.d.sync += age.eq(age + 1)
        m.d.comb += access.done.eq(access.request & (age == _ACCESS_LATENCY))
        write = access.request & access.write & (age == 0)

        seed = Signal(STATE_BITS)
        m.d.comb += [
            self._classifier.seed.eq(seed),
            self._noise.seed.eq(access.data),
            self._noise.load.eq(write & (access.kind == Kind.NOISE_STATE)),
            self._counters.select.eq(access.row),
            self._counters.clear.eq(write & (access.kind == Kind.COUNTERS)),
            self._weights.host.eq(access.request),
            self._weights.host_row.eq(access.row),
            self._weights.host_lane.eq(access.lane),
            self._weights.host_data.eq(access.data),
            self._weights.host_write.eq(write & (access.kind == Kind.WEIGHTS)),
        ]
        with m.If(write & (access.kind == Kind.CLASSIFIER_SEED)):
            m.d.sync += seed.eq(access.data)

        # Where the last sample began is history to the buffer; only the host asks for it.
        begin = Signal(range(p.event_depth))
        with m.If(self._buffer.release):
            m.d.sync += begin.eq(self._buffer.start)
        with m.If(access.request), m.Switch(access.kind):
            for kind, value in {
                Kind.COUNTERS: self._counters.value,
                Kind.WEIGHTS: self._weights.host_weight,
                Kind.CLASSIFIER_SEED: seed,
                Kind.NOISE_STATE: self._noise.state,
                Kind.SCORES: Array(self._classifier.scores)[access.row],
                Kind.ERRORS: Array(self._error.errors)[access.row],
                Kind.EVENTS: self._buffer.event.as_value(),
                Kind.EVENT_SPAN: Mux(access.row[0], self._buffer.start, begin),
            }.items():
                with m.Case(kind):
                    m.d.sync += access.read.eq(value)
