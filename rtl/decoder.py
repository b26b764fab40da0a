"""The packet decoder: bytes from the host become samples' events and accesses to regions."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.packets import ACCESS, Opcode, record_size
from locallearn.quant.plan import NetworkPlan
from locallearn.rtl.layouts import event_layout

__all__ = ["PacketDecoder"]


class PacketDecoder(wiring.Component):
    """One byte a cycle. Latency 1 cycle from a pixel to its event.

    i         bytes, see `quant/packets.py`
    o         events for the first layer
    begun     a sample's packet has begun
    access    the packet READ or WRITE, offered until it is done; a WRITE's data bytes go by `data`
    write     the access is a WRITE
    data      bytes of a WRITE; during an access whatever comes is offered, and withdrawn when the access is done
    abort     give up the packet under way: a sample ends here, and is not learned from
    idle      between packets
    error     a byte that is no opcode, a label that is no class, or a run of zeros beyond the sample's end
    """

    def __init__(self, network: NetworkPlan) -> None:
        self._plan = network.layers[0]
        self._record = data.StructLayout(ACCESS)
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(event_layout(self._plan))),
                "begun": Out(1),
                "access": Out(stream.Signature(self._record)),
                "write": Out(1),
                "data": Out(stream.Signature(8)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        event = self.o.payload
        # The next pixel, and how many there are after it.
        position, after = Signal(range(p.inputs + 1)), Signal(range(p.inputs))
        header = Signal(8 * record_size(ACCESS))
        header_byte = Signal(range(record_size(ACCESS)))
        train = Signal()
        # The event offered is held in a register; another byte is taken while it leaves.
        free = Signal()
        m.d.comb += [free.eq(~self.o.valid | self.o.ready), self.access.payload.eq(header)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        def give_up() -> None:
            with m.If(self.abort & free):
                m.d.sync += event.learn.eq(0)
                m.next = "Bias"

        with m.FSM(name="packet"):
            with m.State("Opcode"):
                m.d.comb += [self.idle.eq(~self.o.valid), self.i.ready.eq(1)]
                m.d.sync += [position.eq(0), after.eq(p.inputs - 1)]
                with m.If(self.i.valid), m.Switch(self.i.payload):
                    with m.Case(Opcode.READ, Opcode.WRITE):
                        m.d.sync += self.write.eq(self.i.payload == Opcode.WRITE)
                        m.next = "Header"
                    with m.Case(Opcode.INFER, Opcode.TRAIN):
                        m.d.comb += self.begun.eq(1)
                        # The last sample's bias may still be offered with its own label.
                        m.d.sync += train.eq(self.i.payload == Opcode.TRAIN)
                        m.next = "Label"
                    with m.Default():
                        m.d.comb += self.error.eq(1)
            with m.State("Label"):
                m.d.comb += self.i.ready.eq(free)
                with m.If(self.i.valid & free):
                    m.d.sync += [event.label.eq(self.i.payload), event.learn.eq(train)]
                    # There is no error to learn from without a class.
                    with m.If(train & (self.i.payload >= p.classes)):
                        m.d.comb += self.error.eq(1)
                        m.d.sync += event.learn.eq(0)
                    m.next = "Pixels"
                give_up()
            with m.State("Pixels"):
                m.d.comb += self.i.ready.eq(free)
                with m.If(self.i.valid & free):
                    with m.If(self.i.payload == 0):
                        m.next = "Run"
                    with m.Else():
                        m.d.sync += [
                            self.o.valid.eq(self.i.payload[: p.input_format.bits] != 0),
                            event.index.eq(position),
                            event.value.eq(self.i.payload),
                            event.last.eq(0),
                            position.eq(position + 1),
                            after.eq(after - 1),
                        ]
                        with m.If(after == 0):
                            m.next = "Bias"
                give_up()
            with m.State("Run"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    run = self.i.payload + 1
                    m.d.sync += [position.eq(position + run), after.eq(after - run)]
                    m.d.comb += self.error.eq(self.i.payload > after)
                    m.next = "Pixels"
                    with m.If(self.i.payload >= after):
                        m.next = "Bias"
                give_up()
            with m.State("Bias"), m.If(free):
                m.d.sync += [
                    self.o.valid.eq(1),
                    event.index.eq(p.inputs),
                    event.value.eq(p.input_format.half),
                    event.last.eq(1),
                ]
                m.next = "Opcode"
            with m.State("Header"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [header.eq((self.i.payload << (len(header) - 8)) | (header >> 8))]
                    m.d.sync += header_byte.eq(header_byte + 1)
                    with m.If(header_byte == record_size(ACCESS) - 1):
                        m.d.sync += header_byte.eq(0)
                        m.next = "Access"
                with m.If(self.abort):
                    m.d.sync += header_byte.eq(0)
                    m.next = "Opcode"
            with m.State("Access"):
                m.d.comb += [
                    self.access.valid.eq(1),
                    self.data.valid.eq(self.i.valid),
                    self.data.payload.eq(self.i.payload),
                    self.i.ready.eq(self.data.ready),
                ]
                with m.If(self.access.ready):
                    m.next = "Opcode"
        return m
