"""Both ends of a frame: the receiver against a plain reading of the line, the sender against `encode_frame`."""

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any
from zlib import crc32

import cocotb
import pytest
from amaranth.lib import wiring
from cocotb.triggers import RisingEdge

from locallearn.quant.frames import CRC_BYTES, ESCAPE, FLAG, encode_frame
from locallearn.rtl.frames import FrameReceiver, FrameSender
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, STALLS, Sink, Source, pace
from tests.rtl.conftest import Bench

BLOCKS: dict[str, type["wiring.Component[Any]"]] = {"receiver": FrameReceiver, "sender": FrameSender}
ITEM = FrameSender().i.payload.shape()


@pytest.mark.parametrize("block", BLOCKS)
def test_frames(bench: Bench, block: str) -> None:
    bench(BLOCKS[block](), block)


# -- what the line says --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """What was between two FLAGs: the bytes, and whether the last four were the CRC of the others."""

    data: bytes
    whole: bool


def read_line(line: bytes) -> list[Piece]:
    """One for every FLAG."""
    pieces, data, escaped = [], bytearray(), False
    for byte in line:
        if byte == 0x7E:
            whole = len(data) >= 4 and crc32(data[:-4]).to_bytes(4, "little") == data[-4:]
            pieces.append(Piece(bytes(data), whole))
            data, escaped = bytearray(), False
        elif byte == 0x7D:
            escaped = True
        else:
            data.append(byte ^ 0x20 if escaped else byte)
            escaped = False
    return pieces


def raw(body: bytes) -> bytes:
    """A frame with this CRC or none."""
    for special in (ESCAPE, FLAG):
        body = body.replace(bytes([special]), bytes([ESCAPE, special ^ 0x20]))
    return b"%c%b%c" % (FLAG, body, FLAG)


def with_crc(body: bytes) -> bytes:
    return body + crc32(body).to_bytes(4, "little")


def any_bodies(rng: Random, count: int) -> list[bytes]:
    """With many bytes that must be escaped, and some without any."""
    kinds = [
        lambda size: rng.randbytes(size),
        lambda size: bytes(rng.choices([FLAG, ESCAPE, FLAG ^ 0x20, ESCAPE ^ 0x20, 0], k=size)),
        lambda size: bytes(size),
    ]
    return [rng.choice(kinds)(rng.choice([0, 1, 2, 8, rng.randint(3, 40)])) for _ in range(count)]


# -- the receiver --------------------------------------------------------------------------------------


class Ear:
    """What the receiver says of the line."""

    def __init__(self, dut: Any, idle: str = "steady") -> None:
        self.dut = dut
        self.source = Source(dut, "i", 8, pace(idle, 1))
        self.pieces: list[Piece] = []
        self.byte_cycles: list[int] = []
        self.end_cycles: list[int] = []
        cocotb.start_soon(self._listen())

    async def _listen(self) -> None:
        dut, data = self.dut, bytearray()
        while True:
            await RisingEdge(dut.clk)
            assert dut.i__ready.value, f"cycle {cycle()}: not ready"
            valid, end = bool(dut.valid.value), bool(dut.end.value)
            assert not (valid and end), f"cycle {cycle()}: a byte and an end"
            if valid:
                data.append(int(dut.byte.value))
                self.byte_cycles.append(cycle())
            if end:
                self.pieces.append(Piece(bytes(data), bool(dut.whole.value)))
                self.end_cycles.append(cycle())
                data = bytearray()

    async def check(self, line: bytes) -> None:
        expected = read_line(line)
        self.pieces.clear()
        self.source.send(line)
        await self.source.drained()
        for _ in range(5):
            await RisingEdge(self.dut.clk)
        assert self.pieces == expected, first_difference(self.pieces, expected)


def first_difference(actual: list[Piece], expected: list[Piece]) -> str:
    for number, (a, e) in enumerate(zip(actual, expected, strict=False)):
        if a != e:
            return f"piece {number}: expected {e}, actual {a}"
    return f"expected {len(expected)} pieces, actual {len(actual)}"


@cocotb.test
@cocotb.parametrize(idle=IDLE)
async def any_frames_are_read_at_any_pace(dut: Any, idle: str) -> None:
    """Whole ones, cut ones, noise, escapes before anything; with a FLAG each, shared, or many."""
    if parameters() != "receiver":
        return
    await start(dut)
    ear, rng = Ear(dut, idle), Random(idle)
    line = b""
    for body in any_bodies(rng, 40):
        frame = raw(with_crc(body))
        kind = rng.randrange(6)
        if kind == 0:
            frame = frame[1:]  # its FLAG is the last one's
        elif kind == 1:
            cut = rng.randrange(len(frame))
            frame = frame[:cut]
        elif kind == 2:
            at = rng.randrange(len(frame))
            frame = frame[:at] + bytes([frame[at] ^ 1 << rng.randrange(8)]) + frame[at + 1 :]
        elif kind == 3:
            frame = rng.randbytes(rng.randrange(30))
        elif kind == 4:
            frame = frame[:-1] + bytes([ESCAPE, FLAG])
        line += frame
    assert any(piece.whole for piece in read_line(line))
    await ear.check(line)


@cocotb.test
async def all_bytes_are_read(dut: Any) -> None:
    """Each by itself, escaped or not, needed or not, and as the CRC's last."""
    if parameters() != "receiver":
        return
    await start(dut)
    ear = Ear(dut)
    line = b"".join(raw(with_crc(bytes([byte]))) for byte in range(256))
    line += b"".join(bytes([ESCAPE, byte, ESCAPE, byte, byte]) for byte in range(256))
    await ear.check(line + bytes([FLAG]))


