"""Reads and writes of regions: packets become one access an element, and elements become bytes."""

from functools import reduce
from operator import or_

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC  # type: ignore[import-untyped]  # not in the stubs
from amaranth.lib.wiring import In, Out

from locallearn.quant.packets import ACCESS, Opcode
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import ELEMENT_BITS, Kind, regions
from locallearn.rtl.layouts import AccessSignature

__all__ = ["AccessUnit"]


class AccessUnit(wiring.Component):
    """Walks over the rows and lanes of a request. About 9 cycles an element and one a byte, 8 where it is checked.

    i          a packet's fields; ready when all of it is done
    write, check  which packet it is, READ if neither
    start      nothing is in flight, so the request may begin
    data       bytes to write
    abort      end the access with the element under way
    o          opcode, then the bytes read, or their CRC
    layer      whom `access` is meant for: a layer's number or CHIP
    access     to all layers and the chip; their `done` and `read` gathered
    error      a request for a region that there is not; it reads 0 and writes nothing, one byte an element
    """

    def __init__(self, network: NetworkPlan) -> None:
        self._network = network
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout(ACCESS))),
                "write": In(1),
                "check": In(1),
                "start": In(1),
                "data": In(stream.Signature(8)),
                "abort": In(1),
                "o": Out(stream.Signature(8)),
                "layer": Out(8),
                "access": Out(AccessSignature(network)),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access, request = self.access, self.i.payload
        table = regions(self._network)
        max_lanes = max(region.lanes for region in table.values())

        # Whether each region is the one that is asked for, and in the next cycle its shape, all 0 where none is.
        asked = {key: Signal(name=f"asked_{key[0]}_{key[1].name.lower()}") for key in table}
        m.d.sync += [
            this.eq((request.layer == layer) & (request.kind == kind)) for (layer, kind), this in asked.items()
        ]

        def of_asked(values: dict[tuple[int, Kind], int]) -> Value:
            return reduce(or_, (Mux(asked[key], value, 0) for key, value in values.items()))

        known = Signal()
        last_lane, last_byte = Signal(range(max_lanes)), Signal(range(ELEMENT_BITS // 8))
        m.d.sync += [
            known.eq(Cat(asked.values()).any()),
            last_lane.eq(of_asked({key: region.lanes - 1 for key, region in table.items()})),
            last_byte.eq(of_asked({key: region.size - 1 for key, region in table.items()})),
        ]

        element = Signal(ELEMENT_BITS)
        byte = Signal(range(ELEMENT_BITS // 8))
        row, lane, left = Signal(len(access.row)), Signal(range(max_lanes)), Signal(ACCESS["rows"])
        final = Signal()
        m.d.comb += [
            self.layer.eq(request.layer),
            access.write.eq(self.write),
            access.kind.eq(request.kind),
            access.row.eq(row),
            access.lane.eq(lane),
            access.data.eq(element),
        ]

        # An element takes several cycles: whether it is the last of its row, and that the last, is known in its end.
        row_done = Signal()
        m.d.sync += [final.eq(left == 1), row_done.eq(lane == last_lane)]

        def next_element() -> None:
            m.next = "Request"
            with m.If(self.write):
                m.next = "Collect"

        # Bit by bit, a fifth of the LUTs; from registers, for a bit is chosen among 32.
        m.submodules.crc = crc = CRC32_ISO_HDLC(1).create()
        bit, adds = Signal(3), Signal()
        said = element.word_select(byte, 8)
        reads_out = ~self.write & ~self.check
        m.d.sync += [crc.data.eq(said.bit_select(bit, 1)), crc.valid.eq(adds)]

        with m.FSM(name="access_phase"):
            with m.State("Idle"), m.If(self.i.valid & self.start):
                m.d.sync += [row.eq(request.row), left.eq(request.rows), lane.eq(0), byte.eq(0)]
                m.next = "Look up"
            with m.State("Look up"):
                m.next = "Announce"
            with m.State("Announce"):
                # A write is announced when it is over, a read before its data.
                m.d.comb += [self.o.valid.eq(reads_out), self.o.payload.eq(Opcode.DATA)]
                with m.If(~reads_out | self.o.ready):
                    m.d.comb += [self.error.eq(~known), crc.start.eq(1)]
                    next_element()
                    with m.If(request.rows == 0):
                        m.next = "Finish"
            with m.State("Collect"):
                m.d.comb += self.data.ready.eq(1)
                # Whatever is there in the end: what is taken counts.
                m.d.sync += element.word_select(byte, 8).eq(self.data.payload)
                with m.If(self.data.valid):
                    m.d.sync += byte.eq(byte + 1)
                    with m.If(byte == last_byte):
                        m.next = "Request"
                with m.If(self.abort):
                    m.next = "Finish"
            with m.State("Request"):
                m.d.comb += access.request.eq(known)
                m.next = "Wait"
            with m.State("Wait"):
                with m.If(~self.write):
                    m.d.sync += element.eq(Mux(known, access.read, 0))
                with m.If(access.done | ~known):
                    m.next = "Send"
                    with m.If(self.write):
                        m.next = "Next"
            with m.State("Send"):
                m.d.comb += [self.o.valid.eq(~self.check), self.o.payload.eq(said), adds.eq(self.check)]
                m.d.sync += bit.eq(Mux(self.check, bit + 1, 0))
                with m.If(Mux(self.check, bit == 7, self.o.ready)):
                    m.d.sync += byte.eq(byte + 1)
                    with m.If(byte == last_byte):
                        m.next = "Next"
            with m.State("Next"):
                m.d.sync += [byte.eq(0), lane.eq(lane + 1)]
                next_element()
                with m.If(row_done):
                    m.next = "Next row"
                with m.If(self.abort):
                    m.next = "Finish"
            with m.State("Next row"):
                m.d.sync += [lane.eq(0), row.eq(row + 1), left.eq(left - 1)]
                next_element()
                with m.If(final):
                    m.next = "Finish"
            with m.State("Finish"):
                m.d.comb += [self.o.valid.eq(self.write), self.o.payload.eq(Opcode.DONE)]
                m.d.sync += byte.eq(0)
                with m.If(self.check):
                    m.next = "Sum"
                with m.Elif(~self.write | self.o.ready):
                    m.d.comb += self.i.ready.eq(1)
                    m.next = "Idle"
            with m.State("Sum"):
                answer = Array([Const(Opcode.SUM), *(crc.crc[place : place + 8] for place in range(0, 32, 8))])
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(answer[byte])]
                with m.If(self.o.ready):
                    m.d.sync += byte.eq(byte + 1)
                    with m.If(byte == len(answer) - 1):
                        m.d.comb += self.i.ready.eq(1)
                        m.next = "Idle"
        return m
