"""Clocks: the frequencies that a part's PLL makes of a board's oscillator, and the clock domain of the chip."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.build import Platform
from amaranth.hdl import Elaboratable, Value
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer  # type: ignore[import-untyped]  # not in the stubs
from amaranth.lib.wiring import In, Out

from locallearn.quant.errors import BuildError

__all__ = ["PLLS", "ClockGate", "ClockGenerator", "Pll", "PllClock", "best_clock"]

_MHZ = 1e6


@dataclass(frozen=True)
class PllClock:
    """What a PLL makes of its input.

    hz          the clock
    input_hz    what it is made from
    reference, feedback, output
                what input, feedback and result are divided by, from 1 on
    """

    hz: float
    input_hz: float
    reference: int = 1
    feedback: int = 1
    output: int = 1

    @property
    def compared_hz(self) -> float:
        """What the PLL compares its oscillator with."""
        return self.input_hz / self.reference

    @property
    def oscillator_hz(self) -> float:
        return self.hz * self.output


@dataclass(frozen=True)
class Pll(ABC):
    """The PLL of a family of parts. Ranges are (lowest, highest) in MHz.

    references  highest divider of the input
    feedbacks   highest divider of what is fed back
    outputs     dividers of the oscillator
    compared    what the comparator takes
    oscillator  what the oscillator runs at
    result      what may come out
    """

    references: int
    feedbacks: int
    outputs: tuple[int, ...]
    compared: tuple[float, float]
    oscillator: tuple[float, float]
    result: tuple[float, float]

    def clocks(self, input_hz: float) -> Iterator[PllClock]:
        """All that can be made."""
        for reference in range(1, self.references + 1):
            if not _within(input_hz / reference, self.compared):
                continue
            for feedback in range(1, self.feedbacks + 1):
                for output in self.outputs:
                    hz = self._hz(input_hz, reference, feedback, output)
                    if _within(hz, self.result) and _within(hz * output, self.oscillator):
                        yield PllClock(hz, input_hz, reference, feedback, output)

    @abstractmethod
    def _hz(self, input_hz: float, reference: int, feedback: int, output: int) -> float:
        """What comes out."""

    @abstractmethod
    def add(self, m: Module, pin: io.PortLike, clock: PllClock, made: Signal) -> Value | None:
        """Make `made` of the port `pin`. Returns whether the PLL has locked; None where `made` begins only then."""


def _within(hz: float, mhz: tuple[float, float]) -> bool:
    low, high = mhz
    return low * _MHZ <= hz <= high * _MHZ


def _buffered(m: Module, pin: io.PortLike) -> Value:
    m.submodules.clock_pin = buffer = io.Buffer(io.Direction.Input, pin)
    return buffer.i


# -- families ----------------------------------------------------------------------------------------------


class _FedByOutput(Pll):
    """What is fed back is the result, so that the result is the input times a fraction, whatever the output divider."""

    def _hz(self, input_hz: float, reference: int, feedback: int, output: int) -> float:
        return input_hz * feedback / reference


class _Ehxpll(_FedByOutput):
    """ECP5. The clock is held back until the PLL has locked: what the configuration left is the state that it begins
    with. A reset would have to reach the whole chip in a cycle, as nextpnr has no global net for it."""

    def add(self, m: Module, pin: io.PortLike, clock: PllClock, made: Signal) -> None:
        locked, fed_back = Signal(), Signal()
        m.submodules.gate = Instance("DCCA", i_CLKI=fed_back, i_CE=locked, o_CLKO=made)
        m.submodules.pll = Instance(
            "EHXPLLL",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_CLKI_DIV=clock.reference,
            p_CLKFB_DIV=clock.feedback,
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=clock.output,
            p_CLKOP_CPHASE=clock.output // 2,
            p_CLKOP_FPHASE=0,
            # The analog part, as Lattice's own tool sets it at any frequency.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=1,
            i_PHASESTEP=1,
            i_PHASELOADREG=1,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            i_CLKI=_buffered(m, pin),
            i_CLKFB=fed_back,
            o_CLKOP=fed_back,
            o_LOCK=locked,
        )


class ClockGate(wiring.Component):
    """A clock in logic, where the family has no primitive for it: `raw` while `locked`, its pulses whole."""

    def __init__(self) -> None:
        super().__init__({"raw": In(1), "locked": In(1), "gated": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        enable = Signal()
        # The enable changes while the clock is low.
        m.domains.raw = ClockDomain(clk_edge="neg", reset_less=True, local=True)
        m.submodules.synchroniser = FFSynchronizer(self.locked, enable, o_domain="raw")
        m.d.comb += [ClockSignal("raw").eq(self.raw), self.gated.eq(self.raw & enable)]
        return m


class _SbPll40(Pll):
    """iCE40. The clock is held back until the PLL has locked, as on ECP5: a reset would take the one control line that
    eight flip-flops share. The input is the PLL's own pin, which cannot be used for anything else beside it."""

    def _hz(self, input_hz: float, reference: int, feedback: int, output: int) -> float:
        return input_hz * feedback / (reference * output)

    def add(self, m: Module, pin: io.PortLike, clock: PllClock, made: Signal) -> None:
        m.submodules.gate = gate = ClockGate()
        m.submodules.buffer = Instance("SB_GB", i_USER_SIGNAL_TO_GLOBAL_BUFFER=gate.gated, o_GLOBAL_BUFFER_OUTPUT=made)
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=clock.reference - 1,
            p_DIVF=clock.feedback - 1,
            p_DIVQ=clock.output.bit_length() - 1,
            p_FILTER_RANGE=self.filter_range(clock),
            i_RESETB=1,
            i_BYPASS=0,
            i_PACKAGEPIN=pin.io,
            o_PLLOUTCORE=gate.raw,
            o_LOCK=gate.locked,
        )

    @staticmethod
    def filter_range(clock: PllClock) -> int:
        """The loop filter's setting for what is compared."""
        return 1 + sum(clock.compared_hz >= limit * _MHZ for limit in (17, 26, 44, 66, 101))