@cocotb.test
async def a_crc_that_is_off_in_one_bit(dut: Any) -> None:
    """Each of its bits, and each of the body's."""
    if parameters() != "receiver":
        return
    await start(dut)
    ear = Ear(dut)
    whole = with_crc(b"a body")
    bits = [1 << bit for bit in range(8 * len(whole))]
    number = int.from_bytes(whole, "little")
    line = b"".join(raw((number ^ bit).to_bytes(len(whole), "little")) + raw(whole) for bit in bits)
    await ear.check(line)
    frames = [piece for piece in ear.pieces if piece.data]
    assert [piece.whole for piece in frames] == [False, True] * len(bits)


@cocotb.test
async def frames_too_short_for_a_crc(dut: Any) -> None:
    """None of them is whole but for one that is a CRC only: that of nothing. A CRC register at rest is no CRC."""
    if parameters() != "receiver":
        return
    await start(dut)
    ear = Ear(dut)
    whole = with_crc(b"\x7e")
    await ear.check(b"".join(raw(whole[:size]) for size in range(len(whole) + 1)) + raw(bytes(4)) + bytes([FLAG] * 9))
    assert [piece.whole for piece in ear.pieces if piece.data] == [False] * 4 + [True, True]


@cocotb.test
async def latency_of_the_receiver(dut: Any) -> None:
    """1 cycle from a byte to the frame's, or the FLAG to its end; a byte a cycle."""
    if parameters() != "receiver":
        return
    await start(dut)
    frame = encode_frame(b"abc")
    taken = {}
    valid, ends = [], []
    for number in range(len(frame) + 3):
        dut.i__valid.value = number < len(frame)
        dut.i__payload.value = frame[number] if number < len(frame) else 0
        await RisingEdge(dut.clk)
        taken[number] = cycle()
        valid += [cycle()] * bool(dut.valid.value)
        ends += [cycle()] * bool(dut.end.value)
    # Nothing is escaped in it.
    assert len(frame) == 9
    assert valid == [taken[number] + 1 for number in range(1, 8)]
    assert ends == [taken[0] + 1, taken[8] + 1]


# -- the sender ----------------------------------------------------------------------------------------


def items(bodies: list[bytes]) -> list[dict[str, int]]:
    """With any byte beside the end."""
    return [
        {"byte": byte, "end": end}
        for body in bodies
        for byte, end in [*((byte, 0) for byte in body), ((37 * len(body)) % 256, 1)]
    ]


@cocotb.test
@cocotb.parametrize(idle=IDLE, stalls=STALLS)
async def any_frames_are_sent_at_any_pace(dut: Any, idle: str, stalls: str) -> None:
    """The empty ones too."""
    if parameters() != "sender":
        return
    await start(dut)
    source, sink = Source(dut, "i", ITEM, pace(idle, 1)), Sink(dut, "o", 8, pace(stalls, 2))
    bodies = any_bodies(Random(f"{idle} {stalls}"), 12)
    source.send(items(bodies))
    await sink.expect(b"".join(map(encode_frame, bodies)))
    await quiet(dut, source, sink)


async def quiet(dut: Any, source: Source, sink: Sink) -> None:
    await source.drained()
    for _ in range(10):
        await RisingEdge(dut.clk)
    sink.expect_nothing_more()


@cocotb.test
async def all_bytes_are_sent(dut: Any) -> None:
    """Each by itself, which gives CRCs with escapes in every place, and all in a row."""
    if parameters() != "sender":
        return
    await start(dut)
    bodies = [bytes([byte]) for byte in range(256)] + [bytes(range(256)), bytes([FLAG, ESCAPE] * 20)]
    for place in range(4):
        for special in (FLAG, ESCAPE):
            assert any(crc32(body).to_bytes(4, "little")[place] == special for body in crcs()), "no such CRC"
    source, sink = Source(dut, "i", ITEM, pace("steady", 1)), Sink(dut, "o", 8, pace("steady", 2))
    bodies += crcs()
    source.send(items(bodies))
    await sink.expect(b"".join(map(encode_frame, bodies)))
    await quiet(dut, source, sink)


def crcs() -> list[bytes]:
    """Bodies whose CRC has a FLAG or an ESCAPE in each of its places."""
    found: dict[tuple[int, int], bytes] = {}
    for number in range(1 << 16):
        body = number.to_bytes(2, "little")
        for place, byte in enumerate(crc32(body).to_bytes(4, "little")):
            if byte in (FLAG, ESCAPE):
                found.setdefault((place, byte), body)
    return list(found.values())


@cocotb.test
async def a_byte_every_ten_cycles(dut: Any) -> None:
    """Of the frame's and its CRC; FLAGs and what follows an escape come faster."""
    if parameters() != "sender":
        return
    await start(dut)
    bodies = [b"one", b"", bytes([FLAG] * 5), b"two"]
    source, sink = Source(dut, "i", ITEM, pace("steady", 1)), Sink(dut, "o", 8, pace("steady", 2))
    source.send(items(bodies))
    line = b"".join(map(encode_frame, bodies))
    await sink.expect(line)
    cycles = [received.cycle for received in sink.received]
    steps = [after - before for before, after in pairwise(cycles)]
    assert set(steps) <= {2, 3, 4, 10}, steps
    assert steps.count(10) == sum(len(body) + CRC_BYTES for body in bodies)
