"""The chip: packets in, a chain of layers that all learn at once, packets out."""

from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import SAMPLES_HELD
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import CHIP, CHIP_COUNTERS, Kind, interface_fingerprint
from locallearn.quant.spec import NetworkSpec
from locallearn.rtl.access import AccessUnit
from locallearn.rtl.conv import ConvLayer
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.decoder import PacketDecoder
from locallearn.rtl.dense import DenseLayer
from locallearn.rtl.layer import Layer
from locallearn.rtl.results import ResultEncoder
from locallearn.rtl.target import GENERIC, Target

__all__ = ["Chip"]


class Chip(wiring.Component):
    """A network that learns, behind two streams of bytes; see `quant/packets.py` for what they say.

    i        bytes from the host
    o        bytes to the host
    abort    give up the packet under way, whose answer may end anywhere
    packet   one is under way
    idle     nothing is in flight: without further input nothing more happens
    bad, missed  to be counted: frames, see `Link`
    """

    def __init__(self, spec: NetworkSpec, target: Target = GENERIC) -> None:
        self.plan = NetworkPlan(spec)
        self._target = target
        ports = {"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "packet": Out(1), "idle": Out(1)}
        super().__init__(ports | {name: In(1) for name in ("abort", "bad", "missed")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = PacketDecoder(self.plan)
        m.submodules.access = access = AccessUnit(self.plan)
        m.submodules.results = results = ResultEncoder(self.plan)
        layers = [_layer(self.plan, index, self._target) for index in range(len(self.plan.layers))]
        for index, layer in enumerate(layers):
            m.submodules[f"layer_{index}"] = layer
            wiring.connect(m, layer.result, results.i[index])
        wiring.connect(m, wiring.flipped(self.i), decoder.i)
        wiring.connect(m, decoder.o, layers[0].i)
        for layer, following in pairwise(layers):
            wiring.connect(m, layer.o, following.i)
        for layer, plan in zip(layers, self.plan.layers, strict=True):
            if plan.classifier.error == "top":
                m.d.comb += layer.top.eq(layers[-1].error)
        if self.plan.spec.sum_scores:
            m.d.comb += layers[-1].below.eq(layers[-2].walk)
        wiring.connect(m, decoder.access, access.i)
        wiring.connect(m, decoder.data, access.data)

        # A sample is in flight from its first byte to its result's last, and beyond that until all layers have
        # learned from it; reads and writes wait until none is.
        in_flight, busy = Signal(range(self._most_in_flight() + 1)), Signal()
        begun, sent = Signal(), Signal()
        m.d.sync += [
            # In registers: a request behind a sample comes many cycles after that has begun.
            begun.eq(decoder.begun),
            sent.eq(results.sent),
            in_flight.eq(in_flight + begun - sent),
            busy.eq((in_flight != 0) | Cat(layer.working for layer in layers).any()),
        ]
        m.d.comb += [
            access.write.eq(decoder.write),
            access.start.eq(~busy),
            decoder.abort.eq(self.abort),
            access.abort.eq(self.abort),
            self.packet.eq(~decoder.idle),
            self.idle.eq(~busy & decoder.idle),
        ]

        # Results and answers to reads and writes never meet.
        m.d.comb += [
            self.o.valid.eq(results.o.valid | access.o.valid),
            self.o.payload.eq(Mux(results.o.valid, results.o.payload, access.o.payload)),
            results.o.ready.eq(self.o.ready),
            access.o.ready.eq(self.o.ready),
        ]

        decay = Signal(self.plan.decay_bits)
        steps = {"cycles": busy, "samples": sent, "link_errors": decoder.error | access.error}
        steps |= {"bad_frames": self.bad, "missed_frames": self.missed}
        m.submodules.counters = counters = CounterBank(CHIP_COUNTERS, steps, self._target)
        for layer in layers:
            m.d.comb += [layer.busy.eq(busy), layer.decay.eq(decay)]
        self._host_access(m, access, layers, counters, decay)
        return m

    def _most_in_flight(self) -> int:
        """More samples than all event buffers, lanes and the decoder can hold."""
        return (SAMPLES_HELD + 2) * (len(self.plan.layers) + 1)

    def _host_access(
        self, m: Module, unit: AccessUnit, layers: list[Layer], counters: CounterBank, decay: Signal
    ) -> None:
        """Route the host's accesses to the layer they name, and serve the chip's own regions."""
        access = unit.access
        done, read = [], []

        def registered(condition: Value) -> Signal:
            """What the fields say: a request comes some cycles after them."""
            held = Signal()
            m.d.sync += held.eq(condition)
            return held

        for index, layer in enumerate(layers):
            chosen = registered(unit.layer == index)
            for name in ("write", "kind", "row", "lane", "data"):
                m.d.comb += getattr(layer.access, name).eq(getattr(access, name))
            m.d.comb += layer.access.request.eq(access.request & chosen)
            done.append(layer.access.done)
            read.append(Mux(chosen, layer.access.read, 0))

        start, write = Signal(), Signal()
        chosen = access.request & (unit.layer == CHIP)
        m.d.sync += [start.eq(chosen), write.eq(chosen & access.write)]
        age = Signal(range(counters.latency + 1))
        with m.If(start):
            m.d.sync += age.eq(1)
        with m.Elif(age != 0):
            m.d.sync += age.eq(Mux(age == counters.latency, 0, age + 1))
        m.d.comb += counters.select.eq(access.row)
        with m.If(write & (access.kind == Kind.DECAY)):
            m.d.sync += decay.eq(access.data)
        m.d.sync += counters.clear.eq(write & (access.kind == Kind.COUNTERS))
        fingerprint = Mux(access.row[0], interface_fingerprint(self.plan), self.plan.spec.fingerprint)
        values = {Kind.FINGERPRINT: fingerprint, Kind.DECAY: decay, Kind.COUNTERS: counters.value}
        for kind, value in values.items():
            read.append(Mux(registered((unit.layer == CHIP) & (access.kind == kind)), value, 0))
        # Answers come from all over the chip.
        m.d.sync += [
            access.done.eq(Cat(age == counters.latency, *done).any()),
            access.read.eq(reduce(or_, read)),
        ]


def _layer(plan: NetworkPlan, index: int, target: Target) -> Layer:
    kind = ConvLayer if isinstance(plan.layers[index], ConvPlan) else DenseLayer
    return kind(plan, index, target)
