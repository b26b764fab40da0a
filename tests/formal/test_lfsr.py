"""A leap of the LFSR is as many single steps, for every one of its 2^64 states."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from amaranth import Cat, Module, Signal, Value

from locallearn.quant.layer_plan import NOISE_LEAP
from locallearn.quant.lfsr import STATE_BITS
from locallearn.rtl.lfsr import LeapLfsr, sequence
from tests.formal.prove import Claims, prove


def walk(m: Module, state: Value, steps: int) -> list[Value]:
    """The states from `state` on, by single steps: b[t] = b[t-64] ^ b[t-63] ^ b[t-61] ^ b[t-60]."""
    states = [state]
    for _ in range(steps):
        now, after = states[-1], Signal(STATE_BITS)
        m.d.comb += after.eq(Cat(now[1:], now[0] ^ now[1] ^ now[3] ^ now[4]))
        states.append(after)
    return states


@pytest.mark.parametrize("leaps", [range(2, 17), (NOISE_LEAP,), (256,)], ids=str)
def test_leap(leaps: Sequence[int], tmp_path: Path) -> None:
    """Leaps by a classifier's bits a neuron, and by the noise's; unbounded."""

    def state(claims: Claims) -> None:
        first = claims.dut
        for leap in leaps:
            lfsr = first
            if leap != leaps[0]:
                claims.m.submodules[f"leap_{leap}"] = lfsr = LeapLfsr(leap)
                claims.m.d.comb += [lfsr.load.eq(first.load), lfsr.step.eq(first.step), lfsr.seed.eq(first.seed)]
            before = claims.past(lfsr.state)
            states = walk(claims.m, before, leap)
            leapt = claims.past(lfsr.step & ~lfsr.load)
            claims.require(f"leaps_{leap}", ~leapt | (lfsr.state == states[leap]))
            claims.require(f"loads_{leap}", ~claims.past(lfsr.load) | (lfsr.state == claims.past(lfsr.seed)))
            claims.require(f"stays_{leap}", claims.past(lfsr.load | lfsr.step) | (lfsr.state == before))
            claims.require(
                f"sequence_{leap}", sequence(claims.m, before, leap) == Cat(state[0] for state in states[:leap])
            )
            claims.reach(f"leapt_{leap}", leapt & (before == 1))

    prove(LeapLfsr(leaps[0]), state, tmp_path)
