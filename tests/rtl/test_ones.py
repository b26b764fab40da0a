"""The ones of words against a loop over their bits."""

import random
from typing import Any

import cocotb
import pytest
from amaranth.lib import data

from locallearn.rtl.ones import Ones, one_layout, word_layout
from locallearn.sim.bench import parameters, start
from locallearn.sim.streams import IDLE, STALLS, Sink, Source, pace
from tests.rtl.conftest import Bench

ABOUT = data.StructLayout({"number": 8})


def any_word(width: int) -> int:
    """Ones few and many, the ends among them."""
    words = (1, 1 << (width - 1), (1 << width) - 1, random.getrandbits(width) & random.getrandbits(width))
    return random.choice(words) or 1


@cocotb.test()
@cocotb.parametrize(idle=IDLE, stall=STALLS)
async def gives_all_in_order(dut: Any, idle: str, stall: str) -> None:
    width = parameters()
    await start(dut)
    source = Source(dut, "i", word_layout(width, ABOUT), pace(idle, random.getrandbits(32)))
    sink = Sink(dut, "o", one_layout(width, ABOUT), pace(stall, random.getrandbits(32)))
    expected = []
    for number in range(60):
        word = any_word(width)
        source.send([{"word": word, "about": {"number": number}}])
        bits = [bit for bit in range(width) if word >> bit & 1]
        expected += [
            {"bit": bit, "first": bit == bits[0], "last": bit == bits[-1], "about": {"number": number}} for bit in bits
        ]
    await sink.expect(expected)
    if idle == stall == "steady":
        cycles = [received.cycle for received in sink.received]
        assert cycles[-1] - cycles[0] == len(cycles) - 1, "expected a one in every cycle"


@pytest.mark.parametrize("width", [2, 3, 16])
def test_ones(bench: Bench, width: int) -> None:
    bench(Ones(width, ABOUT), width)
