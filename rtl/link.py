"""The chip's end of the link: two streams of bytes over a line that loses and alters some; see `quant/frames.py`."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
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


_TOO_LONG = MAX_PAYLOAD + CRC_BYTES + 1
"""Bytes behind a header: of no frame, however many more there are."""


class _Header:
    """What is needed of a frame's header from the host.

    known, open  of this version, and opening a session
    ours         of this session
    next, ahead  its payload is the stream's next, or begins beyond that
    """

    def __init__(self) -> None:
        self.known, self.open, self.ours = Signal(), Signal(), Signal()
        self.next, self.ahead = Signal(), Signal()
        self.era, self.session, self.got = Signal(8), Signal(16), Signal(OFFSET_BITS)


class Link(wiring.Component):
    """Latency from a frame's last byte to its first at `to_chip` 5 cycles, a byte a cycle from there; towards the host
    a byte every 12 cycles.

    link_bytes  that wait each way, in block RAM: a power of 2 from 4 to 128 times MAX_PAYLOAD

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
        if link_bytes not in (MAX_PAYLOAD << n for n in range(2, 8)):
            raise ValueError(f"link_bytes {link_bytes}: a power of 2 from {4 * MAX_PAYLOAD} to {128 * MAX_PAYLOAD}")
        self._target = target
        self._bytes = link_bytes
        # Fewer than twice as many are ever apart.
        self._bits = link_bytes.bit_length() - 1
        byte = stream.Signature(8)
        ports = {"i": In(byte), "o": Out(byte), "to_chip": Out(byte), "from_chip": In(byte)}
        inputs = {"at_rest": In(1), "stuck": In(1)}
        super().__init__(ports | inputs | {name: Out(1) for name in ("abort", "idle", "bad", "missed")})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Of the host's stream: what came whole, and what the chip has taken of it.
        self._got, self._taken = Signal(OFFSET_BITS), Signal(OFFSET_BITS)
        # Of the chip's: what the host has, what was sent, and what there is.
        self._kept, self._sent, self._made = Signal(OFFSET_BITS), Signal(OFFSET_BITS), Signal(self._bits + 1)
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
        size = record_size(HOST_HEADER)
        # Of the header, and of what follows.
        place, count = Signal(range(size + 1)), Signal(range(_TOO_LONG + 1))
        too_long = count == _TOO_LONG
        m.d.sync += [
            self._memory.write.eq(frames.valid & (place == size) & ~too_long),
            self._memory.write_address.eq(self._got + count),
            self._memory.write_data.eq(frames.byte),
        ]
        with m.If(frames.valid):
            with m.If(place != size):
                m.d.sync += place.eq(place + 1)
            with m.Elif(~too_long):
                m.d.sync += count.eq(count + 1)
        # A cycle late: a byte more is no harm, a frame that goes on is.
        beyond, held = Signal(), Signal(self._bits + 1)
        m.d.sync += held.eq(self._got - self._taken)
        m.d.sync += beyond.eq(held + count > link_window(self._bytes) + CRC_BYTES)
        header = self._header(m, frames.byte, frames.valid, place)

        whole, payload = Signal(), Signal()
        m.d.comb += [whole.eq(frames.end & frames.whole & (count >= CRC_BYTES)), payload.eq(count > CRC_BYTES)]
        session, rest = Signal(16), Signal(range(_AT_REST + 1))
        with m.If(frames.end):
            m.d.sync += [place.eq(0), count.eq(0)]
            m.d.comb += self.bad.eq((place != 0) & ~whole)
        with m.If(whole):
            m.d.sync += self._owes.eq(1)
        with m.If(whole & ~self.abort & header.known):
            with m.If(header.open & ~header.ours):
                m.d.sync += [self.abort.eq(1), session.eq(header.session), rest.eq(0)]
            with m.Elif(header.ours):
                m.d.sync += self._kept.eq(header.got)
                with m.If(header.era != self._era):
                    m.d.sync += [self._era.eq(header.era), self._back.eq(1), self._lost.eq(0)]
                with m.If(payload & header.ahead):
                    m.d.sync += self._lost.eq(1)
                    m.d.comb += self.missed.eq(1)
                with m.If(payload & header.next & ~too_long & ~beyond):
                    m.d.sync += self._got.eq(self._got + count - CRC_BYTES)

        with m.If(self.abort):
            m.d.sync += rest.eq(Mux(self.at_rest & resting, rest + 1, 0))
            with m.If(rest == _AT_REST):
                offsets = (self._got, self._taken, self._kept, self._sent, self._made, self._fetched)
                m.d.sync += [offset.eq(0) for offset in offsets]
                m.d.sync += [self._session.eq(session), self._era.eq(0), self._back.eq(0), self._lost.eq(0)]
                # A frame in the middle of which this happens is none of the new session's.
                m.d.sync += [self.abort.eq(0), self._owes.eq(1), count.eq(_TOO_LONG)]

    def _header(self, m: Module, byte: Value, valid: Value, place: Value) -> "_Header":
        """What a frame's header says, from its last byte on until the next frame's first: compared as it comes, so that
        little of it has to be kept."""
        header = _Header()
        low, borrow, same = Signal(8), Signal(), Signal()
        with m.If(valid), m.Switch(place):
            with m.Case(0):
                m.d.sync += [header.known.eq(byte[:4] == LINK_VERSION), header.open.eq(byte[4])]
            with m.Case(1):
                m.d.sync += header.era.eq(byte)
            with m.Case(2):
                m.d.sync += [header.session[:8].eq(byte), header.ours.eq(byte == self._session[:8])]
            with m.Case(3):
                ours = header.ours & (byte == self._session[8:])
                m.d.sync += [header.session[8:].eq(byte), header.ours.eq(ours)]
            with m.Case(4):
                m.d.comb += Cat(low, borrow).eq(byte - self._got[:8])
                m.d.sync += [same.eq(low == 0), header.ahead.eq(borrow)]
            with m.Case(5):
                # `ahead` has the borrow of the byte before.
                m.d.comb += low.eq(byte - self._got[8:] - header.ahead)
                m.d.sync += [header.next.eq(same & (low == 0)), header.ahead.eq(~low[7] & ~(same & (low == 0)))]
            with m.Case(6):
                m.d.sync += header.got[:8].eq(byte)
            with m.Case(7):
                m.d.sync += header.got[8:].eq(byte)
        return header

    def _give(self, m: Module) -> Signal:
        """The buffer to the chip. Returns whether nothing is on its way there."""
        m.submodules.received = self._memory = memory = BlockMemory(self._target, 8, self._bytes)
        m.submodules.ahead = ahead = SyncFIFO(width=8, depth=_AHEAD)
        self._fetched = Signal(self._bits)
        room, asked = Signal(range(_AHEAD + 1), init=_AHEAD), Signal(2)
        fetch, taken = Signal(), Signal()
        m.d.comb += [
            fetch.eq((self._fetched != self._got[: self._bits]) & (room != 0) & ~self.abort),
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
        m.d.comb += resting.eq((room == _AHEAD) & ((self._fetched == self._got[: self._bits]) | self.abort))
        return resting

    # -- to the host -----------------------------------------------------------------------------------

    def _keep(self, m: Module) -> Signal:
        """The chip's bytes into their buffer. Returns whether some are not sent."""
        m.submodules.kept = self._said = memory = BlockMemory(self._target, 8, self._bytes)
        space = Signal()
        m.d.sync += space.eq((self._made - self._kept)[: self._bits + 1] < self._bytes - 2)
        m.d.comb += [
            self.from_chip.ready.eq(space | self.abort),
            memory.write.eq(self.from_chip.valid & space & ~self.abort),
            memory.write_address.eq(self._made),
            memory.write_data.eq(self.from_chip.payload),
            memory.address.eq(self._sent),
        ]
        m.d.sync += self._made.eq(self._made + memory.write)
        going = Signal()
        m.d.comb += going.eq(self._made != self._sent[: self._bits + 1])
        return going

    def _send(self, m: Module, going: Signal) -> Signal:
        """Frames of what is there, or of an answer that is owed. Returns whether none is on its way."""
        m.submodules.sender = sender = FrameSender()
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        got, room, told = Signal(OFFSET_BITS), Signal(OFFSET_BITS), Signal(OFFSET_BITS)
        # The host hears of a quarter of its window when that has become free.
        quarter = (self._bytes // 4).bit_length() - 1
        news = Signal()
        m.d.comb += news.eq(self._taken[quarter] != told[quarter])
        with m.If(news):
            m.d.sync += self._owes.eq(1)
        at_rest = self.at_rest & (self._taken == self._got) & ~going
        flags, era = Signal(3), Signal(8)
        values = {
            "version": Const(LINK_VERSION, 4),
            "lost": flags[0],
            "stuck": flags[1],
            "idle": flags[2],
            "spare": Const(0, 1),
            "era": era,
            "session": self._session,
            "at": self._sent,
            "got": got,
            "room": room,
        }
        silent, count, patience = Signal(), Signal(range(MAX_PAYLOAD + 1)), Signal(range(_LINGER + 1))
        header = Signal(8 * record_size(CHIP_HEADER))
        m.d.comb += header.eq(Cat(values[name] for name in CHIP_HEADER))
        with m.FSM(name="talk"):
            with m.State("Rest"):
                m.d.comb += silent.eq(~news)
                m.d.sync += count.eq(0)
                with m.If(self._back):
                    m.d.sync += [self._sent.eq(self._kept), self._back.eq(0)]
                with m.Elif(self._owes | (going & ~self.abort)):
                    # What changes while it is sent.
                    m.d.sync += [flags.eq(Cat(self._lost, self.stuck, at_rest)), era.eq(self._era)]
                    m.d.sync += [got.eq(self._got), room.eq(self._taken + link_window(self._bytes))]
                    m.d.sync += [self._owes.eq(0), told.eq(self._taken)]
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += [sender.i.valid.eq(1), sender.i.payload.byte.eq(header.word_select(count[:4], 8))]
                with m.If(sender.i.ready):
                    m.d.sync += count.eq(count + 1)
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
