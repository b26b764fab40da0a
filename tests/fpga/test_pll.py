"""Frequency plans against the limits they must keep, and against the tools of each family."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.hdl import Fragment, ResetSignal, Value
from amaranth.sim import Simulator
from hypothesis import assume, given
from hypothesis import strategies as st

from locallearn.fpga.pll import PLLS, ClockGate, ClockGenerator, Pll, PllClock, best_clock
from locallearn.quant.errors import BuildError

FAMILIES = {"ecp5": 25e6, "ice40up": 12e6, "gw1n-9c": 27e6, "gw2a-18c": 27e6}
"""With what their boards' oscillators give."""

WANTED_MHZ = (24, 45, 54, 66.6, 97.3, 120)


def ask(tool: str, *arguments: str) -> str:
    """What a tool of this environment says."""
    command = Path(sys.executable).with_name(tool)
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=True).stdout


def ecppll(input_hz: float, wanted_hz: float) -> float:
    said = ask("yowasp-ecppll", "-i", f"{input_hz / 1e6:.6f}", "-o", f"{wanted_hz / 1e6:.6f}")
    return figure(r"clkout0 frequency: ([\d.]+)", said)


def icepll(input_hz: float, wanted_hz: float) -> float:
    said = ask("yowasp-icepll", "-i", f"{input_hz / 1e6:.6f}", "-o", f"{wanted_hz / 1e6:.6f}")
    return figure(r"F_PLLOUT: +([\d.]+) MHz \(achieved\)", said)


def gowin_pll(device: str, input_hz: float, wanted_hz: float) -> float:
    said = ask("gowin_pll", "-i", f"{input_hz / 1e6:.6f}", "-o", f"{wanted_hz / 1e6:.6f}", "-d", device)
    return figure(r"-> CLKOUT = ([\d.]+)", said)


def figure(pattern: str, said: str) -> float:
    """In Hz, from MHz."""
    found = re.search(pattern, said)
    assert found, said
    return float(found[1]) * 1e6


TOOLS = {
    "ecp5": ecppll,
    "ice40up": icepll,
    "gw1n-9c": lambda given, wanted: gowin_pll("GW1NR-LV9QN88PC6/I5", given, wanted),
    "gw2a-18c": lambda given, wanted: gowin_pll("GW2AR-LV18QN88C8/I7", given, wanted),
}


@pytest.mark.parametrize("family", TOOLS)
def test_as_good_as_the_familys_tool(family: str) -> None:
    """Which makes what is nearest, above or below; and makes what we make, so that it is legal."""
    for wanted in (mhz * 1e6 for mhz in WANTED_MHZ):
        clock = best_clock(family, FAMILIES[family], wanted)
        assert clock.hz <= wanted
        theirs = TOOLS[family](clock.input_hz, wanted)
        assert theirs > wanted or theirs <= clock.hz + 1e3
        assert TOOLS[family](clock.input_hz, clock.hz) == pytest.approx(clock.hz, abs=1e3)


@pytest.mark.parametrize("mhz", [10, 16.9, 17, 25.9, 26, 43, 44, 65, 66, 100, 101, 133])
def test_filter_of_ice40(mhz: float) -> None:
    """icepll compares what it is given where that makes the wanted frequency without a rest."""
    said = ask("yowasp-icepll", "-i", str(mhz), "-o", str(mhz * 2))
    compared = figure(r"F_PFD: +([\d.]+)", said)
    expected = int(figure(r"FILTER_RANGE: (\d)", said) / 1e6)
    assert PLLS["ice40up"].filter_range(PllClock(mhz * 2e6, compared)) == expected


@given(st.sampled_from(sorted(TOOLS)), st.integers(10_000, 60_000), st.integers(8_000, 300_000))
def test_limits(family: str, input_khz: int, wanted_khz: int) -> None:
    pll = PLLS[family]
    try:
        clock = best_clock(family, input_khz * 1e3, wanted_khz * 1e3)
    except BuildError:
        assume(False)
    assert 1 <= clock.reference <= pll.references
    assert 1 <= clock.feedback <= pll.feedbacks
    assert clock.output in pll.outputs
    compared = input_khz / 1e3 / clock.reference
    if family == "ice40up":
        oscillator = compared * clock.feedback
        result = oscillator / clock.output
    else:
        result = compared * clock.feedback
        oscillator = result * clock.output
    assert pll.compared[0] <= compared <= pll.compared[1]
    assert pll.oscillator[0] <= oscillator <= pll.oscillator[1]
    assert pll.result[0] <= result <= pll.result[1]
    assert result * 1e6 == pytest.approx(clock.hz)
    assert clock.hz <= wanted_khz * 1e3


