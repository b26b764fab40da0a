"""The access unit against the requests it is given: every element that it asks for, and every byte that it says."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import cocotb
import pytest
from amaranth.lib.data import StructLayout
from cocotb.triggers import RisingEdge

from locallearn.quant.formats import QFormat
from locallearn.quant.packets import ACCESS, Opcode
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import CHIP, ELEMENT_BITS, Kind, Region, regions
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.access import AccessUnit
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, STALLS, Pace, Sink, Source, pace
from tests.rtl.conftest import Bench

SPECS = {
    "several lanes": NetworkSpec("", 3, InputSpec(4), (LayerSpec(5, lanes=3), LayerSpec(2, lanes=2), LayerSpec(1))),
    "one lane": NetworkSpec("", 100, InputSpec(3), (LayerSpec(2),), weight=QFormat(5, 3, signed=True)),
}

UNKNOWN = [(0, Kind.DECAY), (CHIP, Kind.WEIGHTS), (3, Kind.WEIGHTS), (77, Kind.COUNTERS), (0, 200), (CHIP, 255)]
"""Regions that no chip of SPECS has, by layer and kind."""

ALL_ONES = (1 << ELEMENT_BITS) - 1


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_access_unit(bench: Bench, spec: NetworkSpec) -> None:
    bench(AccessUnit(NetworkPlan(spec)), spec)


# -- what a request means ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """Rows of a region to read, to write with `elements` (rows x lanes, one list), or to sum up."""

    layer: int
    kind: int
    row: int
    rows: int
    elements: tuple[int, ...] | None = None
    check: bool = False

    @property
    def write(self) -> bool:
        return self.elements is not None

    @property
    def fields(self) -> dict[str, int]:
        return {"layer": self.layer, "kind": self.kind, "row": self.row, "rows": self.rows}


@dataclass(frozen=True)
class Element:
    """One element as the layers see it: what is asked for, and what is to be written."""

    layer: int
    kind: int
    row: int
    lane: int
    written: int | None
    """As unsigned bytes on the link."""


def region_of(spec: NetworkSpec, request: Request) -> Region | None:
    table = regions(NetworkPlan(spec))
    return next((region for key, region in table.items() if key == (request.layer, request.kind)), None)


def raw(spec: NetworkSpec, request: Request, elements: tuple[int, ...]) -> bytes:
    """Elements on the link."""
    region = region_of(spec, request)
    size = 1 if region is None else region.size
    return b"".join((element % (1 << 8 * size)).to_bytes(size, "little") for element in elements)


def walk(spec: NetworkSpec, request: Request) -> list[Element]:
    """Row by row, lane by lane."""
    region = region_of(spec, request)
    if region is None:
        return []
    places = [(row, lane) for row in range(request.row, request.row + request.rows) for lane in range(region.lanes)]
    written = [None] * len(places)
    if request.elements is not None:
        written = [element % (1 << 8 * region.size) for element in request.elements]
    return [
        Element(request.layer, request.kind, row, lane, element)
        for (row, lane), element in zip(places, written, strict=True)
    ]


def stored(element: Element, region: Region) -> int:
    """What the chip holds there: any number of the region, a different one in each place."""
    value = Random(f"{element.layer} {element.kind} {element.row} {element.lane}").getrandbits(region.bits)
    return value - (region.signed and value >> (region.bits - 1)) * (1 << region.bits)


def answer(spec: NetworkSpec, request: Request) -> bytes:
    if request.write:
        return bytes([Opcode.DONE])
    region, data = region_of(spec, request), bytes(request.rows)
    if region is not None:
        data = raw(spec, request, tuple(stored(element, region) for element in walk(spec, request)))
    if request.check:
        return bytes([Opcode.SUM]) + zlib.crc32(data).to_bytes(4, "little")
    return bytes([Opcode.DATA]) + data


def any_elements(rng: Random, region: Region, count: int) -> tuple[int, ...]:
    """Zeros, ones in all bits, and anything."""
    low = -(1 << region.bits >> 1) if region.signed else 0
    ends = (low, low + (1 << region.bits) - 1, 0)
    return tuple(rng.choice([*ends, low + rng.getrandbits(region.bits)]) for _ in range(count))


def whole_regions(spec: NetworkSpec, rng: Random) -> Iterator[Request]:
    for (layer, kind), region in regions(NetworkPlan(spec)).items():
        yield Request(layer, kind, 0, region.rows)
        # Nothing is said before its end.
        yield Request(layer, kind, 0, min(region.rows, 40), check=True)
        yield Request(layer, kind, 0, region.rows, any_elements(rng, region, region.rows * region.lanes))


def any_requests(spec: NetworkSpec, rng: Random, count: int) -> Iterator[Request]:
    """Parts of regions from none to a few rows, and regions that there are not."""
    table = list(regions(NetworkPlan(spec)).items())
    for _ in range(count):
        if rng.random() < 0.2:
            layer, kind = rng.choice(UNKNOWN)
            region = Region(8, 1, 8)
        else:
            (layer, kind), region = rng.choice(table)
        row = rng.randrange(region.rows)
        rows = rng.randint(0, min(3, region.rows - row))
        write = rng.random() < 0.5
        elements = any_elements(rng, region, rows * region.lanes) if write else None
        yield Request(layer, kind, row, rows, elements, check=not write and rng.random() < 0.5)


# -- the bench -----------------------------------------------------------------------------------------


class Board:
    """The unit between a decoder that has the next packet's bytes waiting, and layers that take their time."""

    def __init__(self, dut: Any, idle: str = "steady", stalls: str = "steady") -> None:
        self.dut = dut
        self.spec: NetworkSpec = parameters()
        self._regions = regions(NetworkPlan(self.spec))
        self._lanes = max(region.lanes for region in self._regions.values())
        self.requests = Source(dut, "i", StructLayout(ACCESS), pace("steady", 1))
        self.data = Source(dut, "data", 8, pace(idle, 2))
        self.sink = Sink(dut, "o", 8, pace(stalls, 3))
        self.elements: list[Element] = []
        self.errors = 0
        cocotb.start_soon(self._count())
        cocotb.start_soon(self._serve(pace(stalls, 4)))

    async def _count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.errors += bool(self.dut.error.value)

    def _asked(self) -> Element:
        """The element that is asked for in this cycle."""
        dut = self.dut
        layer, kind, row = (int(port.value) for port in (dut.layer, dut.access__kind, dut.access__row))
        # Where no layer has more than one there is no port for it.
        lane = int(dut.access__lane.value) if self._lanes > 1 else 0
        if not dut.access__write.value:
            return Element(layer, kind, row, lane, None)
        # What lies above an element's bits is nobody's.
        bits = 8 * self._regions[layer, Kind(kind)].size
        return Element(layer, kind, row, lane, int(dut.access__data.value) % (1 << bits))

    async def _serve(self, willing: Pace) -> None:
        """All layers at once: asked for a cycle, done some cycles later; until then what was asked must hold."""
        dut, noise = self.dut, Random(5)
        while True:
            dut.access__done.value = 0
            dut.access__read.value = noise.getrandbits(ELEMENT_BITS)
            await RisingEdge(dut.clk)
            if not dut.access__request.value:
                continue
            asked = self._asked()
            region = self._regions[asked.layer, Kind(asked.kind)]
            while not willing(True):
                await self._wait(asked)
            dut.access__done.value = 1
            dut.access__read.value = stored(asked, region) & ALL_ONES
            await self._wait(asked)
            self.elements.append(asked)

    async def _wait(self, asked: Element) -> None:
        """A cycle in which the request is not done yet, or is just being done."""
        await RisingEdge(self.dut.clk)
        assert not self.dut.access__request.value, f"cycle {cycle()}: asked again before {asked} was done"
        assert self._asked() == asked, f"cycle {cycle()}: {self._asked()} was {asked} before"

    async def _allow(self, may_start: Pace) -> None:
        while True:
            self.dut.start.value = may_start(False)
            await RisingEdge(self.dut.clk)

    async def check(self, requests: list[Request], may_start: str = "steady") -> None:
        """The accesses, bytes and errors of each request; `may_start` is how often nothing is in flight."""
        cocotb.start_soon(self._allow(pace(may_start, 6)))
        errors = 0
        for request in requests:
            # The bytes of later writes wait behind those of this one, and must go on waiting.
            self.data.send(raw(self.spec, request, request.elements or ()))
        for request in requests:
            pending = self.data.pending
            self.dut.write.value, self.dut.check.value = request.write, request.check
            self.requests.send([request.fields])
            await self.sink.expect(answer(self.spec, request))
            await self.requests.drained()
            assert pending - self.data.pending == len(raw(self.spec, request, request.elements or ())), request
            assert self.elements == walk(self.spec, request), request
            self.elements.clear()
            errors += region_of(self.spec, request) is None
            assert self.errors == errors, request
        self.sink.expect_nothing_more()


