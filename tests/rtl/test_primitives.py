"""The models of ECP5's primitives: yosys' own use of them works, and what they do not know ends the simulation."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocotb
import pytest
from amaranth import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from locallearn.fpga.netlist import synthesise
from locallearn.fpga.primitives import primitive_models
from locallearn.rtl.target import ECP5
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.export import to_verilog
from tests.rtl.conftest import Bench
from tests.rtl.shelf import Shelf


@dataclass(frozen=True)
class Kind:
    """An ordinary memory with two ports.

    granularity  bits that are written together
    transparent  a word that is being written is read as it becomes, and not as it was
    shared       both ports have one address
    """

    width: int
    depth: int
    granularity: int
    transparent: bool = False
    shared: bool = False

    def init(self) -> list[int]:
        return [random.Random(word).getrandbits(self.width) for word in range(self.depth)]


KINDS = (
    Kind(36, 512, 36),
    Kind(36, 300, 9, transparent=True),
    Kind(18, 1024, 9),
    Kind(9, 2048, 9, shared=True),
    Kind(9, 2048, 9, transparent=True, shared=True),
    Kind(4, 4096, 4),
    Kind(2, 8192, 2, transparent=True),
    Kind(1, 16384, 1),
)


class Ordinary(wiring.Component):
    """A memory as Amaranth has it, one cycle; which primitive becomes of it is for synthesis to say."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        super().__init__(
            {
                "address": In(range(kind.depth)),
                "data": Out(kind.width),
                "enable": In(1),
                "write": In(kind.width // kind.granularity),
                "write_address": In(range(kind.depth)),
                "write_data": In(kind.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        k = self._kind
        m.submodules.memory = memory = Memory(shape=k.width, depth=k.depth, init=k.init())
        write = memory.write_port(granularity=k.granularity)
        read = memory.read_port(transparent_for=(write,) if k.transparent else ())
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(self.enable),
            self.data.eq(read.data),
            write.addr.eq(self.address if k.shared else self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write),
        ]
        return m


async def use(dut: Any, number: int, kind: Kind) -> None:
    """Any traffic on few words, so that reads often meet the word that is being written."""
    port = {
        name: getattr(dut, f"item_{number}__{name}")
        for name in ("address", "data", "enable", "write", "write_address", "write_data")
    }
    words = [0, 1, kind.depth // 2, kind.depth - 1, *(random.randrange(kind.depth) for _ in range(4))]
    table, expect = kind.init(), None
    for _ in range(1500):
        old, new = random.choice(words), random.choice(words)
        new = old if kind.shared else new
        enable, write = random.random() < 0.7, random.getrandbits(len(port["write"]))
        data = random.getrandbits(kind.width)
        port["address"].value, port["enable"].value = old, enable
        port["write_address"].value, port["write"].value, port["write_data"].value = new, write, data
        await RisingEdge(dut.clk)
        actual = int(port["data"].value)
        assert expect is None or actual == expect, f"cycle {cycle()}: {kind}: expected {expect:#x}, actual {actual:#x}"
        before = table[old]
        part = (1 << kind.granularity) - 1
        mask = sum(part << i * kind.granularity for i in range(len(port["write"])) if write >> i & 1)
        table[new] = table[new] & ~mask | data & mask
        if enable:
            expect = table[old] if kind.transparent else before


@cocotb.test()
async def behaves_as_asked(dut: Any) -> None:
    """All memories at once, each with its own traffic."""
    await start(dut)
    tasks = [cocotb.start_soon(use(dut, number, kind)) for number, kind in enumerate(parameters())]
    for task in tasks:
        await task


def test_memories_that_yosys_makes(bench: Bench) -> None:
    shelf = Shelf(map(Ordinary, KINDS))
    netlist = synthesise(shelf, ECP5)
    assert netlist.cells["DP16KD"] == len(KINDS)
    bench(shelf, KINDS, netlist.verilog)


class Misused(wiring.Component):
    """A primitive of which something is asked that its model does not know."""

    def __init__(self, name: str, **parameters: object) -> None:
        self._instance = Instance(name, **parameters)  # type: ignore[arg-type]  # the stubs know no **
        super().__init__({"o": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.primitive = self._instance
        m.d.sync += self.o.eq(~self.o)
        return m


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (Misused("DP16KD", p_CSDECODE_B="0b001"), "DP16KD: CSDECODE_A = 0b000, CSDECODE_B = 0b001"),
        (Misused("MULT18X18D", p_REG_OUTPUT_CLK="CLK1"), "MULT18X18D: REG_OUTPUT = CLK1 CE0 RST0"),
    ],
    ids=["block RAM", "multiplier"],
)
def test_misuse_ends_the_simulation(bench: Bench, tmp_path: Path, component: Misused, message: str) -> None:
    with pytest.raises(AssertionError, match="ended prematurely"):
        bench(component, (), primitive_models(ECP5) + to_verilog(component))
    assert message in (tmp_path / "simulation.log").read_text()
