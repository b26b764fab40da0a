"""The multiplier against Python's, made of every target's own primitives."""

import random
from collections import deque
from typing import Any

import cocotb
import pytest
from amaranth import Shape, signed
from cocotb.triggers import RisingEdge

from locallearn.fpga.primitives import primitive_models
from locallearn.rtl.multiplier import Multiplier
from locallearn.rtl.target import ECP5, GENERIC, ICE40UP, Target
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.export import to_verilog
from tests.rtl.conftest import Bench
from tests.rtl.shelf import Shelf

OPERANDS = ((1, 2), (8, 16), (8, 18), (16, 16), (18, 18), (8, 26), (-2, 2), (-8, 16), (-16, 16), (-8, 18), (-8, 26))
"""Widths of a, negative where it is signed, and b: as narrow as can be, as a DSP has them, and wider than any."""


def extremes(low: int, high: int) -> int:
    """Any number of a range, often its ends and those about 0."""
    return random.choice([low, high, max(low, -1), 0, 1 if high > 0 else 0, random.randint(low, high)])


def limits(bits: int) -> tuple[int, int]:
    """Of operands of so many bits; less than 0 are signed."""
    return (0, (1 << bits) - 1) if bits > 0 else (-1 << (-bits - 1), (1 << (-bits - 1)) - 1)


async def multiply(dut: Any, number: int, a_bits: int, b_bits: int) -> None:
    """New operands in every cycle; their product three cycles later."""
    a_port, b_port, product = (getattr(dut, f"item_{number}__{name}") for name in ("a", "b", "product"))
    expected = deque[int | None]([None] * 3)
    for _ in range(1000):
        a, b = (extremes(*limits(bits)) for bits in (a_bits, -b_bits))
        a_port.value, b_port.value = a, b
        await RisingEdge(dut.clk)
        expect, actual = expected.popleft(), product.value
        assert expect is None or actual.to_signed() == expect, (
            f"cycle {cycle()}: {a_bits} x {b_bits} bits: expected {expect}, actual {actual.to_signed()}"
        )
        expected.append(a * b)


@cocotb.test()
async def multiplies_in_every_cycle(dut: Any) -> None:
    """All multipliers at once."""
    await start(dut)
    tasks = [cocotb.start_soon(multiply(dut, number, *bits)) for number, bits in enumerate(parameters())]
    for task in tasks:
        await task


@pytest.mark.parametrize("target", [GENERIC, ECP5, ICE40UP], ids=lambda target: target.name)
def test_multiplier(bench: Bench, target: Target) -> None:
    """Gowin's and Nexus' are the generic one."""
    shelf = Shelf(Multiplier(target, Shape(abs(a), signed=a < 0), signed(b)) for a, b in OPERANDS)
    bench(shelf, OPERANDS, primitive_models(target) + to_verilog(shelf))
