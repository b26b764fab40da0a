"""The chip's end of the link, frame by frame: what it takes, what it answers, and when."""

from itertools import pairwise
from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.frames import (
    CHIP_HEADER,
    HOST_HEADER,
    LINK_VERSION,
    MAX_PAYLOAD,
    FrameDecoder,
    encode_frame,
    link_window,
)
from locallearn.quant.packets import pack, record_size, unpack
from locallearn.rtl.link import Link
from locallearn.rtl.target import GENERIC
from locallearn.rtl.timing import SAY_CYCLES
from locallearn.sim.bench import cycle, start
from locallearn.sim.streams import Pace, Sink, Source, pace
from tests.rtl.conftest import Bench

BYTES = 1024
WINDOW = link_window(BYTES)
SESSION = 0x7E7D


def test_link(bench: Bench) -> None:
    bench(Link(GENERIC, BYTES))


@pytest.mark.parametrize("size", [0, 512, 1000, 1536, 65536])
def test_sizes_that_there_are_not(size: int) -> None:
    with pytest.raises(ValueError, match=rf"^link_bytes {size}: a power of 2 from 1024 to 32768$"):
        Link(GENERIC, size)


# -- the bench -----------------------------------------------------------------------------------------


class Host:
    """Both sides of the link: frames by hand on the line, and the chip's two streams.

    frames     headers and payloads that the link has said
    heard      cycle and byte of what the chip has taken
    last_byte  cycle in which the line brought one
    """

    def __init__(self, dut: Any, takes: str = "steady", hears: str = "steady") -> None:
        self.dut = dut
        self.willing = True
        self.line, self.sink = Source(dut, "i", 8, pace("steady", 1)), Sink(dut, "o", 8, pace(hears, 2))
        turns = pace(takes, 3)
        self.heard: list[tuple[int, int]] = []
        self.last_byte = 0
        cocotb.start_soon(self._hear(turns))
        self.chip_says = Source(dut, "from_chip", 8, pace("steady", 4))
        self.frames: list[tuple[dict[str, int], bytes]] = []
        self.bad = self.missed = self._read = 0
        self._decoder = FrameDecoder()
        self.fields = {name: 0 for name in HOST_HEADER} | {"version": LINK_VERSION, "session": SESSION}
        dut.at_rest.value = 1
        cocotb.start_soon(self._count())

    async def _count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.bad += bool(self.dut.bad.value)
            self.missed += bool(self.dut.missed.value)
            if self.dut.i__valid.value:
                self.last_byte = cycle()

    async def _hear(self, turns: Pace) -> None:
        """Take bytes; only a new session may withdraw what was offered."""
        dut, ready, held = self.dut, False, None
        while True:
            await RisingEdge(dut.clk)
            offered = int(dut.to_chip__payload.value) if dut.to_chip__valid.value else None
            assert held is None or offered == held or dut.abort.value, f"cycle {cycle()}: {held} became {offered}"
            if ready and offered is not None:
                self.heard.append((cycle(), offered))
            held = None if ready else offered
            ready = turns(held is not None) and self.willing
            dut.to_chip__ready.value = ready

    def frame(self, payload: bytes = b"", **fields: int) -> bytes:
        return encode_frame(pack(HOST_HEADER, **{**self.fields, **fields}), payload)

    async def send(self, payload: bytes = b"", **fields: int) -> None:
        """A frame, and until all that it leads to has been said."""
        self.line.send(self.frame(payload, **fields))
        await self.rest()

    async def rest(self) -> None:
        """Until the link says that nothing happens any more, and it holds."""
        await self.line.drained()
        since, still = cycle(), 0
        # A byte is on its way for some cycles before the link is at work because of it.
        while still < 8:
            await RisingEdge(self.dut.clk)
            still = still + 1 if self.dut.idle.value else 0
            assert cycle() - since < 100_000, f"not idle since cycle {since}"
        heard = len(self.sink.received)
        for _ in range(100):
            await RisingEdge(self.dut.clk)
            assert self.dut.idle.value, f"cycle {cycle()}: idle no more, though nothing came"
        assert len(self.sink.received) == heard
        self._take()

    def _take(self) -> None:
        data = bytes(received.payload for received in self.sink.received[self._read :])
        self._read = len(self.sink.received)
        size = record_size(CHIP_HEADER)
        self.frames += [(unpack(CHIP_HEADER, body[:size]), body[size:]) for body in self._decoder.feed(data)]
        assert self._decoder.bad == 0

    def said(self) -> list[tuple[dict[str, int], bytes]]:
        """The frames since the last time."""
        frames, self.frames = self.frames, []
        return frames

    def last(self) -> dict[str, int]:
        """The header of the last one, which had no payload, without what `without_room` leaves out. Before it may be
        news of room."""
        *_, (header, payload) = self.said()
        assert payload == b""
        return self.without_room(header)

    @staticmethod
    def without_room(header: dict[str, int]) -> dict[str, int]:
        """What the chip has taken by then, and whether it is at rest, is its own affair."""
        assert (header["room"] - header["got"]) % 256 <= WINDOW, header
        return {name: value for name, value in header.items() if name not in ("room", "idle")}

    @property
    def taken(self) -> bytes:
        return bytes(byte for _, byte in self.heard)