@cocotb.test
async def whole_regions_are_written_and_read(dut: Any) -> None:
    await start(dut)
    board = Board(dut)
    await board.check(list(whole_regions(board.spec, Random(1))))


@cocotb.test
@cocotb.parametrize(idle=IDLE, stalls=STALLS)
async def any_requests_at_any_pace(dut: Any, idle: str, stalls: str) -> None:
    await start(dut)
    board = Board(dut, idle, stalls)
    await board.check(list(any_requests(board.spec, Random(f"{idle} {stalls}"), 30)), may_start=idle)


@cocotb.test
async def waits_until_it_may_start(dut: Any) -> None:
    await start(dut)
    board = Board(dut)
    board.requests.send([Request(0, Kind.WEIGHTS, 0, 1).fields])
    for _ in range(50):
        await RisingEdge(dut.clk)
        assert not dut.access__request.value
    board.sink.expect_nothing_more()
    assert board.requests.pending


@cocotb.test
async def an_unknown_region_is_never_asked_for(dut: Any) -> None:
    """Reads of it say 0, a byte for each row; writes are taken and forgotten. Each is one error."""
    await start(dut)
    board = Board(dut)
    requests = [
        request
        for layer, kind in UNKNOWN
        for request in (Request(layer, kind, 0, 2), Request(layer, kind, 5, 3, (1, 2, 3)), Request(layer, kind, 0, 0))
    ]
    await board.check(requests)
    assert board.errors == len(requests)


