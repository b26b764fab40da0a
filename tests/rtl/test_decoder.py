"""The packet decoder against a plain reading of the packets, with every stream at every pace."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import cocotb
import pytest
from amaranth.lib.data import StructLayout
from cocotb.triggers import RisingEdge

from locallearn.quant.packets import ACCESS, MAX_RUN, Opcode, pack, record_size
from locallearn.quant.packets import unpack as unpack_record
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.decoder import PacketDecoder
from locallearn.rtl.layouts import event_layout
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, STALLS, Pace, Sink, Source, pace, unpack
from tests.rtl.conftest import Bench

SPECS = {
    "longer than a run": NetworkSpec("", 10, InputSpec(300), (LayerSpec(2),)),
    "a run long": NetworkSpec("", 256, InputSpec(MAX_RUN), (LayerSpec(2),)),
    "3 bits": NetworkSpec("", 3, InputSpec(5, bits=3, fraction=3), (LayerSpec(2),)),
    "one bit": NetworkSpec("", 2, InputSpec(1, bits=1, fraction=1), (LayerSpec(2),)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_decoder(bench: Bench, spec: NetworkSpec) -> None:
    bench(PacketDecoder(NetworkPlan(spec)), spec)


ACCESSES = (Opcode.READ, Opcode.WRITE, Opcode.CHECK)


# -- what the packets say ------------------------------------------------------------------------------


@dataclass
class Decoded:
    """What bytes mean: events by the fields of `event_layout`, accesses as (opcode, fields, data)."""

    events: list[dict[str, int]] = field(default_factory=list)
    accesses: list[tuple[bool, dict[str, int], bytes]] = field(default_factory=list)
    samples: int = 0
    errors: int = 0


def decode(spec: NetworkSpec, packets: bytes) -> Decoded:
    """Read byte by byte; a WRITE has a byte of data for each of its rows."""
    said, rest = Decoded(), iter(packets)
    for opcode in rest:
        if opcode in ACCESSES:
            fields = unpack_record(ACCESS, bytes(next(rest) for _ in range(record_size(ACCESS))))
            write = opcode == Opcode.WRITE
            said.accesses.append((opcode, fields, bytes(next(rest) for _ in range(fields["rows"] if write else 0))))
        elif opcode in (Opcode.INFER, Opcode.TRAIN):
            said.samples += 1
            label = next(rest)
            learn = opcode == Opcode.TRAIN and label < spec.classes
            # A label counts where there is something to learn; elsewhere it is what fits the field.
            label %= 1 << (spec.classes - 1).bit_length()
            said.errors += (opcode == Opcode.TRAIN) != learn
            inputs, too_long = decode_pixels(spec, rest)
            said.errors += too_long
            inputs.append((spec.input.size, spec.input.format.half))
            for index, value in inputs:
                last = index == spec.input.size
                said.events.append({"index": index, "value": value, "last": last, "label": label, "learn": learn})
        else:
            said.errors += 1
    return said


def decode_pixels(spec: NetworkSpec, rest: Iterator[int]) -> tuple[list[tuple[int, int]], bool]:
    """Inputs that are not zero, and whether the last run was too long."""
    inputs, position = [], 0
    while position < spec.input.size:
        pixel = next(rest)
        if pixel:
            if value := pixel & spec.input.format.max:
                inputs.append((position, value))
            position += 1
        else:
            position += next(rest) + 1
    return inputs, position > spec.input.size


# -- packets -------------------------------------------------------------------------------------------


def access(opcode: Opcode, rng: Random, data: bytes = b"") -> bytes:
    layer, kind, row = rng.randrange(256), rng.randrange(256), rng.getrandbits(ACCESS["row"])
    rows = len(data) if opcode == Opcode.WRITE else rng.getrandbits(ACCESS["rows"])
    return bytes([opcode]) + pack(ACCESS, layer=layer, kind=kind, row=row, rows=rows) + data


def sample(spec: NetworkSpec, rng: Random) -> bytes:
    """Any pixels and runs, some of them too long; any label, some of them no class."""
    packet = [rng.choice([Opcode.INFER, Opcode.TRAIN]), rng.choice([rng.randrange(256), rng.randrange(spec.classes)])]
    left = spec.input.size
    while left > 0:
        run = rng.choice([1, 2, rng.randint(1, MAX_RUN), left, left, left + 1])
        if rng.random() < 0.4 and run <= MAX_RUN:
            packet += [0, run - 1]
            left -= run
        else:
            pixels = rng.randint(1, min(left, 20))
            packet += [rng.choice([1, 8, 248, 255, rng.randint(1, 255)]) for _ in range(pixels)]
            left -= pixels
    return bytes(packet)


def any_packets(spec: NetworkSpec, rng: Random, count: int) -> bytes:
    garbage = sorted(set(range(256)) - {*ACCESSES, Opcode.INFER, Opcode.TRAIN})
    packets = b""
    for _ in range(count):
        kind = rng.random()
        if kind < 0.1:
            packets += bytes(rng.choices(garbage, k=3))
        elif kind < 0.2:
            packets += access(rng.choice([Opcode.READ, Opcode.CHECK]), rng)
        elif kind < 0.3:
            packets += access(Opcode.WRITE, rng, rng.randbytes(rng.randint(0, 9)))
        else:
            packets += sample(spec, rng)
    return packets


# -- the bench -----------------------------------------------------------------------------------------


class Board:
    """The decoder with all its streams connected."""

    def __init__(self, dut: Any, idle: str = "steady", stalls: str = "steady") -> None:
        self.dut = dut
        self.spec: NetworkSpec = parameters()
        self.layout = event_layout(NetworkPlan(self.spec).layers[0])
        self.source = Source(dut, "i", 8, pace(idle, 1))
        self.sink = Sink(dut, "o", self.layout, pace(stalls, 2))
        self.accesses: list[tuple[bool, dict[str, int], bytes]] = []
        self.begun: list[int] = []
        self.errors = 0
        cocotb.start_soon(self._count())
        cocotb.start_soon(self._serve(pace(stalls, 3)))

    async def _count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.errors += bool(self.dut.error.value)
            if self.dut.begun.value:
                self.begun.append(cycle())

    def _opcode(self) -> Opcode:
        """Of the access that is offered."""
        write, check = bool(self.dut.write.value), bool(self.dut.check.value)
        assert not (write and check)
        return Opcode.WRITE if write else Opcode.CHECK if check else Opcode.READ

    async def _serve(self, willing: Pace) -> None:
        """Take the data of a WRITE, then the access itself: what it says must hold until the end."""
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            if not dut.access__valid.value:
                continue
            opcode, fields = self._opcode(), int(dut.access__payload.value)
            layout = StructLayout(ACCESS)
            data = bytearray()
            while opcode == Opcode.WRITE and len(data) < unpack(layout, fields)["rows"]:
                dut.data__ready.value = ready = willing(True)
                await RisingEdge(dut.clk)
                if ready and dut.data__valid.value:
                    data.append(int(dut.data__payload.value))
            dut.data__ready.value = 0
            while not willing(True):
                await RisingEdge(dut.clk)
            dut.access__ready.value = 1
            await RisingEdge(dut.clk)
            dut.access__ready.value = 0
            now = bool(dut.access__valid.value), self._opcode(), int(dut.access__payload.value)
            assert now == (True, opcode, fields), (
                f"access in cycle {cycle()}: {now} was {(True, opcode, fields)} before"
            )
            self.accesses.append((opcode, unpack(layout, fields), bytes(data)))

    async def settle(self) -> None:
        for _ in range(20):
            await RisingEdge(self.dut.clk)

    async def check(self, packets: bytes) -> None:
        """Send the packets; the decoder must say what they say, and no more."""
        expected = decode(self.spec, packets)
        self.source.send(packets)
        await self.sink.expect(expected.events)
        await self.source.drained()
        while not self.dut.idle.value:
            await RisingEdge(self.dut.clk)
        await self.settle()
        self.sink.expect_nothing_more()
        assert self.accesses == expected.accesses
        assert len(self.begun) == expected.samples
        assert self.errors == expected.errors


@cocotb.test
@cocotb.parametrize(idle=IDLE, stalls=STALLS)
async def any_packets_at_any_pace(dut: Any, idle: str, stalls: str) -> None:
    await start(dut)
    board = Board(dut, idle, stalls)
    await board.check(any_packets(board.spec, Random(f"{idle} {stalls}"), 12))


@cocotb.test
async def runs_of_all_lengths(dut: Any) -> None:
    """Each before a pixel where one fits, then at the very end; those that are too long end the sample as well."""
    await start(dut)
    board = Board(dut)
    size = board.spec.input.size
    packets = bytearray()
    for run in range(1, MAX_RUN + 1):
        if run < size:
            packets += bytes([Opcode.TRAIN, 0, 0, run - 1, 1]) + encoded_zeros(size - run - 1)
            packets += bytes([Opcode.TRAIN, 1, 1]) + encoded_zeros(size - run - 1) + bytes([0, run - 1])
        # Too long by all lengths there are.
        packets += bytes([Opcode.TRAIN, 0]) + encoded_zeros(size - 1) + bytes([0, run - 1])
    await board.check(bytes(packets))


def encoded_zeros(count: int) -> bytes:
    full, rest = divmod(count, MAX_RUN)
    return bytes([0, MAX_RUN - 1]) * full + (bytes([0, rest - 1]) if rest else b"")


@cocotb.test
async def all_labels(dut: Any) -> None:
    await start(dut)
    board = Board(dut)
    pixels = encoded_zeros(board.spec.input.size)
    await board.check(
        b"".join(bytes([opcode, label]) + pixels for label in range(256) for opcode in (Opcode.INFER, Opcode.TRAIN))
    )


@cocotb.test
async def all_opcodes(dut: Any) -> None:
    """Bytes that are no opcode are passed over, each counted."""
    await start(dut)
    board = Board(dut)
    known = {*ACCESSES, Opcode.INFER, Opcode.TRAIN}
    await board.check(
        bytes(sorted(set(range(256)) - known)) + bytes([Opcode.INFER, 0]) + bytes([1] * board.spec.input.size)
    )


@cocotb.test
async def one_byte_a_cycle(dut: Any) -> None:
    """Events leave in consecutive cycles, 1 after their pixels; a sample takes as many as its bytes and its bias."""
    await start(dut)
    board = Board(dut)
    size = board.spec.input.size
    packet = bytes([Opcode.TRAIN, 1]) + bytes([1] * size)
    await board.check(packet * 5)
    events = [received.cycle for received in board.sink.received]
    for number, begun in enumerate(board.begun):
        assert begun == board.begun[0] + number * (len(packet) + 1)
        first_pixel = begun + 2
        expected = list(range(first_pixel + 1, first_pixel + 1 + size + 1))
        assert events[number * (size + 1) : (number + 1) * (size + 1)] == expected


@cocotb.test
async def idle_between_packets_only(dut: Any) -> None:
    await start(dut)
    board = Board(dut)
    size = board.spec.input.size
    for packet in (bytes([Opcode.INFER, 0]) + bytes([1] * size), access(Opcode.WRITE, Random(1), b"ab")):
        assert dut.idle.value
        for byte in packet[:-1]:
            board.source.send([byte])
            await board.source.drained()
            await board.settle()
            assert not dut.idle.value
        board.source.send(packet[-1:])
        await board.source.drained()
        await board.settle()
    assert dut.idle.value


@cocotb.test
async def not_idle_before_the_last_event_was_taken(dut: Any) -> None:
    await start(dut)
    size = parameters().input.size
    source = Source(dut, "i", 8, pace("steady", 1))
    source.send(bytes([Opcode.INFER, 0]) + encoded_zeros(size))
    await source.drained()
    for _ in range(20):
        await RisingEdge(dut.clk)
        assert not dut.idle.value
    dut.o__ready.value = 1
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
    assert dut.idle.value


def prefixes(spec: NetworkSpec) -> list[bytes]:
    """Packets that end too early, at every byte: with runs, pixels of zero bits, and both accesses."""
    size = spec.input.size
    packets = [bytes([opcode, 1 % spec.classes]) + bytes([1] * size) for opcode in (Opcode.TRAIN, Opcode.INFER)]
    zeros = min(3, size // 2)
    packets.append(bytes([Opcode.TRAIN, 0]) + bytes([8, 0, 0] * zeros + [1] * (size - 2 * zeros)))
    packets.append(access(Opcode.READ, Random(1)))
    packets.append(access(Opcode.WRITE, Random(2), b"data"))
    header = 1 + record_size(ACCESS)
    return [
        packet[:end]
        for packet in packets
        for end in range(1, min(len(packet), header if packet[0] in ACCESSES else 40))
    ]


@cocotb.test
@cocotb.parametrize(stalls=STALLS)
async def a_packet_is_given_up_at_any_byte(dut: Any, stalls: str) -> None:
    """A sample ends with an event that is not learned from, an access does not begin; the next packet is whole."""
    await start(dut)
    board, rng = Board(dut, stalls=stalls), Random(stalls)
    size = board.spec.input.size
    whole = bytes([Opcode.TRAIN, 0]) + encoded_zeros(size)
    for prefix in prefixes(board.spec):
        # The last sample may still be on its way when this is given up: it is learned from.
        before = board.source.pending, len(board.sink.received), len(board.begun)
        board.source.send(whole + prefix)
        await board.source.drained()
        for _ in range(rng.choice([0, 0, 1, 20])):
            await RisingEdge(dut.clk)
        dut.abort.value = 1
        await RisingEdge(dut.clk)
        since = cycle()
        while not dut.idle.value:
            assert cycle() - since < 2000, f"{prefix!r} is not given up since cycle {since}"
            await RisingEdge(dut.clk)
        dut.abort.value = 0
        await RisingEdge(dut.clk)
        events = [received.payload for received in board.sink.received[before[1] :]]
        is_sample = prefix[0] in (Opcode.TRAIN, Opcode.INFER)
        assert len(board.begun) - before[2] == 1 + is_sample, prefix
        last = [event for event in events if event["last"]]
        assert [event["learn"] for event in last] == [1] + [0] * is_sample, (prefix, last)
        assert all(event["index"] == size and event["value"] == board.spec.input.format.half for event in last)
        # What of its pixels had come, and nothing else.
        given = [event["index"] for event in events if not event["last"]]
        expected = given_pixels(board.spec, prefix[2:]) if is_sample else []
        assert given == expected, prefix
    board.sink._compared = len(board.sink.received)
    board.begun.clear()
    board.errors = 0
    await board.check(any_packets(board.spec, rng, 5))


def given_pixels(spec: NetworkSpec, encoded: bytes) -> list[int]:
    """Places of those that are not 0."""
    found, position, rest = [], 0, iter(encoded)
    for byte in rest:
        if byte == 0:
            position += next(rest, -1) + 1
        else:
            found += [position] * bool(byte & spec.input.format.max)
            position += 1
    return found


@cocotb.test
async def abort_between_packets(dut: Any) -> None:
    """Nothing happens, whether it comes while the last event is offered or later."""
    await start(dut)
    board = Board(dut)
    packets = bytes([Opcode.TRAIN, 0]) + encoded_zeros(board.spec.input.size)
    for cycles in range(6):
        board.source.send(packets)
        await board.source.drained()
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        dut.abort.value = 1
        for _ in range(10):
            await RisingEdge(dut.clk)
        dut.abort.value = 0
        await RisingEdge(dut.clk)
    learn = [received.payload["learn"] for received in board.sink.received if received.payload["last"]]
    assert learn == [1] * 6