async def opened(dut: Any, takes: str = "steady", hears: str = "steady") -> Host:
    """In a session."""
    await start(dut)
    host = Host(dut, takes, hears)
    await host.send(open=1)
    assert host.said()[-1][0]["session"] == SESSION
    return host


def expected(**fields: int) -> dict[str, int]:
    header = {name: 0 for name in CHIP_HEADER if name not in ("room", "idle")}
    return header | {"version": LINK_VERSION, "session": SESSION} | fields


# -- sessions ------------------------------------------------------------------------------------------


@cocotb.test
async def before_a_session(dut: Any) -> None:
    """It answers whatever is whole, and does nothing else."""
    await start(dut)
    host = Host(dut)
    await host.send(b"data")
    assert host.last() == expected(session=0)
    assert host.taken == b"" and (host.bad, host.missed) == (0, 0)


@cocotb.test
async def a_session_waits_for_the_chip(dut: Any) -> None:
    """Until it was at rest for a while what was under way is given up, and answers are those of the old session."""
    host = await opened(dut)
    host.willing = False
    host.chip_says.send(b"said")
    await host.chip_says.drained()
    host.line.send(host.frame(b"to be forgotten"))
    await host.line.drained()
    for _ in range(500):
        await RisingEdge(dut.clk)
    host._take()
    host.said()
    dut.at_rest.value = 0
    host.line.send(host.frame(open=1, session=77))
    await host.line.drained()
    host.chip_says.send(b"more of it")
    for _ in range(300):
        await RisingEdge(dut.clk)
        assert not dut.idle.value
    assert dut.abort.value and not dut.to_chip__valid.value
    assert not host.chip_says.pending, "what it says is dropped"
    # Another one that is asked for meanwhile does not count.
    host.line.send(host.frame(open=1, session=78))
    for _ in range(300):
        await RisingEdge(dut.clk)
    host._take()
    assert {header["session"] for header, _ in host.said()} == {SESSION}
    dut.at_rest.value = 1
    await host.rest()
    assert not dut.abort.value
    assert host.last() == expected(session=77)
    host.willing = True
    await host.send(b"new", session=77)
    assert host.last() == expected(session=77, got=1)
    assert host.taken == b"new"


@cocotb.test
async def what_has_no_room_is_dropped_too(dut: Any) -> None:
    """The byte that waits for it included: a chip that could not say it would never be at rest."""
    host = await opened(dut)
    host.chip_says.send([1] * (WINDOW + 2) * MAX_PAYLOAD)
    await host.rest()
    host.said()
    assert host.chip_says.pending, "more than there is room for"
    dut.at_rest.value = 0
    host.line.send(host.frame(open=1, session=77))
    await host.chip_says.drained()
    dut.at_rest.value = 1
    await host.rest()
    said = host.said()
    assert said[-1][0]["session"] == 77
    assert not any(payload for header, payload in said if header["session"] == 77)


@cocotb.test
@cocotb.parametrize(session=(SESSION, 99))
async def a_frame_across_the_beginning_of_a_session(dut: Any, session: int) -> None:
    """One whose first bytes came before it is not taken for a whole one of the new session, whatever its own is."""
    host = await opened(dut)
    dut.at_rest.value = 0
    host.line.send(host.frame(open=1, session=99))
    await host.line.drained()
    for _ in range(200):
        await RisingEdge(dut.clk)
    frame = host.frame(bytes(range(1, 101)), session=session)
    host.line.send(frame[:60])
    await host.line.drained()
    dut.at_rest.value = 1
    for _ in range(200):
        await RisingEdge(dut.clk)
    host.line.send(frame[60:])
    await host.rest()
    assert host.taken == b""
    host.said()
    await host.send(b"whole", session=99)
    assert host.last() == expected(session=99, got=1)
    assert host.taken == b"whole"


@cocotb.test
async def stuck_is_said(dut: Any) -> None:
    host = await opened(dut)
    dut.stuck.value = 1
    await host.send()
    assert host.last() == expected(stuck=1)


