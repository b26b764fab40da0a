"""The results of all layers, gathered sample by sample, as packets to the host."""

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from locallearn.quant.packets import Opcode, record_size, result_fields
from locallearn.quant.plan import NetworkPlan
from locallearn.rtl.layouts import result_layout

__all__ = ["ResultEncoder"]


class ResultEncoder(wiring.Component):
    """One RESULT packet a sample: the opcode and a record for every layer, one byte a cycle.

    A layer is ahead of the last one by as many samples as fit in between; so many of its results wait here. Beyond a
    layer where a sample has stopped its records are 0, and what waits is another's.

    i     one stream a layer
    o     bytes
    sent  a sample's last byte is leaving
    """

    def __init__(self, network: NetworkPlan) -> None:
        self._network = network
        super().__init__(
            {
                "i": In(stream.Signature(result_layout(network))).array(len(network.layers)),
                "o": Out(stream.Signature(8)),
                "sent": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = record_size(result_fields(self._network))
        waiting = []
        for index, layer in enumerate(self.i):
            depth = self._network.results_waiting(index)
            fifo = SyncFIFOBuffered(width=len(layer.payload.as_value()), depth=depth)
            m.submodules[f"waiting_{index}"] = fifo
            m.d.comb += [
                fifo.w_data.eq(layer.payload),
                fifo.w_en.eq(layer.valid),
                layer.ready.eq(fifo.w_rdy),
            ]
            waiting.append(fifo)
        records: list[Value] = [fifo.r_data for fifo in waiting]
        # The last layer's result is not always the last to arrive: a convolution judges when all has been passed on.
        arrived: Value = Cat(fifo.r_rdy for fifo in waiting).all()
        taken: list[Value] = [self.sent] * len(waiting)
        if self._network.spec.early_exit:
            heads = [result_layout(self._network)(record) for record in records]
            stops = Signal(len(waiting))
            m.d.comb += stops.eq(Cat(fifo.r_rdy & head.stopped for fifo, head in zip(waiting, heads, strict=True)))
            comes = [~stops[:index].any() for index in range(len(waiting))]
            arrived = Cat(fifo.r_rdy | ~here for fifo, here in zip(waiting, comes, strict=True)).all()
            taken = [self.sent & here for here in comes]
            records = [Mux(here, record, 0) for here, record in zip(comes, records, strict=True)]
        m.d.comb += [fifo.r_en.eq(take) for fifo, take in zip(waiting, taken, strict=True)]
        packet = [Opcode.RESULT, *(record[8 * byte : 8 * byte + 8] for record in records for byte in range(size))]
        position, last = Signal(range(len(packet))), Signal()
        m.d.comb += [
            self.o.valid.eq(arrived),
            self.o.payload.eq(Array(packet)[position]),
            self.sent.eq(self.o.valid & self.o.ready & last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [position.eq(position + 1), last.eq(position == len(packet) - 2)]
            with m.If(last):
                m.d.sync += position.eq(0)
        return m
