"""The prover itself: it proves what is true, finds what is not, and says which and where."""

from pathlib import Path

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tests.formal.prove import Claims, prove, prove_no_path


class Counter(wiring.Component):
    """Counts `step` up to `top`, and then stays; `next` is what it will be."""

    def __init__(self, top: int) -> None:
        self._top = top
        super().__init__({"step": In(1), "value": Out(4), "next": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The same again, to be found by its name.
        shadow = Signal(4)
        m.d.comb += self.next.eq(self.value + (self.step & (self.value != self._top)))
        m.d.sync += [self.value.eq(self.next), shadow.eq(self.next)]
        return m


class Watched(wiring.Component):
    """A counter, and a state machine that knows whether it was full."""

    def __init__(self) -> None:
        super().__init__({"step": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.counter = counter = Counter(9)
        m.d.comb += counter.step.eq(self.step)
        with m.FSM(name="phase"):
            with m.State("Counting"), m.If(counter.value == 9):
                m.next = "Full"
            with m.State("Full"), m.If(counter.value != 9):
                m.next = "Counting"
        return m


def never_above_9(claims: Claims) -> None:
    claims.require("low", claims.dut.value <= 9)
    claims.reach("nine", claims.dut.value == 9)


def test_a_true_claim(tmp_path: Path) -> None:
    prove(Counter(9), never_above_9, tmp_path)


@pytest.mark.parametrize("inductive", [True, False])
def test_a_planted_bug(inductive: bool, tmp_path: Path) -> None:
    """One step too many is found, with a trace of it."""
    with pytest.raises(AssertionError, match=r"^low fails in cycle 11: (.*trace\.vcd)$") as failure:
        prove(Counter(10), never_above_9, tmp_path, 12, inductive=inductive)
    assert Path(str(failure.value).partition(": ")[2]).exists()


def test_a_bug_far_from_the_reset(tmp_path: Path) -> None:
    """Induction sees that there may be one, and then the run that leads to it is looked for."""
    with pytest.raises(AssertionError, match=r"^low fails in cycle 11: "):
        prove(Counter(10), never_above_9, tmp_path)


def test_what_induction_cannot_prove(tmp_path: Path) -> None:
    """12 is never reached, but it leads to 13, which is not allowed."""
    with pytest.raises(AssertionError, match=r"^not_13 is not inductive in 2 cycles: (.*trace_induct\.vcd)$"):
        prove(Counter(9), lambda claims: claims.require("not_13", claims.dut.value != 13), tmp_path)


def test_what_is_not_reached(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"^ten is not reached in 12 cycles$"):
        prove(Counter(9), lambda claims: claims.reach("ten", claims.dut.value == 10), tmp_path, reach=12)


def test_nothing_is_known_before_the_reset(tmp_path: Path) -> None:
    """A register without a reset is anything after it, in spite of its initial value; one with a reset is not."""

    def state(claims: Claims) -> None:
        unknown, known = Signal(reset_less=True), Signal()
        claims.m.d.sync += [unknown.eq(unknown), known.eq(known)]
        claims.require("known", ~known)
        claims.reach("unknown", unknown)

    prove(Counter(9), state, tmp_path)


def test_assumptions(tmp_path: Path) -> None:
    def state(claims: Claims) -> None:
        claims.assume(~claims.dut.step)
        claims.require("stays", claims.dut.value == 0)

    prove(Counter(9), state, tmp_path)


def test_the_inside(tmp_path: Path) -> None:
    """Signals, submodules and states that are no ports; what does not exist is an error."""

    def state(claims: Claims) -> None:
        counter = claims.part(claims.dut, "counter")
        claims.require("same", claims.local(counter, "shadow") == counter.value)
        claims.require("full", claims.state(claims.dut, "phase", "Full") == claims.past(counter.value == 9))
        with pytest.raises(AttributeError):
            claims.part(claims.dut, "nothing")
        with pytest.raises(KeyError):
            claims.local(claims.dut, "nothing")

    prove(Watched(), state, tmp_path)


def test_a_cut(tmp_path: Path) -> None:
    """What is proven of a component with a part cut out holds whatever the part does."""

    def state(claims: Claims) -> None:
        counter = claims.part(claims.dut, "counter")
        claims.cut(counter)
        claims.require("full", claims.state(claims.dut, "phase", "Full") == claims.past(counter.value == 9))
        claims.reach("fifteen", counter.value == 15)

    prove(Watched(), state, tmp_path)


def test_no_path(tmp_path: Path) -> None:
    prove_no_path(Counter(9), "step", "value", tmp_path)
    with pytest.raises(AssertionError, match=r"^next depends on step in the same cycle$"):
        prove_no_path(Counter(9), "step", "next", tmp_path)