@cocotb.test
async def rest_is_said(dut: Any) -> None:
    """When all that came is taken, the chip rests, and what it said is sent."""
    host = await opened(dut)
    await host.send()
    assert host.said()[-1][0]["idle"]
    dut.at_rest.value = 0
    await host.send()
    assert not host.said()[-1][0]["idle"]
    dut.at_rest.value = 1
    host.willing = False
    await host.line.drained()
    host.line.send(host.frame(b"a"))
    for _ in range(500):
        await RisingEdge(dut.clk)
    host._take()
    assert not host.said()[-1][0]["idle"]
    host.willing = True
    await host.send(number=1)
    assert host.said()[-1][0]["idle"]


@cocotb.test
async def what_owes_an_answer_is_not_idle(dut: Any) -> None:
    """From the cycle on in which the frame counts: a simulator looks only now and then, and sleeps if it is."""
    host = await opened(dut)
    host.line.send(host.frame())
    await host.line.drained()
    heard = len(host.sink.received)
    size = record_size(CHIP_HEADER) + 6
    while len(host.sink.received) < heard + size:
        await RisingEdge(dut.clk)
        said = len(host.sink.received) - heard
        assert not dut.idle.value or cycle() < host.last_byte + 2, f"cycle {cycle()}: {said} of {size} bytes said"
    await host.rest()
    assert len(host.sink.received) - heard < size + 3, "no more than one frame"


# -- from the host -------------------------------------------------------------------------------------


@cocotb.test
async def frames_that_have_no_effect(dut: Any) -> None:
    """Each is answered if it is whole; the stream goes on behind them."""
    host = await opened(dut)
    await host.send(b"abc")
    assert host.last() == expected(got=1)
    others: list[dict[str, int]] = [
        {"version": LINK_VERSION ^ 1},
        {"session": 0},
        {"session": SESSION ^ 1},
        {"session": SESSION ^ 0x8000},
    ]
    for fields in others:
        await host.send(b"def", number=1, **fields)
        assert host.last() == expected(got=1), fields
    for number in (0, 255, 0x81):
        await host.send(b"again", number=number)
        assert host.last() == expected(got=1), number
    assert (host.bad, host.missed) == (0, 0)
    # Longer than a slot, however long it is.
    for size in (MAX_PAYLOAD + 1, MAX_PAYLOAD + 2, 512, 1000):
        await host.send(bytes(size), number=1)
        assert host.last() == expected(got=1), size
    whole = host.frame(b"def", number=1)
    for bit in range(8, 8 * (len(whole) - 1), 5):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        bad = host.bad
        host.line.send(damaged)
        await host.rest()
        assert host.said() == [] and host.bad > bad, bit
    # Too short for a header.
    bad = host.bad
    host.line.send(encode_frame(bytes(record_size(HOST_HEADER) - 1)))
    await host.rest()
    assert host.said() == [] and host.bad == bad + 1
    await host.send(b"def", number=1)
    assert host.last() == expected(got=2)
    assert host.taken == b"abcdef"


@cocotb.test
async def a_frame_is_missing(dut: Any) -> None:
    """It is said until the host begins another era; a frame of that era that is not the next says it anew."""
    host = await opened(dut)
    await host.send(b"later", number=1)
    assert host.last() == expected(lost=1)
    assert host.missed == 1
    await host.send()
    assert host.last() == expected(lost=1)
    await host.send(b"later", number=0x7F, era=1)
    assert host.last() == expected(lost=1, era=1)
    await host.send(b"now", era=2)
    assert host.last() == expected(got=1, era=2)
    assert (host.taken, host.missed, host.bad) == (b"now", 2, 0)


@cocotb.test
async def the_window_is_filled_exactly(dut: Any) -> None:
    """Then nothing more counts, wherever it lies, and what is there stays; room is told without being asked."""
    host = await opened(dut)
    host.willing = False
    rng = Random(1)
    pieces = [rng.randbytes(size) for size in (MAX_PAYLOAD, 1, 100)]
    for number, piece in enumerate(pieces):
        host.line.send(host.frame(piece, number=number))
    await host.line.drained()
    for _ in range(300):
        await RisingEdge(dut.clk)
    host._take()
    assert host.said()[-1][0] == expected(got=WINDOW, room=WINDOW, idle=0)
    for piece in (rng.randbytes(100), rng.randbytes(600)):
        host.line.send(host.frame(piece, number=WINDOW))
        for _ in range(len(piece) + 300):
            await RisingEdge(dut.clk)
        host._take()
        assert host.said()[-1][0] == expected(got=WINDOW, room=WINDOW, idle=0)
    host.willing = True
    await host.rest()
    assert host.taken == b"".join(pieces)
    rooms = [header["room"] for header, _ in host.said()]
    assert rooms == sorted(rooms) and rooms[-1] == 2 * WINDOW, rooms
    more = rng.randbytes(MAX_PAYLOAD)
    await host.send(more, number=WINDOW)
    assert host.taken == b"".join([*pieces, more])