@cocotb.test
@cocotb.parametrize(stalls=STALLS)
async def an_access_is_given_up_anywhere(dut: Any, stalls: str) -> None:
    """A READ ends with the element under way, a WRITE before the next whose bytes have not all come; the next access
    is a whole one."""
    await start(dut)
    board, rng = Board(dut, stalls=stalls), Random(stalls)
    cocotb.start_soon(board._allow(pace("steady", 6)))
    for request in any_requests(board.spec, rng, 60):
        data = raw(board.spec, request, request.elements or ())
        data = data[: rng.randint(0, max(0, len(data) - 1))]
        board.data.send(data)
        dut.write.value, dut.check.value = request.write, request.check
        began = len(board.sink.received)
        board.requests.send([request.fields])
        if request.write:
            await board.data.drained()
        for _ in range(rng.choice([1, rng.randint(1, 30), rng.randint(1, 200)])):
            await RisingEdge(dut.clk)
        dut.abort.value = 1
        since = cycle()
        while board.requests.pending:
            await RisingEdge(dut.clk)
            assert cycle() - since < 1000, f"{request} is not given up since cycle {since}"
        dut.abort.value = 0
        for _ in range(3):
            await RisingEdge(dut.clk)
        said = bytes(received.payload for received in board.sink.received[began:])
        board.sink._compared = len(board.sink.received)
        elements = walk(board.spec, request)
        assert board.elements == elements[: len(board.elements)], request
        if request.write:
            assert said == bytes([Opcode.DONE]), request
            region = region_of(board.spec, request)
            # None of them is half of what was sent and half of what was there.
            assert len(board.elements) == (len(data) // region.size if region else 0), request
        elif request.check:
            # A sum of what was read by then: nobody hears it.
            assert len(said) == 5, request
        else:
            whole = answer(board.spec, request)
            assert said == whole[: len(said)] and (not request.rows or len(said) > 1), request
        board.elements.clear()
    board.errors = 0
    await board.check(list(any_requests(board.spec, rng, 10)))