@pytest.mark.parametrize(
    ("family", "wanted_mhz", "dividers"),
    [
        # Compared as often as can be, the oscillator in the middle of its range.
        ("ecp5", 100, (1, 4, 6)),
        ("ecp5", 90, (5, 18, 7)),
        ("ice40up", 45, (1, 60, 16)),
        ("gw1n-9c", 27, (1, 1, 32)),
        ("gw2a-18c", 54, (1, 2, 16)),
        ("nexus", 12, (1, 1, 1)),
    ],
)
def test_dividers(family: str, wanted_mhz: float, dividers: tuple[int, int, int]) -> None:
    input_hz = FAMILIES.get(family, 12e6)
    assert best_clock(family, input_hz, wanted_mhz * 1e6) == PllClock(wanted_mhz * 1e6, input_hz, *dividers)


def test_without_a_pll() -> None:
    assert best_clock("nexus", 12e6, 100e6).hz == 12e6


@pytest.mark.parametrize(
    ("family", "wanted_mhz", "slowest"), [("ecp5", 8, "10"), ("ice40up", 12, "16.125"), ("nexus", 11.5, "12")]
)
def test_too_slow(family: str, wanted_mhz: float, slowest: str) -> None:
    input_hz = FAMILIES.get(family, 12e6)
    message = f"a clock of {wanted_mhz:g} MHz: the board makes {slowest} MHz or more of its {input_hz / 1e6:g} MHz"
    with pytest.raises(BuildError, match=f"^{re.escape(message)}$"):
        best_clock(family, input_hz, wanted_mhz * 1e6)


# -- the domain ----------------------------------------------------------------------------------------


class Wire(Pll):
    """No PLL at all, with a lock of its own."""

    lock = Signal()

    def _hz(self, input_hz: float, reference: int, feedback: int, output: int) -> float:
        return input_hz

    def add(self, m: Module, pin: Any, clock: PllClock, made: Signal) -> Value:
        m.d.comb += made.eq(pin)
        return self.lock


def test_in_reset_until_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when the lock is lost; the end of a reset is two edges late."""
    wire = Wire(1, 1, (1,), (0, 1), (0, 1), (0, 1))
    monkeypatch.setitem(PLLS, "wire", wire)
    pin, reset, count = Signal(), Signal(), Signal(8)
    platform = SimpleNamespace(default_clk="clk", request=lambda name, dir: pin)
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.clock = Fragment.get(ClockGenerator("wire", PllClock(1, 1), haste=1), platform)
    m.d.comb += reset.eq(ResetSignal())
    m.d.sync += count.eq(count + 1)

    async def bench(ctx: Any) -> None:
        async def edges(number: int) -> None:
            for level in (1, 0) * number:
                ctx.set(pin, level)
                await ctx.delay(1e-6)

        await edges(5)
        assert ctx.get(reset) and ctx.get(count) == 0
        ctx.set(wire.lock, 1)
        await edges(1)
        assert ctx.get(reset)
        await edges(1)
        assert not ctx.get(reset)
        await edges(3)
        assert ctx.get(count) == 3
        ctx.set(wire.lock, 0)
        await ctx.delay(1e-6)
        assert ctx.get(reset)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_gate() -> None:
    """No pulse is cut, whenever the lock comes and goes; from two falling edges after it the clock runs."""
    gate = ClockGate()

    async def bench(ctx: Any) -> None:
        for when in range(4):
            for locked in (0, 1):
                for quarter in range(40):
                    if quarter == when:
                        ctx.set(gate.locked, locked)
                    before = ctx.get(gate.raw), ctx.get(gate.gated)
                    ctx.set(gate.raw, quarter % 4 < 2)
                    await ctx.delay(1e-9)
                    now = ctx.get(gate.raw), ctx.get(gate.gated)
                    assert now[1] == (
                        before[1] if now[0] == before[0] else now[0] & (locked if quarter > 12 else now[1])
                    )

    simulator = Simulator(gate)
    simulator.add_testbench(bench)
    simulator.run()
