"""The chip behind a serial port, bit by bit, and the top of every board."""

import re
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from locallearn.fpga.boards import BOARDS, Board
from locallearn.fpga.flows import FLOWS
from locallearn.fpga.top import LIGHTS, BoardTop, SerialChip, board_clock
from locallearn.host.endpoint import Endpoint
from locallearn.quant.errors import BuildError
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import parameters, start
from tests.rtl.conftest import Bench
from tests.rtl.conftest import bench as bench  # a fixture of other tests
from tests.rtl.test_chip import Dialogue
from tests.wires import listen, send_byte, send_bytes

SPEC = NetworkSpec(
    "tiny", 3, InputSpec(9), (LayerSpec(7, lanes=3), LayerSpec(5, lanes=2)), training=TrainingSpec(rate_shift=5)
)

# -- boards --------------------------------------------------------------------------------------------

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)

PLL_CELLS = {
    "ulx3s-85f": ("EHXPLLL", {"CLKI_DIV": 1, "CLKFB_DIV": 4, "CLKOP_DIV": 6}),
    "ulx3s-25f": ("EHXPLLL", {"CLKI_DIV": 1, "CLKFB_DIV": 4, "CLKOP_DIV": 6}),
    "icebreaker": ("SB_PLL40_PAD", {"DIVR": 0, "DIVF": 47, "DIVQ": 4, "FILTER_RANGE": 1}),
    "tang-nano-20k": ("rPLL", {"IDIV_SEL": 0, "FBDIV_SEL": 1, "ODIV_SEL": 16}),
    "tang-nano-9k": ("rPLL", {"IDIV_SEL": 0, "FBDIV_SEL": 0, "ODIV_SEL": 32}),
}
"""And some of their parameters, at the boards' own clocks."""

LEDS = {"icebreaker": 2}
"""Where they are fewer than there are lights."""


@cache
def platform_files(board: Board) -> dict[str, str]:
    """What Amaranth writes for the tools."""
    return dict(board.platform().prepare(BoardTop(SPEC, board, board.clock_mhz * 1e6), emit_src=False).files)


@each_board
def test_pins(board: Board) -> None:
    """Those of the clock, both wires, and the LEDs are constrained; those of a LED too many are not asked for."""
    files = platform_files(board)
    pins = set(re.findall(r"\b\w+__io\b", files[FLOWS[board.target.name].constraints]))
    expected = {f"led_{number}__io" for number in range(LEDS.get(board.name, len(LIGHTS)))}
    expected |= {f"{board.platform().default_clk}_0__io", "uart_0__rx__io", "uart_0__tx__io"}
    assert pins == expected


@each_board
def test_pll(board: Board) -> None:
    rtlil = platform_files(board)["top.il"]
    cell, expected = PLL_CELLS.get(board.name, ("", {}))
    assert (f"cell \\{cell} " in rtlil) == bool(cell)
    for name, value in expected.items():
        assert re.search(rf"parameter \\{name} {value}\n", rtlil), name


@each_board
def test_nextpnr_is_asked_for_more_where_its_router_ends_short(board: Board) -> None:
    asked = re.findall(r"FREQUENCY NET .* (\S+) HZ;", platform_files(board).get("top.lpf", ""))
    assert asked == (["102000000.0"] if board.target.name == "ecp5" else [])


def test_clock_too_slow_for_the_serial_port() -> None:
    message = "ulx3s-85f: a clock of 10 MHz is too slow for its serial port of 3000000 baud, which needs 12 MHz"
    with pytest.raises(BuildError, match=f"^{re.escape(message)}$"):
        board_clock(BOARDS["ulx3s-85f"], 10e6)


def test_clock_is_what_the_pll_makes() -> None:
    assert board_clock(BOARDS["ulx3s-85f"], 107e6).hz == 106.25e6


# -- the chip behind the wires -------------------------------------------------------------------------

PERIOD_PS = 10_000
BAUD = 1_000
CYCLES = {"4 cycles a bit": 4, "8 and a bit": 8.3}


@pytest.mark.parametrize("cycles", CYCLES.values(), ids=CYCLES)
def test_serial_chip(bench: Bench, cycles: float) -> None:
    bench(SerialChip(SPEC, GENERIC, cycles * BAUD, BAUD, 1024), cycles)