class _Rpll(_FedByOutput):
    """Gowin's small families."""

    def add(self, m: Module, pin: io.PortLike, clock: PllClock, made: Signal) -> Value:
        locked = Signal()
        m.submodules.pll = Instance(
            "rPLL",
            p_FCLKIN=f"{clock.input_hz / _MHZ:g}",
            p_IDIV_SEL=clock.reference - 1,
            p_FBDIV_SEL=clock.feedback - 1,
            p_ODIV_SEL=clock.output,
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_CLKFB_SEL="internal",
            i_CLKIN=_buffered(m, pin),
            i_CLKFB=0,
            i_RESET=0,
            i_RESET_P=0,
            i_IDSEL=Value.cast(0).replicate(6),
            i_FBDSEL=Value.cast(0).replicate(6),
            i_ODSEL=Value.cast(0).replicate(6),
            i_PSDA=Value.cast(0).replicate(4),
            i_DUTYDA=Value.cast(0).replicate(4),
            i_FDLY=Value.cast(0).replicate(4),
            o_CLKOUT=made,
            o_LOCK=locked,
        )
        return locked


class _NoPll(Pll):
    """Nexus: its PLL wants 18 MHz at least, which not all boards have; the clock is what the board gives."""

    def _hz(self, input_hz: float, reference: int, feedback: int, output: int) -> float:
        return input_hz

    def add(self, m: Module, pin: io.PortLike, clock: PllClock, made: Signal) -> Value:
        m.d.comb += made.eq(_buffered(m, pin))
        return Value.cast(1)


_ANY = (0.0, float("inf"))

# The limits that the tools of each family know: ecppll, icepll, gowin_pll and gowin_pack.
PLLS: dict[str, Pll] = {
    "ecp5": _Ehxpll(128, 80, tuple(range(1, 129)), (3.125, 400), (400, 800), (10, 400)),
    "ice40up": _SbPll40(16, 128, (2, 4, 8, 16, 32, 64), (10, 133), (533, 1066), (16, 275)),
    "gw1n-9c": _Rpll(64, 64, (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128), (3, 400), (400, 1200), (3.125, 600)),
    "gw2a-18c": _Rpll(64, 64, (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128), (3, 500), (500, 1250), (3.90625, 625)),
    "nexus": _NoPll(1, 1, (1,), _ANY, _ANY, _ANY),
}
"""By family; Gowin's differ from part to part."""


# -- the clock of a design ---------------------------------------------------------------------------------


def best_clock(family: str, input_hz: float, wanted_hz: float) -> PllClock:
    """The fastest clock of at most `wanted_hz` that the PLL of `family` makes of `input_hz`.

    Of the ways to make it, that which compares most often, then with the oscillator nearest the middle of its range.
    Raises BuildError if there is none.
    """
    pll = PLLS[family]
    middle = sum(pll.oscillator) / 2 * _MHZ

    def merit(clock: PllClock) -> tuple[float, float, float]:
        return clock.hz, clock.compared_hz, -abs(clock.oscillator_hz - middle)

    slow_enough = [clock for clock in pll.clocks(input_hz) if clock.hz <= wanted_hz]
    if not slow_enough:
        slowest = min(clock.hz for clock in pll.clocks(input_hz))
        raise BuildError(
            f"a clock of {wanted_hz / _MHZ:g} MHz: the board makes {slowest / _MHZ:g} MHz or more "
            f"of its {input_hz / _MHZ:g} MHz"
        )
    return max(slow_enough, key=merit)


class ClockGenerator(Elaboratable):
    """Drives the domain `sync` at `clock`, from the platform's default clock. In reset, or without a clock,
    until the PLL has locked.

    haste  what nextpnr is asked for, in clocks. Where that is 1, no constraint is added: nextpnr knows that of the pin
           and what its families' PLLs make of it, Gowin's excepted, which need it on the command line
    """

    def __init__(self, family: str, clock: PllClock, haste: float) -> None:
        self._pll = PLLS[family]
        self._clock = clock
        self._haste = haste

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        clock = Signal(attrs={"keep": 1})  # its name is in the constraint
        pin: Any = platform.request(str(platform.default_clk), dir="-")
        locked = self._pll.add(m, pin, self._clock, clock)
        m.d.comb += ClockSignal().eq(clock)
        if self._haste != 1:
            platform.add_clock_constraint(clock, self._clock.hz * self._haste)
        if locked is not None:
            m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m
