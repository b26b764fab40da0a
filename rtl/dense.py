"""A dense layer that learns from its own local classifier.

    i -> event buffer -> sequencer -> banks of lanes with their weights -> readout -> o (to the next layer)
                             ^  event, row, phase          ^                  |
                             |                             |                  v
                             +---------- learn ----- scaled errors <-- classifier <-> error unit -> result

The banks form a systolic chain: each does in every cycle what the bank before it did in the last one.

One sample is being read out, judged and learned from while the next is already in the lanes.
"""

from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import MASK_LEAP, NOISE_LEAP
from locallearn.quant.lfsr import STATE_BITS
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import LAYER_COUNTERS, Kind
from locallearn.rtl.bank import LaneBank, control_layout
from locallearn.rtl.classifier import Classifier
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.error import ErrorUnit
from locallearn.rtl.events import EventBuffer
from locallearn.rtl.hinge import HingeUnit
from locallearn.rtl.largest import Largest
from locallearn.rtl.layouts import AccessSignature, activation_layout, error_layout, event_layout, result_layout
from locallearn.rtl.lead import Lead
from locallearn.rtl.learned import LearnedClassifier
from locallearn.rtl.lfsr import LeapLfsr
from locallearn.rtl.readout import Readout
from locallearn.rtl.sequencer import Sequencer, token_layout
from locallearn.rtl.target import Target
from locallearn.rtl.timing import EVENT, OPERANDS, PRODUCT, ROW, SUM, WRITTEN, score_cycles

__all__ = ["DenseLayer"]

_ACCESS_LATENCY = 4
"""Cycles until an element has arrived, of regions but weights and counters; the slowest is an event."""