class Line:
    """The host's end of the link at the two wires, whose bits last as long as its own clock says."""

    def __init__(self, dut: Any, faster: float = 0) -> None:
        self.dut = dut
        self.bit_ps = round(parameters() * PERIOD_PS / (1 + faster))
        self.end = Endpoint(1234, 0)
        self.heard = bytearray()
        self._told = 0
        cocotb.start_soon(listen(dut.tx, self.bit_ps, self.heard))

    async def send(self) -> None:
        """All that may be on its way now."""
        await send_bytes(self.dut.rx, self.end.to_send(0), self.bit_ps)

    async def exchange(self) -> None:
        """What has been heard since the last time, and what there is to say then, or a pause."""
        self.end.tell(bytes(self.heard[self._told :]), 0)
        self._told = len(self.heard)
        frames = self.end.to_send(0)
        await send_bytes(self.dut.rx, frames, self.bit_ps)
        if not frames:
            await ClockCycles(self.dut.clk, int(12 * parameters()))

    async def hear(self, count: int) -> bytes:
        """So many bytes of the chip's stream, and no more; then all is at rest."""
        patience, before = 0, -1
        while len(self.end.received) < count:
            await self.exchange()
            patience = 0 if self._told > before else patience + 1
            before = self._told
            assert patience < 200, f"{len(self.end.received)} of {count} bytes"
        for _ in range(40):
            await self.exchange()
        said = bytes(self.end.received)
        assert len(said) == count
        self.end.received.clear()
        return said


async def connect(dut: Any, faster: float = 0) -> Line:
    """In a session."""
    await start(dut)
    dut.rx.value = 1
    await ClockCycles(dut.clk, 10)
    line = Line(dut, faster)
    while not line.end.open:
        await line.exchange()
    return line


@cocotb.test
async def answers_as_the_golden_model(dut: Any) -> None:
    """Weights written, samples learned from, everything read: all of it sent without a pause, 2 % too fast."""
    line = await connect(dut, 0.02)
    dialogue = Dialogue(SPEC, Random(1))
    dialogue.reset()
    dialogue.samples(6)
    dialogue.read_state()
    line.end.write(dialogue.requests)
    said = iter(await line.hear(sum(len(answer.expected) for answer in dialogue.answers)))
    for answer in dialogue.answers:
        actual = bytes(next(said) for _ in answer.expected)
        assert list(actual) == list(answer.expected), answer.what
        answer.check(actual)
    counters = line.end.counters
    assert (counters.resent, counters.bad, counters.missed) == (0, 0, 0)
    assert not dut.lost.value
    assert not dut.busy.value


@cocotb.test
async def lost_is_seen(dut: Any) -> None:
    """A byte without its stop bit; the light stays on, and the link mends what that has broken."""
    line = await connect(dut)
    dialogue = Dialogue(SPEC, Random(1))
    dialogue.samples(1)
    line.end.write(dialogue.requests)
    frame = line.end.to_send(0)
    await send_bytes(dut.rx, frame[:9], line.bit_ps)
    await send_byte(dut.rx, frame[9], line.bit_ps, stop=0)
    dut.rx.value = 1
    await ClockCycles(dut.clk, int(2 * parameters()))
    await send_bytes(dut.rx, frame[10:], line.bit_ps)
    assert dut.lost.value
    line.end.reconnected()
    await line.hear(len(dialogue.answers[0].expected))
    assert dut.lost.value


@cocotb.test
async def busy_and_receiving(dut: Any) -> None:
    line = await connect(dut)
    await ClockCycles(dut.clk, 5000)
    assert not dut.busy.value and not dut.receiving.value
    dialogue = Dialogue(SPEC, Random(1))
    dialogue.samples(1)
    line.end.write(dialogue.requests[:-1])
    await line.send()
    # The frame's last bytes are on their way inside.
    await ClockCycles(dut.clk, 20)
    assert dut.busy.value and dut.receiving.value
    line.end.write(dialogue.requests[-1:])
    await line.hear(len(dialogue.answers[0].expected))
    await ClockCycles(dut.clk, 5000)
    assert not dut.busy.value and not dut.receiving.value and not dut.lost.value


@cocotb.test
async def alive_blinks(dut: Any) -> None:
    """A turn lasts half a second to a whole one: four seconds have as many as that."""
    await start(dut)
    seen, sixteenth = [], int(parameters() * BAUD / 16)
    for _ in range(4 * 16):
        await ClockCycles(dut.clk, sixteenth)
        seen.append(int(dut.alive.value))
    turns = sum(a != b for a, b in pairwise(seen))
    assert 4 <= turns <= 8
