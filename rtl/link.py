"""The chip's end of the link: two streams of bytes over a line that loses and alters some; see `quant/frames.py`."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from locallearn.quant.frames import (
    CHIP_HEADER,
    CRC_BYTES,
    HOST_HEADER,
    LINK_VERSION,
    MAX_PAYLOAD,
    OFFSET_BITS,
    link_window,
)
from locallearn.quant.packets import record_size
from locallearn.rtl.frames import FrameReceiver, FrameSender
from locallearn.rtl.memory import BlockMemory
from locallearn.rtl.target import Target

__all__ = ["Link"]

_LINGER = 32
"""Cycles that a frame waits for a further byte: a chip that is read has one every 10 or so."""

_AHEAD = 4
"""Bytes fetched ahead of the chip, which may take one a cycle from a memory of two cycles."""

_AT_REST = 16
"""Cycles of rest that are one: what is on its way inside the chip is seen by then."""


class Link(wiring.Component):
    """Latency from a frame's last byte to its first at `to_chip` 7 cycles, a byte a cycle from there; towards the host
    a byte every 4 cycles.

    link_bytes  that wait each way, in block RAM: a power of 2 from 2 to 128 times MAX_PAYLOAD

    i          bytes from the line, always taken
    o          bytes to the line
    to_chip    the host's stream
    from_chip  the chip's; kept until the host has it
    abort      a new session begins: give up what is under way until `at_rest`; what `from_chip` says is dropped
    at_rest    the chip is waiting for nothing, and neither doing anything
    stuck      to be said to the host
    idle       nothing happens any more until something comes
    bad        a frame has come that is none
    missed     one has come that is not the next
    """

    def __init__(self, target: Target, link_bytes: int) -> None:
        if link_bytes not in (MAX_PAYLOAD << n for n in range(1, 8)):
            raise ValueError(f"link_bytes {link_bytes}: a power of 2 from {2 * MAX_PAYLOAD} to {128 * MAX_PAYLOAD}")
        self._target = target
        self._bytes = link_bytes
        byte = stream.Signature(8)
        ports = {"i": In(byte), "o": Out(byte), "to_chip": Out(byte), "from_chip": In(byte)}
        inputs = {"at_rest": In(1), "stuck": In(1)}
        super().__init__(ports | inputs | {name: Out(1) for name in ("abort", "idle", "bad", "missed")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Of the host's stream: what came whole, and what the chip has taken of it.
        self._got, self._taken = Signal(OFFSET_BITS), Signal(OFFSET_BITS)
        # Of the chip's: what the host has, what was sent, and what there is.
        self._kept, self._sent, self._made = Signal(OFFSET_BITS), Signal(OFFSET_BITS), Signal(OFFSET_BITS)
        self._session, self._era = Signal(16), Signal(8)
        self._lost, self._owes, self._back = Signal(), Signal(), Signal()
        resting, going = self._give(m), self._keep(m)
        # Later assignments win: what a frame brings over what it is the answer to.
        silent = self._send(m, going)
        self._receive(m, resting & silent)
        m.d.comb += self.idle.eq(resting & silent & ~self.o.valid & ~self.abort & ~self._owes & ~going)
        return m

    # -- from the host ---------------------------------------------------------------------------------

    def _receive(self, m: Module, resting: Value) -> None:
        """Frames into the buffer; they count from their end on, if they are whole and the next."""
        m.submodules.frames = frames = FrameReceiver()
        wiring.connect(m, wiring.flipped(self.i), frames.i)
        layout = data.StructLayout(HOST_HEADER)
        size = record_size(HOST_HEADER)
        header = Signal(layout)
        header_bytes, others = Signal(range(size + 1)), Signal(range(CRC_BYTES + 2))
        # Where the next byte of a payload would lie, its CRC's bytes too.
        tail, full, overrun = Signal(OFFSET_BITS), Signal(), Signal()
        m.d.sync += full.eq((tail - self._taken)[:OFFSET_BITS] > link_window(self._bytes) + CRC_BYTES)
        m.d.sync += self._memory.write.eq(0)
        with m.If(frames.valid):
            with m.If(header_bytes != size):
                bits = header.as_value()
                m.d.sync += [bits.eq(Cat(bits[8:], frames.byte)), header_bytes.eq(header_bytes + 1)]
            with m.Else():
                m.d.sync += [
                    self._memory.write.eq(~full),
                    self._memory.write_address.eq(tail),
                    self._memory.write_data.eq(frames.byte),
                    tail.eq(tail + 1),
                    overrun.eq(overrun | full),
                ]
                with m.If(others != CRC_BYTES + 1):
                    m.d.sync += others.eq(others + 1)

        # A header is there for as long as its CRC takes to come before any of this is asked.
        ours, known, ahead, behind, new_era = (Signal() for _ in range(5))
        distance, progress, owned = (Signal(OFFSET_BITS) for _ in range(3))
        m.d.sync += [
            known.eq(header.version == LINK_VERSION),
            ours.eq(header.session == self._session),
            new_era.eq(header.era != self._era),
            distance.eq(header.at - self._got),
            ahead.eq((distance != 0) & ~distance[-1]),
            behind.eq(distance[-1]),
            progress.eq(header.got - self._kept),
            owned.eq(self._made - self._kept),
        ]
        session, rest = Signal(16), Signal(range(_AT_REST + 1))
        is_frame, payload = Signal(), Signal()
        m.d.comb += [is_frame.eq(frames.whole & (others >= CRC_BYTES)), payload.eq(others > CRC_BYTES)]
        with m.If(frames.end):
            m.d.sync += [header_bytes.eq(0), others.eq(0), tail.eq(self._got), overrun.eq(0)]
            m.d.comb += self.bad.eq((header_bytes != 0) & ~is_frame)
        with m.If(frames.end & is_frame):
            m.d.sync += self._owes.eq(1)
            with m.If(known & ~self.abort):
                with m.If(header.open & ~ours):
                    m.d.sync += [self.abort.eq(1), session.eq(header.session), rest.eq(0)]
                with m.Elif(ours & (progress <= owned)):
                    m.d.sync += self._kept.eq(header.got)
                    with m.If(new_era):
                        m.d.sync += [self._era.eq(header.era), self._back.eq(1), self._lost.eq(0)]
                    with m.If(payload & ahead):
                        m.d.sync += self._lost.eq(1)
                        m.d.comb += self.missed.eq(1)
                    with m.If(payload & ~ahead & ~behind & ~overrun):
                        m.d.sync += [self._got.eq(tail - CRC_BYTES), tail.eq(tail - CRC_BYTES)]

        with m.If(self.abort):
            m.d.sync += rest.eq(Mux(self.at_rest & resting, rest + 1, 0))
            with m.If(rest == _AT_REST):
                offsets = (self._got, self._taken, self._kept, self._sent, self._made, tail, self._fetched)
                m.d.sync += [offset.eq(0) for offset in offsets]
                m.d.sync += [self._session.eq(session), self._era.eq(0), self._back.eq(0), self._lost.eq(0)]
                m.d.sync += [self.abort.eq(0), self._owes.eq(1)]

    def _give(self, m: Module) -> Signal:
        """The buffer to the chip. Returns whether nothing is on its way there."""
        m.submodules.received = self._memory = memory = BlockMemory(self._target, 8, self._bytes)
        m.submodules.ahead = ahead = SyncFIFO(width=8, depth=_AHEAD)
        self._fetched = Signal(OFFSET_BITS)
        room, asked = Signal(range(_AHEAD + 1), init=_AHEAD), Signal(2)
        fetch, taken = Signal(), Signal()
        m.d.comb += [
            fetch.eq((self._fetched != self._got) & (room != 0) & ~self.abort),
            taken.eq(ahead.r_rdy & (self.to_chip.ready | self.abort)),
            memory.address.eq(self._fetched),
            ahead.w_data.eq(memory.data),
            ahead.w_en.eq(asked[-1]),
            ahead.r_en.eq(taken),
            self.to_chip.valid.eq(ahead.r_rdy & ~self.abort),
            self.to_chip.payload.eq(ahead.r_data),
        ]
        m.d.sync += [
            asked.eq(Cat(fetch, asked[0])),
            self._fetched.eq(self._fetched + fetch),
            self._taken.eq(self._taken + taken),
            room.eq(room - fetch + taken),
        ]
        resting = Signal()
        m.d.comb += resting.eq((room == _AHEAD) & ((self._fetched == self._got) | self.abort))
        return resting

    # -- to the host -----------------------------------------------------------------------------------

    def _keep(self, m: Module) -> Signal:
        """The chip's bytes into their buffer. Returns whether some are not sent."""
        m.submodules.kept = self._said = memory = BlockMemory(self._target, 8, self._bytes)
        space = Signal()
        m.d.sync += space.eq((self._made - self._kept)[:OFFSET_BITS] < self._bytes - 2)
        m.d.comb += [
            self.from_chip.ready.eq(space | self.abort),
            memory.write.eq(self.from_chip.valid & space & ~self.abort),
            memory.write_address.eq(self._made),
            memory.write_data.eq(self.from_chip.payload),
            memory.address.eq(self._sent),
        ]
        m.d.sync += self._made.eq(self._made + memory.write)
        going = Signal()
        m.d.comb += going.eq(self._made != self._sent)
        return going

    def _send(self, m: Module, going: Signal) -> Signal:
        """Frames of what is there, or of an answer that is owed. Returns whether none is on its way."""
        m.submodules.sender = sender = FrameSender()
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        header = Signal(8 * record_size(CHIP_HEADER))
        room, told = Signal(OFFSET_BITS), Signal(OFFSET_BITS)
        # The host hears of a quarter of its window when that has become free.
        quarter = (self._bytes // 4).bit_length() - 1
        m.d.sync += room.eq(self._taken + link_window(self._bytes))
        with m.If(self._taken[quarter] != told[quarter]):
            m.d.sync += self._owes.eq(1)
        values = {
            "version": Const(LINK_VERSION, 4),
            "lost": self._lost,
            "stuck": self.stuck,
            "idle": self.at_rest & (self._taken == self._got) & ~going,
            "spare": Const(0, 1),
            "era": self._era,
            "session": self._session,
            "at": self._sent,
            "got": self._got,
            "room": room,
        }
        silent, count, patience = Signal(), Signal(range(MAX_PAYLOAD + 1)), Signal(range(_LINGER + 1))
        m.d.comb += sender.i.payload.byte.eq(header)
        with m.FSM(name="talk"):
            with m.State("Rest"):
                m.d.comb += silent.eq(1)
                m.d.sync += [header.eq(Cat(values[name] for name in CHIP_HEADER)), count.eq(0)]
                with m.If(self._back):
                    m.d.sync += [self._sent.eq(self._kept), self._back.eq(0)]
                with m.Elif(self._owes | (going & ~self.abort)):
                    m.d.sync += [self._owes.eq(0), told.eq(self._taken)]
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += sender.i.valid.eq(1)
                with m.If(sender.i.ready):
                    m.d.sync += [header.eq(header >> 8), count.eq(count + 1)]
                    with m.If(count == record_size(CHIP_HEADER) - 1):
                        m.d.sync += [count.eq(0), patience.eq(_LINGER)]
                        m.next = "Look"
            with m.State("Look"):
                m.d.sync += patience.eq(patience + 1)
                with m.If((count == MAX_PAYLOAD) | self.abort | self._back):
                    m.next = "End"
                with m.Elif(going):
                    m.next = "Fetch"
                with m.Elif(patience == _LINGER):
                    m.next = "End"
            with m.State("Fetch"):
                m.next = "Payload"
            with m.State("Payload"):
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.byte.eq(self._said.data)]
                with m.If(sender.i.ready):
                    m.d.sync += [self._sent.eq(self._sent + 1), count.eq(count + 1), patience.eq(0)]
                    m.next = "Look"
            with m.State("End"):
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.end.eq(1)]
                with m.If(sender.i.ready):
                    m.next = "Rest"
        return silent