class DenseLayer(wiring.Component):
    """Layer `plan.index`. Takes one sample of E events in about E x groups cycles, twice that where it learns,
    three times with weights in single-port memory.

    i       events of samples, see `event_layout`
    o       events for the next layer; the last layer has none
    result  one for every sample, in order
    decay   what the learning rate's shift has grown by, where the layer has none of its own; changes only while
            nothing is in flight
    working a sample is held here, until it has been learned, passed on and counted
    busy    anything in the chip is in flight: the counters count
    access  the host's access to the layer's regions; only while nothing is in flight
    top     of a layer that learns from the last one's error: that layer's, see `error_layout`
    error   of the last layer, its own for all that do
    """

    def __init__(self, network: NetworkPlan, index: int, target: Target) -> None:
        self._target = target
        self._plan = plan = network.layers[index]
        self._next = network.layers[index + 1] if index + 1 < len(network.layers) else None
        members = {
            "i": In(stream.Signature(event_layout(plan))),
            "result": Out(stream.Signature(result_layout(network))),
            "decay": In(network.decay_bits),
            "working": Out(1),
            "busy": In(1),
            "access": In(AccessSignature(network)),
        }
        if self._next is not None:
            members["o"] = Out(stream.Signature(event_layout(self._next)))
        self._passes_error_down = self._next is None and any(p.classifier.error == "top" for p in network.layers)
        if self._passes_error_down:
            members["error"] = Out(error_layout(plan))
        if plan.classifier.error == "top":
            members["top"] = In(error_layout(plan))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.buffer = self._buffer = EventBuffer(p, self._target)
        m.submodules.sequencer = self._sequencer = Sequencer(p, self._target)
        m.submodules.readout = self._readout = Readout(p)
        classifier: Any = LearnedClassifier if p.classifier.learns else Classifier
        m.submodules.classifier = self._classifier = classifier(p, self._target)
        kind: Any = HingeUnit if p.classifier.loss == "squared-hinge" else ErrorUnit
        if p.classifier.error != "local":
            kind = Largest
        m.submodules.error = self._error = kind(p)
        if p.can_exit:
            m.submodules.lead = self._lead = Lead(p)
            self._stops = Signal(name="stops")
        m.submodules.noise = self._noise = LeapLfsr(NOISE_LEAP)
        wiring.connect(m, wiring.flipped(self.i), self._buffer.i)
        # The host's access to the weights.
        self._fetch, self._store, self._shift = Signal(name="fetch"), Signal(name="store"), Signal(name="shift")
        self._weight = Signal(signed(p.weight_format.bits), name="weight")
        self._accessed = Signal(name="accessed")
        if p.has_own_decay:
            self._own_decay = Signal(p.decay_bits, name="own_decay")
        saturated = self._pipeline(m)
        counts = self._judge(m)
        m.submodules.counters = self._counters = CounterBank(
            LAYER_COUNTERS, counts | {"saturated": saturated}, self._target
        )
        self._host_access(m)
        # The last bank's clipped weights are still on their way to the counter.
        counting = Signal(len(p.banks) + 3)
        m.d.sync += [
            counting.eq(Cat(self._sequencer.learned, counting)),
            self.working.eq((self._buffer.held != 0) | counting.any()),
        ]
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
        fetch = {EVENT: self._fetch} | {i: Signal(name=f"fetch_{i}") for i in range(ROW, SUM)}
        store = {EVENT: self._store} | {i: Signal(name=f"store_{i}") for i in range(ROW, WRITTEN - 1)}
        m.d.sync += [stages[i].eq(stages[i - 1]) for stages in (fetch, store) for i in list(stages)[1:]]

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
        # Every order to the banks comes from a register: it is made in the cycle before.
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
        for name, order in orders.items():
            given = Signal(name=name)
            m.d.sync += given.eq(order)
            m.d.comb += getattr(control, name).eq(given)
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
        saturated = self._lanes(m, control)

        # A group has the readout to itself from the issue of its last row until it has left.
        reserved = Signal()
        with m.If(sequencer.issue & sequencer.token.last & ~sequencer.token.learn):
            m.d.sync += reserved.eq(1)
        m.d.comb += [sequencer.room.eq(~reserved), self._readout.flush.eq(sequencer.learn)]
        with m.If(sequencer.learn | self._readout.left):
            m.d.sync += reserved.eq(0)
        return saturated

    def _lanes(self, m: Module, control: Signal) -> Value:
        """The banks of lanes, each a cycle behind the one before. Returns how many weights of a row were clipped."""
        p, readout = self._plan, self._readout
        chain = []
        for number, lanes in enumerate(p.banks):
            m.submodules[f"bank_{number}"] = bank = LaneBank(p, self._target, lanes)
            chain.append(bank)
            m.d.comb += [
                bank.control.eq(control),
                readout.load[number].eq(control.sum),
                *(readout.accumulators[i].eq(sum) for i, sum in zip(lanes, bank.accumulators, strict=True)),
            ]
            late = Signal(control_layout(p), name=f"control_{number + 1}", reset_less=True)
            m.d.sync += late.eq(control)
            control = late
        for bank, following in pairwise(chain):
            m.d.comb += [bank.neighbour.eq(following.updated), following.saturated_before.eq(bank.saturated)]
        m.d.comb += [chain[-1].neighbour.eq(self.access.data), self._weight.eq(chain[0].updated)]
        saturated: Value = chain[-1].saturated
        return saturated

    def _judge(self, m: Module) -> dict[str, Value]:
        """Readout, classifier and error of the oldest sample, then learning. Returns what the counters add."""
        buffer, sequencer, readout = self._buffer, self._sequencer, self._readout
        classifier, error = self._classifier, self._error
        sample = buffer.samples[0]
        taken, judging = Signal(), Signal()

        passed = self._drop(m, taken) if self._plan.dropped else readout.o.payload
        whole = taken & readout.o.payload.last
        decided = Signal()
        if self._plan.can_exit:
            # The bias of a sample that may stop here waits until that is known.
            whole = (whole & sample.learn) | decided
            m.d.comb += self._stops.eq(~sample.learn & self._lead.enough)
        ready, passed_on = (1, 1) if self._next is None else self._pass_on(m, passed, whole)
        m.d.comb += [
            readout.o.ready.eq(ready),
            taken.eq(readout.o.valid & readout.o.ready),
            classifier.activation.eq(passed),
            classifier.take.eq(taken),
        ]
        size, known = self._find_error(m)
        m.d.comb += [
            self.result.payload.predicted.eq(error.predicted),
            self.result.payload.error.eq(size),
        ]
        if self._plan.can_exit:
            m.d.comb += [
                self.result.payload.stopped.eq(self._stops),
                self._lead.start.eq(error.start),
                self._lead.score.eq(error.score),
            ]
        if self._plan.classifier.learns:
            # The next sample's activations would meet what is still being learned.
            passed_on &= classifier.idle
        else:
            m.d.comb += classifier.restart.eq(judging | self._accessed)
        learn, skipped, release = Signal(), Signal(), Signal()
        m.d.comb += classifier.decay.eq(self._decay_shift(m, learn))
        m.d.sync += [learn.eq(0), release.eq(0)]
        m.d.comb += [
            sequencer.learn.eq(learn),
            classifier.project.eq(learn),
            buffer.release.eq(release),
            sequencer.release.eq(release),
        ]
        # Where scores come late, so does the judge.
        scored = [*(f"Score {cycle}" for cycle in range(score_cycles(self._plan))), "Judge"]
        with m.FSM(name="judge"):
            with m.State("Read out"):
                m.d.comb += readout.enable.eq(1)
                with m.If(taken & readout.o.payload.last):
                    m.next = scored[0]
            for state, following in pairwise(scored):
                with m.State(state):
                    m.next = following
            with m.State("Judge"):
                m.d.comb += [judging.eq(1), error.start.eq(1)]
                m.next = "Wait"
            with m.State("Wait"), m.If(known):
                m.next = "Answer"
                if self._plan.can_exit:
                    with m.If(~sample.learn):
                        m.next = "Weigh"
            if self._plan.can_exit:
                with m.State("Weigh"):
                    m.next = "Decide"
                with m.State("Decide"):
                    m.d.comb += decided.eq(1)
                    m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    with m.If(size != 0):
                        m.d.sync += learn.eq(1)
                        m.next = "Learn"
                    with m.Else():
                        m.d.comb += skipped.eq(sample.learn)
                        m.next = "Release"
            with m.State("Learn"), m.If(sequencer.learned):
                m.next = "Release"
            with m.State("Release"):
                m.d.comb += judging.eq(1)
                with m.If(passed_on):
                    m.d.sync += release.eq(1)
                    m.next = "Read out"
        phase = sequencer.token.learn
        return {
            "events": buffer.taken,
            "forward": sequencer.issue & ~phase,
            "discarded": Mux(sequencer.learn, sequencer.discarded + sequencer.issue, 0),
            "updates": sequencer.issue & phase,
            "learned": learn,
            "skipped": skipped,
            "starved": self.busy & sequencer.starved,
            "waiting": self.busy & sequencer.waiting,
        }

    def _pass_on(self, m: Module, passed: Any, whole: Value) -> tuple[Value, Value]:
        """Activations that are not 0 to the next layer, and the bias once `whole` was high for a cycle.

        Returns whether an activation can go, and whether no bias waits to.
        """
        assert self._next is not None
        sample, readout, bias, out = self._buffer.samples[0], self._readout, Signal(name="bias"), self.o.payload
        m.d.comb += [
            self.o.valid.eq(bias | (readout.o.valid & passed.active)),
            out.index.eq(Mux(bias, self._next.inputs, passed.index)),
            out.value.eq(Mux(bias, self._next.input_format.half, passed.value)),
            out.last.eq(bias),
            out.label.eq(sample.label),
            out.learn.eq(sample.learn),
        ]
        if self._plan.can_exit:
            m.d.comb += out.void.eq(self._stops)
        with m.If(bias & self.o.ready):
            m.d.sync += bias.eq(0)
        with m.If(whole):
            m.d.sync += bias.eq(1)
        return self.o.ready | ~passed.active, ~bias

    def _drop(self, m: Module, taken: Value) -> Any:
        """The activation that is read out, 0 where the mask leaves its neuron out of a labelled sample."""
        m.submodules.mask = self._mask = LeapLfsr(MASK_LEAP)
        sample = self._buffer.samples[0]
        kept = ~sample.learn | (self._mask.state[:MASK_LEAP] >= self._plan.dropped)
        passed = Signal(activation_layout(self._plan))
        m.d.comb += [
            self._mask.step.eq(taken & sample.learn),
            passed.eq(self._readout.o.payload),
            passed.value.eq(Mux(kept, self._readout.o.payload.value, 0)),
            passed.active.eq(self._readout.o.payload.active & kept),
        ]
        return passed

    def _decay_shift(self, m: Module, learn: Signal) -> Value:
        """What the learning rate's shift has grown by for the sample at `learn`, from the next cycle on."""
        p = self._plan
        decay = self._own_decay if p.has_own_decay else self.decay
        if not p.decay_fraction:
            return decay
        one = 1 << p.decay_fraction
        rounded, share = Signal(range(p.max_decay + 1)), Signal(p.decay_fraction)
        shift = Signal(range(p.max_decay + 1))
        m.d.sync += [rounded.eq((decay + one - 1) >> p.decay_fraction), share.eq(-decay)]
        # All that the sample before had to learn is learned: the noise stands still.
        with m.If(learn):
            m.d.sync += shift.eq(rounded - (self._noise.state[-p.decay_fraction :] < share))
        return shift

    def _find_error(self, m: Module) -> tuple[Value, Value]:
        """What the oldest sample is learned from. Returns its size, and whether that and the prediction are known."""
        p, classifier, error, sample = self._plan, self._classifier, self._error, self._buffer.samples[0]
        if p.classifier.error != "label":
            source = self.top.entries if p.classifier.error == "top" else error.errors
            m.d.comb += [e.eq(made) for e, made in zip(classifier.errors, source, strict=True)]
        m.d.comb += [s.eq(made) for s, made in zip(error.scores, classifier.scores, strict=True)]
        if p.classifier.error == "label":
            m.d.comb += classifier.label.eq(sample.label)
            return Mux(sample.learn, 1 << p.error_bits, 0), error.done
        if p.classifier.error == "top":
            # The one labelled sample that has been passed on and not been learned is the next that the top judges, and
            # it judges no other before this layer lets that go: its error stays.
            judged, predicted = Signal(), Signal()
            known = predicted & (judged | ~sample.learn)
            m.d.sync += [
                judged.eq((judged | self.top.judged) & ~known),
                predicted.eq((predicted | error.done) & ~known),
            ]
            return Mux(sample.learn, self.top.size, 0), known
        m.d.comb += [error.label.eq(sample.label), error.learn.eq(sample.learn)]
        if self._passes_error_down:
            m.d.comb += [
                *(e.eq(made) for e, made in zip(self.error.entries, error.errors, strict=True)),
                self.error.size.eq(error.size),
                self.error.judged.eq(error.done & sample.learn),
            ]
        return error.size, error.done

    def _host_access(self, m: Module) -> None:
        """Every region has its element ready in a fixed time after the request; writes happen in the first cycle."""
        p, access = self._plan, self.access
        # Weights are shifted through the lanes: a row is fetched before its first is read, stored after its last
        # was written. Every bank has made a shift before the next.
        count = len(p.banks) + 1
        row_latency = WRITTEN + len(p.banks)
        slowest = max(row_latency, self._counters.latency)
        age, latency = Signal(range(slowest + 1)), Signal(range(slowest + 1), init=slowest)
        start, write = Signal(), Signal()
        m.d.comb += access.done.eq(self._accessed & (age == latency))
        m.d.sync += [
            start.eq(access.request),
            write.eq(access.request & access.write),
            age.eq(Mux(self._accessed, age + 1, 0)),
        ]
        with m.If(access.request):
            m.d.sync += self._accessed.eq(1)
        with m.Elif(access.done):
            m.d.sync += self._accessed.eq(0)
        # The fields stay as they are in the cycle of the request.
        kind = {kind: Signal(name=f"is_{kind.name.lower()}") for kind in Kind}
        first, last = Signal(), Signal()
        m.d.sync += [
            *(chosen.eq(access.kind == k) for k, chosen in kind.items()),
            first.eq(access.lane == 0),
            last.eq(access.lane == p.lanes - 1),
        ]
        weights = kind[Kind.WEIGHTS]
        m.d.comb += [
            self._fetch.eq(start & weights & ~access.write & first),
            self._store.eq(write & weights & last),
            self._shift.eq(start & weights & (access.write | ~first)),
        ]
        # It counts from the second cycle on, and none is shorter.
        m.d.sync += latency.eq(Mux(weights & access.write, count, _ACCESS_LATENCY))
        with m.If(weights & Mux(access.write, last, first)):
            m.d.sync += latency.eq(row_latency)
        with m.Elif(kind[Kind.COUNTERS]):
            m.d.sync += latency.eq(self._counters.latency)

        m.d.comb += [
            self._noise.seed.eq(access.data),
            self._noise.load.eq(write & kind[Kind.NOISE_STATE]),
            self._counters.select.eq(access.row),
            self._counters.clear.eq(write & kind[Kind.COUNTERS]),
        ]
        registers = self._registers(m)
        for region, register in registers.items():
            with m.If(write & kind[region]):
                m.d.sync += register.eq(access.data)
        own: dict[Kind, Value] = {**registers}
        if p.classifier.learns:
            column = Signal(p.classes)
            m.d.sync += column.eq(1 << access.lane)
            m.d.comb += [
                self._classifier.accessed.eq(self._accessed),
                self._classifier.row.eq(access.row),
                self._classifier.data.eq(access.data),
                self._classifier.store.eq(Mux(write & kind[Kind.CLASSIFIER], column, 0)),
                self._classifier.noise_seed.eq(access.data),
                self._classifier.load_noise.eq(write & kind[Kind.MATRIX_NOISE_STATE]),
            ]
            own[Kind.MATRIX_NOISE_STATE] = self._classifier.noise
            entries = zip(column, self._classifier.entries, strict=True)
            own[Kind.CLASSIFIER] = reduce(or_, (Mux(chosen, entry, 0) for chosen, entry in entries))
        if p.dropped:
            m.d.comb += [self._mask.seed.eq(access.data), self._mask.load.eq(write & kind[Kind.MASK_STATE])]
            own[Kind.MASK_STATE] = self._mask.state

        # Where the last sample began is history to the buffer; only the host asks for it.
        begin = Signal(range(p.event_depth))
        with m.If(self._buffer.release):
            m.d.sync += begin.eq(self._buffer.start)
        errors: dict[Kind, Value] = {}
        if p.classifier.error == "local":
            error, which = Signal.like(self._error.errors[0]), Signal(p.class_bits)
            m.d.sync += [which.eq(access.row), error.eq(Array(self._error.errors)[which])]
            errors[Kind.ERRORS] = error
        m.d.comb += self._error.select.eq(access.row)
        values: dict[Kind, Value] = {
            Kind.COUNTERS: self._counters.value,
            Kind.WEIGHTS: self._weight,
            Kind.NOISE_STATE: self._noise.state,
            Kind.SCORES: self._error.score,
            **errors,
            Kind.EVENTS: self._buffer.event.as_value(),
            Kind.EVENT_SPAN: Mux(access.row[0], self._buffer.start, begin),
            **own,
        }
        m.d.sync += access.read.eq(reduce(or_, (Mux(kind[region], value, 0) for region, value in values.items())))

    def _registers(self, m: Module) -> dict[Kind, Signal]:
        """Those that only the host writes."""
        p, found = self._plan, {}
        if not p.classifier.learns:
            found[Kind.CLASSIFIER_SEED] = seed = Signal(STATE_BITS)
            m.d.comb += self._classifier.seed.eq(seed)
        if p.feedback_bits:
            found[Kind.FEEDBACK_SEED] = feedback_seed = Signal(STATE_BITS)
            m.d.comb += self._classifier.feedback_seed.eq(feedback_seed)
        if p.can_exit:
            found[Kind.EXIT_LEAD] = least = Signal(p.exit_bits, init=p.no_exit)
            m.d.comb += self._lead.least.eq(least)
        if p.has_own_decay:
            found[Kind.DECAY] = self._own_decay
        return found
