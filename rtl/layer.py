"""What dense and convolutional layers have in common: the judge behind their classifier, and the host's access."""

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import NOISE_LEAP
from locallearn.quant.lfsr import STATE_BITS
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import Kind
from locallearn.rtl.bank import Bank
from locallearn.rtl.classifier import Classifier
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.error import ErrorUnit
from locallearn.rtl.hinge import HingeUnit
from locallearn.rtl.largest import Largest
from locallearn.rtl.layouts import AccessSignature, error_layout, event_layout, result_layout
from locallearn.rtl.lead import Lead
from locallearn.rtl.learned import LearnedClassifier
from locallearn.rtl.lfsr import LeapLfsr
from locallearn.rtl.readout import Readout
from locallearn.rtl.summed import Summed, walk_layout
from locallearn.rtl.target import Target
from locallearn.rtl.timing import EVENT, ROW, SUM, WRITTEN, score_cycles

__all__ = ["Layer"]

_ACCESS_LATENCY = 4
"""Cycles until an element has arrived, of regions but weights and counters; the slowest is an event."""


class Layer(wiring.Component):
    """Layer `plan.index`; what it does with a sample between its input and its classifier is the subclass's.

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
    walk    of a layer whose scores the last one adds to its own: over these
    below   the last layer's end of it
    """

    _counters: CounterBank
    _readout: Readout

    def __init__(self, network: NetworkPlan, index: int, target: Target) -> None:
        self._target = target
        self._network = network
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
        if plan.sums_scores:
            members["below"] = In(walk_layout(network.layers[index - 1]))
        elif plan.scores_are_summed:
            members["walk"] = Out(walk_layout(plan))
        super().__init__(members)

    def _units(self, m: Module) -> None:
        """Classifier, error unit and noise."""
        p = self._plan
        classifier: Any = LearnedClassifier if p.classifier.learns else Classifier
        m.submodules.classifier = self._classifier = classifier(p, self._target)
        kind: Any = HingeUnit if p.classifier.loss == "squared-hinge" else ErrorUnit
        if p.classifier.error != "local":
            kind = Largest
        m.submodules.error = self._error = kind(p)
        if p.can_exit:
            m.submodules.lead = self._lead = Lead(p)
            self._stops = Signal(name="stops")
        if p.sums_scores:
            m.submodules.summed = self._summed = Summed(p, self._network.layers[p.index - 1], self._target)
        m.submodules.noise = self._noise = LeapLfsr(NOISE_LEAP)
        # The host's access to the weights.
        self._fetch, self._store, self._shift = Signal(name="fetch"), Signal(name="store"), Signal(name="shift")
        self._weight = Signal(signed(p.weight_format.bits), name="weight")
        self._accessed = Signal(name="accessed")
        if p.has_own_decay:
            self._own_decay = Signal(p.decay_bits, name="own_decay")
        self._frozen = Signal(p.frozen_bits, name="frozen")
        # What the judge says: activations may go to the classifier; there is something to learn, or nothing; the
        # sample may go; whether it goes on from here is known.
        self._reading, self._learn, self._skipped = Signal(name="reading"), Signal(name="learn"), Signal(name="skipped")
        self._release, self._decided = Signal(name="release"), Signal(name="decided")
        self._sample = Signal(data.StructLayout({"label": p.class_bits, "learn": 1}), name="sample")

    def _stage_access(self, m: Module) -> tuple[dict[int, Signal], dict[int, Signal]]:
        """The host's fetches and stores of rows of weights, by the stage of the pipeline that they have come to."""
        fetch = {EVENT: self._fetch} | {i: Signal(name=f"fetch_{i}") for i in range(ROW, SUM)}
        store = {EVENT: self._store} | {i: Signal(name=f"store_{i}") for i in range(ROW, WRITTEN - 1)}
        m.d.sync += [stages[i].eq(stages[i - 1]) for stages in (fetch, store) for i in list(stages)[1:]]
        return fetch, store

    def _order(self, m: Module, control: Any, orders: dict[str, Value]) -> None:
        """What the first bank has to do, by the names of its control; all from registers, a cycle later."""
        for name, order in orders.items():
            given = Signal(name=name)
            m.d.sync += given.eq(order)
            m.d.comb += getattr(control, name).eq(given)

    def _lanes(self, m: Module, control: Signal, kind: Callable[[Any, Target, range], Bank]) -> Value:
        """The banks of lanes, each a cycle behind the one before. Returns how many weights of a row were clipped."""
        p, readout = self._plan, self._readout
        chain = []
        for number, lanes in enumerate(p.banks):
            m.submodules[f"bank_{number}"] = bank = kind(p, self._target, lanes)
            chain.append(bank)
            m.d.comb += [
                bank.control.eq(control),
                readout.load[number].eq(control.sum),
                *(readout.accumulators[i].eq(sum) for i, sum in zip(lanes, bank.accumulators, strict=True)),
            ]
            late = Signal.like(control, name=f"control_{number + 1}", reset_less=True)
            m.d.sync += late.eq(control)
            control = late
        for bank, following in pairwise(chain):
            m.d.comb += [bank.neighbour.eq(following.updated), following.saturated_before.eq(bank.saturated)]
        m.d.comb += [chain[-1].neighbour.eq(self.access.data), self._weight.eq(chain[0].updated)]
        saturated: Value = chain[-1].saturated
        return saturated

    def _work(self, m: Module, held: Value, learned: Value) -> None:
        """Says whether there is any, of the samples `held` and after one has been `learned`."""
        # The last bank's clipped weights are still on their way to the counter.
        counting = Signal(len(self._plan.banks) + 3)
        m.d.sync += [
            counting.eq(Cat(learned, counting)),
            self.working.eq((held != 0) | counting.any()),
        ]

    def _judge(self, m: Module, ended: Value, learned: Value, passed_on: Value) -> None:
        """Answers for a sample after its last feature has gone to the classifier, has it learned, and lets it go.

        ended      the last feature goes to the classifier in this cycle
        learned    all weights have been; for a cycle
        passed_on  nothing of the sample has to go to the next layer any more
        """
        sample, classifier, error = self._sample, self._classifier, self._error
        judging, sums = Signal(name="judging"), self._plan.sums_scores
        size, known = self._find_error(m)
        m.d.comb += [
            self.result.payload.predicted.eq(self._summed.predicted if sums else error.predicted),
            self.result.payload.error.eq(size),
        ]
        if self._plan.can_exit:
            m.d.comb += [
                self._stops.eq(~sample.learn & self._lead.enough),
                self.result.payload.stopped.eq(self._stops),
                self._lead.start.eq(error.start),
                self._lead.score.eq(error.score),
            ]
        if self._plan.classifier.learns:
            # The next sample's activations would meet what is still being learned.
            passed_on &= classifier.idle
        else:
            m.d.comb += classifier.restart.eq(judging | self._accessed)
        m.d.sync += [self._learn.eq(0), self._release.eq(0)]
        m.d.comb += [
            classifier.decay.eq(self._decay_shift(m, self._learn)),
            classifier.project.eq(self._learn),
        ]
        if sums:
            m.d.comb += [
                self._summed.below.eq(self.below),
                self._summed.start.eq(error.start),
                self._summed.score.eq(error.score),
            ]
        elif self._plan.scores_are_summed:
            # The answer is too late: it may wait for the last layer's error.
            passes = error.done
            if self._plan.can_exit:
                passes = (error.done & sample.learn) | (self._decided & ~self._stops)
            m.d.comb += [
                self.walk.start.eq(error.start),
                self.walk.score.eq(error.score),
                self.walk.passes.eq(passes),
            ]
        # Where scores come late, so does the judge.
        scored = [*(f"Score {cycle}" for cycle in range(score_cycles(self._plan))), "Judge"]
        with m.FSM(name="judge"):
            with m.State("Read out"):
                m.d.comb += self._reading.eq(1)
                with m.If(ended):
                    m.next = scored[0]
            for state, following in pairwise(scored):
                with m.State(state):
                    m.next = following
            with m.State("Judge"):
                m.d.comb += [judging.eq(1), error.start.eq(self._summed.ready if sums else 1)]
                with m.If(error.start):
                    m.next = "Wait"
            with m.State("Wait"), m.If(known):
                m.next = "Add up" if sums else "Answer"
                if self._plan.can_exit:
                    with m.If(~sample.learn):
                        m.next = "Weigh"
            if self._plan.can_exit:
                with m.State("Weigh"):
                    m.next = "Decide"
                with m.State("Decide"):
                    m.d.comb += self._decided.eq(1)
                    m.next = "Answer"
            if sums:
                with m.State("Add up"):
                    m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    with m.If((size != 0) & ~self._frozen[0]):
                        m.d.sync += self._learn.eq(1)
                        m.next = "Learn"
                    with m.Else():
                        m.d.comb += self._skipped.eq(sample.learn)
                        m.next = "Release"
            with m.State("Learn"), m.If(learned):
                m.next = "Release"
            with m.State("Release"):
                m.d.comb += judging.eq(1)
                with m.If(passed_on):
                    m.d.sync += self._release.eq(1)
                    m.next = "Read out"

    def _pass_on(self, m: Module, given: Value, passed: Any, whole: Value) -> tuple[Value, Value]:
        """Activations that are `given` and not 0 to the next layer, and the bias once `whole` was high for a cycle; of
        a sample that may stop here, once that is known.

        Returns whether an activation can go, and whether no bias waits to.
        """
        if self._next is None:
            return Const(1), Const(1)
        sample, bias, out = self._sample, Signal(name="bias"), self.o.payload
        if self._plan.can_exit:
            whole = (whole & sample.learn) | self._decided
        m.d.comb += [
            self.o.valid.eq(bias | (given & passed.active)),
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
        p, classifier, error, sample = self._plan, self._classifier, self._error, self._sample
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

    def _host_access(self, m: Module, own: dict[Kind, Value]) -> None:
        """Every region has its element ready in a fixed time after the request; writes happen in the first cycle.

        own  regions of the subclass, each 4 cycles after the request
        """
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
        own = {**own, **registers}
        if p.classifier.learns:
            m.d.comb += self._classifier.weights_frozen.eq(self._frozen[1])
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
            **own,
        }
        m.d.sync += access.read.eq(reduce(or_, (Mux(kind[region], value, 0) for region, value in values.items())))

    def _registers(self, m: Module) -> dict[Kind, Signal]:
        """Those that only the host writes."""
        p, found = self._plan, {Kind.FROZEN: self._frozen}
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
