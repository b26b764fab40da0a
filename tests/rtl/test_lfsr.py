"""The leap-forward register against the golden sequence."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.lfsr import leap
from locallearn.rtl.lfsr import LeapLfsr
from locallearn.sim.bench import cycle, parameters, start
from tests.rtl.conftest import Bench


@cocotb.test()
async def loads_and_leaps(dut: Any) -> None:
    """Any mixture of load, step, both and neither."""
    steps = parameters()
    await start(dut)
    expected = 0
    for _ in range(300):
        load, step, seed = random.random() < 0.05, random.random() < 0.7, random.getrandbits(64)
        dut.load.value, dut.step.value, dut.seed.value = load, step, seed
        await RisingEdge(dut.clk)
        actual = int(dut.state.value)
        assert actual == expected, f"cycle {cycle()}: expected state {expected:#x}, actual {actual:#x}"
        expected = seed if load else leap(expected, steps) if step else expected


# 32 makes noise, the others make the signs of as many classes; beyond 60 bits new ones follow from new ones.
@pytest.mark.parametrize("steps", [2, 10, 32, 100])
def test_leap_lfsr(bench: Bench, steps: int) -> None:
    bench(LeapLfsr(steps), steps)