@cocotb.test
@cocotb.parametrize(takes=("steady", "alternate", "random", "rare"))
async def numbers_go_round(dut: Any, takes: str) -> None:
    """At every pace of the chip; with the host's frames one after the other."""
    host = await opened(dut, takes)
    rng, number, sent = Random(takes), 0, b""
    for number in range(1, 600 if takes == "steady" else 270):
        piece = rng.randbytes(rng.choice([1, 2, 3, 4, 5, 30]) if number % 50 else rng.choice([254, 255]))
        host.line.send(host.frame(piece, number=(number - 1) % 256))
        await host.line.drained()
        sent += piece
        while len(host.heard) < len(sent):
            await RisingEdge(dut.clk)
    await host.rest()
    assert host.taken == sent
    header, _ = host.said()[-1]
    assert header["got"] == number % 256 and (header["room"] - number) % 256 <= WINDOW


@cocotb.test
async def latency_to_the_chip(dut: Any) -> None:
    """8 cycles from a frame's last byte, then a byte a cycle."""
    host = await opened(dut)
    payload = bytes(range(1, 101))
    host.line.send(host.frame(payload))
    await host.rest()
    cycles = [at for at, _ in host.heard]
    assert [at - cycles[0] for at in cycles] == list(range(100))
    assert cycles[0] - host.last_byte == 8


# -- to the host ---------------------------------------------------------------------------------------


@cocotb.test
@cocotb.parametrize(hears=("steady", "alternate", "rare"))
async def what_the_chip_says_is_kept(dut: Any, hears: str) -> None:
    """Until the host has it; the chip waits when the buffer is full. A new era says it once more."""
    host = await opened(dut, hears=hears)
    data = Random(hears).randbytes(WINDOW * MAX_PAYLOAD + 400)
    host.chip_says.send(data)
    await host.rest()
    said = host.said()
    assert not any(header["idle"] for header, _ in said), "more waits than may be sent"
    frames = [payload for _, payload in said if payload]
    # While the first frame goes, the chip may not have said enough for the next.
    assert [len(payload) for payload in frames[2:]] == [MAX_PAYLOAD] * (WINDOW - 2)
    first, kept = len(frames[0]), sum(len(payload) for payload in frames)
    # One more slot is filled, and not sent; and a byte waits outside.
    assert len(data) - host.chip_says.pending == kept + MAX_PAYLOAD + 1
    assert b"".join(frames) == data[:kept]
    await host.send(era=1, got=1)
    again = [(header["number"], payload) for header, payload in host.said() if header["era"] == 1 and payload]
    assert [number for number, _ in again] == [1, 2, 3]
    assert b"".join(payload for _, payload in again) == data[first : kept + MAX_PAYLOAD]
    await host.send(era=1, got=4)
    rest = [payload for _, payload in host.said() if payload]
    assert b"".join(rest) == data[kept + MAX_PAYLOAD :]
    await host.send(era=1, got=4 + len(rest))
    assert host.last() == expected(number=4 + len(rest), era=1)


@cocotb.test
async def idle_is_said_behind_the_last_byte(dut: Any) -> None:
    """With which the chip comes to rest, whenever that is while an answer to another frame is sent."""
    host = await opened(dut)
    for moment in range(140):
        dut.at_rest.value = 0
        host.line.send(host.frame(got=moment))
        await host.line.drained()
        for _ in range(moment):
            await RisingEdge(dut.clk)
        host.chip_says.send([moment])
        while not (dut.from_chip__valid.value and dut.from_chip__ready.value):
            await RisingEdge(dut.clk)
        dut.at_rest.value = 1
        await host.rest()
        said = host.said()
        behind = 1 + [payload for _, payload in said].index(bytes([moment]))
        assert not any(header["idle"] for header, _ in said[:behind]), f"{moment} cycles behind the frame"


@cocotb.test
async def a_byte_every_so_many_cycles(dut: Any) -> None:
    """Within a frame, where none is escaped."""
    host = await opened(dut)
    begin = len(host.sink.received)
    host.chip_says.send([1] * 200)
    await host.rest()
    cycles = [received.cycle for received in host.sink.received[begin + 120 : begin + 200]]
    assert {after - before for before, after in pairwise(cycles)} == {SAY_CYCLES}
