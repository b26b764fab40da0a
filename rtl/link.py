"""The chip's end of the link: two streams of bytes over a line that loses and alters some; see `quant/frames.py`."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.frames import (
    CHIP_HEADER,
    CRC_BYTES,
    HOST_HEADER,
    LINK_VERSION,
    NUMBER_BITS,
    SLOT_BYTES,
    link_window,
)
from locallearn.quant.packets import record_size
from locallearn.rtl.frames import FrameReceiver, FrameSender
from locallearn.rtl.memory import BlockMemory
from locallearn.rtl.slots import LENGTH_AT, SlotReader
from locallearn.rtl.target import Target

__all__ = ["Link"]

_AT_REST = 16
"""Cycles of rest that are one: what is on its way inside the chip is seen by then."""


class _Header:
    """What is needed of a frame's header from the host.

    known, open  of this version, and opening a session
    ours         of this session
    next, ahead  its payload is the stream's next, or one is missing before it
    """

    def __init__(self) -> None:
        self.known, self.open, self.ours = Signal(), Signal(), Signal()
        self.next, self.ahead = Signal(), Signal()
        self.era, self.got = Signal(HOST_HEADER["era"]), Signal(NUMBER_BITS)


class Link(wiring.Component):
    """Latency from a frame's last byte to its first at `to_chip` 8 cycles, a byte a cycle from there; towards the host
    a byte every SAY_CYCLES.

    link_bytes  that wait each way, in block RAM: a power of 2 from 4 to 128 slots

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
        if link_bytes not in (SLOT_BYTES << n for n in range(2, 8)):
            raise ValueError(f"link_bytes {link_bytes}: a power of 2 from {4 * SLOT_BYTES} to {128 * SLOT_BYTES}")
        self._target = target
        self._bytes = link_bytes
        # Of a slot's number.
        self._bits = (link_bytes // SLOT_BYTES).bit_length() - 1
        byte = stream.Signature(8)
        ports = {"i": In(byte), "o": Out(byte), "to_chip": Out(byte), "from_chip": In(byte)}
        inputs = {"at_rest": In(1), "stuck": In(1)}
        super().__init__(ports | inputs | {name: Out(1) for name in ("abort", "idle", "bad", "missed")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Frames of the host's stream: that came whole, and that the chip has taken.
        self._got, self._taken = Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        # Of the chip's: that the host has, that were sent, and that there are; and bytes of the one that is being made.
        self._kept, self._sent, self._made = Signal(NUMBER_BITS), Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        self._fill = Signal(range(SLOT_BYTES))
        # That one's slot is the last that is free; a byte waits for its place in it.
        self._last, self._waits = Signal(), Signal()
        self._session, self._era = Signal(HOST_HEADER["session"]), Signal(HOST_HEADER["era"])
        # The session that is asked for, until it has begun.
        self._asked = Signal(HOST_HEADER["session"])
        self._lost, self._owes, self._back = Signal(), Signal(), Signal()
        # An abort's last cycle.
        self._begins = Signal()
        m.submodules.received = self._received = BlockMemory(self._target, 8, self._bytes)
        m.submodules.said = self._said = BlockMemory(self._target, 8, self._bytes)
        given = self._give(m)
        # Later assignments win: what a frame brings over what it is the answer to.
        silent = self._send(m, self._keep(m), given)
        self._receive(m)
        with m.If(self.abort):
            self._abort(m, self.at_rest & silent)
        m.d.comb += self.idle.eq(given & silent & ~self.o.valid & ~self.abort & ~self._owes)
        return m

    # -- from the host ---------------------------------------------------------------------------------

    def _receive(self, m: Module) -> None:
        """Frames into the next slot; they count from their end on, if they are whole and the next."""
        m.submodules.frames = frames = FrameReceiver()
        wiring.connect(m, wiring.flipped(self.i), frames.i)
        # Bytes of the header, and of what follows.
        place, count = Signal(range(record_size(HOST_HEADER) + 1)), Signal(range(2 * SLOT_BYTES))
        too_long = Signal()
        m.d.comb += too_long.eq(count == SLOT_BYTES + CRC_BYTES)
        with m.If(frames.valid):
            with m.If(place != record_size(HOST_HEADER)):
                m.d.sync += place.eq(place + 1)
            with m.Elif(~too_long):
                m.d.sync += count.eq(count + 1)
        # A header's bytes are written too, where the first of its payload comes.
        m.d.comb += [
            self._received.write.eq(frames.end | (frames.valid & (count < SLOT_BYTES))),
            self._received.write_address.eq(Cat(Mux(frames.end, LENGTH_AT, count[:8]), self._got[: self._bits])),
            self._received.write_data.eq(Mux(frames.end, count - CRC_BYTES, frames.byte)),
        ]
        header = self._header(m, frames.byte, frames.valid, place)

        whole, payload = Signal(), Signal()
        m.d.comb += [whole.eq(frames.end & frames.whole & (count >= CRC_BYTES)), payload.eq(count != CRC_BYTES)]
        with m.If(frames.end):
            m.d.sync += [place.eq(0), count.eq(0)]
            m.d.comb += self.bad.eq((place != 0) & ~whole)
        with m.If(whole):
            m.d.sync += self._owes.eq(1)
        with m.If(whole & ~self.abort & header.known):
            with m.If(header.open & ~header.ours):
                m.d.sync += self.abort.eq(1)
            with m.Elif(header.ours):
                m.d.sync += self._kept.eq(header.got)
                with m.If(header.era != self._era):
                    m.d.sync += [self._era.eq(header.era), self._back.eq(1), self._lost.eq(0)]
                with m.If(payload & header.ahead):
                    m.d.sync += self._lost.eq(1)
                    m.d.comb += self.missed.eq(1)
                with m.If(payload & header.next & ~too_long & ~self._full(self._got, self._taken)):
                    m.d.sync += self._got.eq(self._got + 1)
        # A frame in the middle of which a session begins is none of its.
        with m.If(self._begins):
            m.d.sync += header.known.eq(0)

    def _header(self, m: Module, byte: Value, valid: Value, place: Value) -> "_Header":
        """What a frame's header says, from its last byte on until the next frame's first: compared as it comes, so that
        little of it has to be kept."""
        header, distance = _Header(), Signal(NUMBER_BITS)
        m.d.comb += distance.eq(byte - self._got)
        low, high = self._session[:8], self._session[8:]
        with m.If(valid), m.Switch(place):
            with m.Case(0):
                m.d.sync += header.known.eq(byte[:4] == LINK_VERSION)
                m.d.sync += Cat(header.open, header.era).eq(byte[4:])
            with m.Case(1):
                m.d.sync += header.ours.eq(byte == low)
                with m.If(~self.abort):
                    m.d.sync += self._asked[:8].eq(byte)
            with m.Case(2):
                m.d.sync += header.ours.eq(header.ours & (byte == high))
                with m.If(~self.abort):
                    m.d.sync += self._asked[8:].eq(byte)
            with m.Case(3):
                m.d.sync += [header.next.eq(distance == 0), header.ahead.eq((distance != 0) & ~distance[-1])]
            with m.Case(4):
                m.d.sync += header.got.eq(byte)
        return header

    def _abort(self, m: Module, resting: Value) -> None:
        """What was under way is given up; the session that was asked for begins after some cycles of rest."""
        rest = Signal(range(_AT_REST + 1))
        m.d.sync += rest.eq(Mux(resting, rest + 1, 0))
        with m.If(rest == _AT_REST):
            m.d.comb += self._begins.eq(1)
            numbers = (self._got, self._taken, self._kept, self._sent, self._made, self._fill)
            m.d.sync += [number.eq(0) for number in (*numbers, self._era, self._back, self._lost, rest)]
            m.d.sync += [self._session.eq(self._asked), self.abort.eq(0), self._owes.eq(1)]

    def _give(self, m: Module) -> Value:
        """The slots' bytes to the chip. Returns whether none is on its way there."""
        m.submodules.give = reader = SlotReader(self._bits)
        # One byte is at the chip, and one behind it where that was not taken: memories are late in a cycle, and so is
        # what the chip says.
        there, waits, byte, held = Signal(), Signal(), Signal(8), Signal(8)
        with m.If(~waits):
            m.d.sync += [held.eq(reader.o.payload), waits.eq(reader.o.valid)]
        with m.If(self.to_chip.ready | ~there):
            m.d.sync += [there.eq(reader.o.valid | waits), byte.eq(Mux(waits, held, reader.o.payload)), waits.eq(0)]
        with m.If(self.abort):
            m.d.sync += [there.eq(0), waits.eq(0)]
        m.d.comb += [
            reader.there.eq((self._taken != self._got) & ~self.abort),
            reader.slot.eq(self._taken),
            reader.clear.eq(self.abort),
            reader.data.eq(self._received.data),
            reader.o.ready.eq(~waits),
            self._received.address.eq(reader.address),
            self._received.read.eq(reader.read),
            self._received.enable.eq(reader.enable),
            self.to_chip.valid.eq(there & ~self.abort),
            self.to_chip.payload.eq(byte),
        ]
        with m.If(reader.done):
            m.d.sync += self._taken.eq(self._taken + 1)
        return (self._taken == self._got) & ~there & ~waits

    def _full(self, end: Signal, begin: Signal) -> Value:
        """Whether the slot at `end` is the last that is free."""
        return (end + 1)[: self._bits] == begin[: self._bits]

    # -- to the host -----------------------------------------------------------------------------------

    def _keep(self, m: Module) -> Signal:
        """The chip's bytes into slots. Returns what makes a frame of those that there are, if it can."""
        close, closes, takes = Signal(), Signal(), Signal()
        full = self._fill == LENGTH_AT
        # A cycle late: behind one that is closed there is nothing to close for so long.
        m.d.sync += self._last.eq(self._full(self._made, self._kept))
        # Every second cycle a byte, between registers: what the chip says comes from all over it.
        byte = Signal(8)
        m.d.comb += self.from_chip.ready.eq(~self._waits)
        with m.If(~self._waits):
            m.d.sync += [byte.eq(self.from_chip.payload), self._waits.eq(self.from_chip.valid)]
        with m.Elif(takes | self.abort):
            m.d.sync += self._waits.eq(0)
        m.d.comb += [
            closes.eq((full | (close & (self._fill != 0))) & ~self._last),
            takes.eq(self._waits & ~full & ~closes),
            self._said.write.eq(takes | closes),
            self._said.write_address.eq(Cat(Mux(closes, LENGTH_AT, self._fill), self._made[: self._bits])),
            self._said.write_data.eq(Mux(closes, self._fill, byte)),
        ]
        with m.If(closes):
            m.d.sync += [self._made.eq(self._made + 1), self._fill.eq(0)]
        with m.Elif(takes):
            m.d.sync += self._fill.eq(self._fill + 1)
        return close

    def _send(self, m: Module, close: Signal, given: Value) -> Signal:
        """Frames of what is there, or of an answer that is owed. Returns whether none is on its way."""
        m.submodules.sender = sender = FrameSender()
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        m.submodules.take = reader = SlotReader(self._bits)
        # The host hears of a quarter of its window when that has become free.
        quarter, told, news = self._taken[self._bits - 2], Signal(), Signal()
        m.d.comb += news.eq(quarter != told)
        with m.If(news):
            m.d.sync += self._owes.eq(1)
        made, begun = self._made != self._sent, (self._fill != 0) | self._waits
        going = made | (begun & ~self._last)
        values = {
            "version": Const(LINK_VERSION, 4),
            "spare": Const(0, 1),
            "era": self._era,
            "session": self._session,
            "number": self._sent,
            "got": self._got,
            "room": self._taken + link_window(self._bytes),
            "lost": self._lost,
            "stuck": self.stuck,
            "idle": self.at_rest & given & ~made & ~begun,
            "padding": Const(0, 5),
        }
        header, size = Signal(8 * record_size(CHIP_HEADER)), record_size(CHIP_HEADER)
        count, silent = Signal(range(size)), Signal()
        m.d.comb += [
            header.eq(Cat(values[name][:bits] for name, bits in CHIP_HEADER.items())),
            reader.slot.eq(self._sent),
            reader.data.eq(self._said.data),
            self._said.address.eq(reader.address),
            self._said.read.eq(reader.read),
            self._said.enable.eq(reader.enable),
        ]
        with m.FSM(name="talk"):
            with m.State("Rest"):
                m.d.comb += silent.eq(~news & ~self._back & (self.abort | ~going))
                m.d.sync += told.eq(quarter)
                with m.If(self._back):
                    m.d.sync += [self._sent.eq(self._kept), self._back.eq(0)]
                with m.Elif(self._owes | (going & ~self.abort)):
                    m.d.sync += self._owes.eq(0)
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.byte.eq(header.word_select(count, 8))]
                with m.If(sender.i.ready):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == size - 1):
                        m.d.sync += count.eq(0)
                        m.next = "Look"
            with m.State("Look"):
                # Meanwhile the chip may have said more of what it began to say.
                m.d.comb += close.eq(~made)
                with m.If(~going | self.abort):
                    m.next = "End"
                with m.Elif(made):
                    m.next = "Payload"
            with m.State("Payload"):
                m.d.comb += [
                    reader.there.eq(1),
                    sender.i.valid.eq(reader.o.valid),
                    sender.i.payload.byte.eq(reader.o.payload),
                    reader.o.ready.eq(sender.i.ready),
                ]
                with m.If(reader.done):
                    m.d.sync += self._sent.eq(self._sent + 1)
                    m.next = "End"
            with m.State("End"):
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.end.eq(1)]
                with m.If(sender.i.ready):
                    m.next = "Rest"
        return silent
