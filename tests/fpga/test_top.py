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
from locallearn.quant.errors import BuildError
from locallearn.quant.registers import Kind
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import parameters, start
from tests.rtl.conftest import Bench
from tests.rtl.conftest import bench as bench  # a fixture of other tests
from tests.rtl.test_chip import Dialogue
from tests.wires import listen, send_bytes

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
    bench(SerialChip(SPEC, GENERIC, cycles * BAUD, BAUD, 512), cycles)


async def connect(dut: Any, faster: float = 0) -> tuple[int, bytearray]:
    """The far end's bits last so many ps; what it hears."""
    await start(dut)
    dut.rx.value = 1
    await ClockCycles(dut.clk, 10)
    bit_ps, heard = round(parameters() * PERIOD_PS / (1 + faster)), bytearray()
    cocotb.start_soon(listen(dut.tx, bit_ps, heard))
    return bit_ps, heard


async def hear(dut: Any, heard: bytearray, count: int) -> None:
    """Until so many bytes have come and the wire is at rest."""
    patience = 0
    while len(heard) < count:
        before = len(heard)
        await ClockCycles(dut.clk, int(12 * parameters()))
        patience = 0 if len(heard) > before else patience + 1
        assert patience < 100, f"{len(heard)} of {count} bytes"
    await ClockCycles(dut.clk, int(30 * parameters()))
    assert len(heard) == count


@cocotb.test
async def answers_as_the_golden_model(dut: Any) -> None:
    """Weights written, samples learned from, everything read: all of it sent without a pause, 2 % too fast."""
    bit_ps, heard = await connect(dut, 0.02)
    dialogue = Dialogue(SPEC, Random(1))
    dialogue.reset()
    dialogue.samples(6)
    dialogue.read_state()
    await send_bytes(dut.rx, dialogue.requests, bit_ps)
    await hear(dut, heard, sum(len(answer.expected) for answer in dialogue.answers))
    said = iter(heard)
    for answer in dialogue.answers:
        actual = bytes(next(said) for _ in answer.expected)
        assert list(actual) == list(answer.expected), answer.what
        answer.check(actual)
    assert not dut.lost.value
    assert not dut.busy.value


@cocotb.test
async def lost_is_seen(dut: Any) -> None:
    """More requests than can wait while the first is answered; the light stays on."""
    bit_ps, _ = await connect(dut)
    dialogue = Dialogue(SPEC, Random(1))
    plan = dialogue.golden.plan.layers[0]
    for _ in range(100):
        dialogue.read(0, Kind.WEIGHTS, plan.to_rows(plan.initial_weights()))
    await send_bytes(dut.rx, dialogue.requests, bit_ps)
    assert dut.lost.value
    await ClockCycles(dut.clk, 5000)
    assert dut.lost.value


@cocotb.test
async def busy_and_receiving(dut: Any) -> None:
    bit_ps, heard = await connect(dut)
    await ClockCycles(dut.clk, 5000)
    assert not dut.busy.value and not dut.receiving.value
    dialogue = Dialogue(SPEC, Random(1))
    dialogue.samples(1)
    await send_bytes(dut.rx, dialogue.requests[:-1], bit_ps)
    assert dut.busy.value and dut.receiving.value
    await send_bytes(dut.rx, dialogue.requests[-1:], bit_ps)
    await hear(dut, heard, len(dialogue.answers[0].expected))
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
