"""What synthesis makes: the primitives that were meant, and a chip that still learns as the golden model does."""

import numpy as np
import pytest
from amaranth import signed, unsigned

from locallearn.fpga.netlist import chip_netlist, count_blocks, synthesise
from locallearn.host.device import ChipDevice
from locallearn.host.link import Link
from locallearn.host.verify import verify
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.memory import BlockMemory, SinglePortMemory
from locallearn.rtl.multiplier import Multiplier
from locallearn.rtl.target import ECP5, GOWIN, ICE40UP, NEXUS, Target
from locallearn.sim.simulated import SimulatedChip
from tests.rtl.shelf import Shelf
from tests.rtl.test_memory import BLOCKS

BLOCK_RAMS = {
    ECP5: {"DP16KD"},
    ICE40UP: {"SB_RAM40_4K"},
    GOWIN: {"SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B"},
    NEXUS: {"DP16K", "PDP16K", "PDPSC16K"},
}
MULTIPLIERS = {ECP5: {"MULT18X18D"}, ICE40UP: {"SB_MAC16"}, GOWIN: {"MULT9X9", "MULT18X18"}, NEXUS: {"MULT18X18"}}
REGISTERS = {ECP5: {"TRELLIS_FF"}, ICE40UP: {"SB_DFF"}, GOWIN: {"DFF"}, NEXUS: {"FD1P3IX"}}


def count(found: dict[str, int], cells: set[str]) -> int:
    return sum(found.get(cell, 0) for cell in cells)


# -- no memory and no multiplier is made of LUTs -------------------------------------------------------------


@pytest.mark.parametrize("target", BLOCK_RAMS, ids=lambda target: target.name)
def test_block_memories(target: Target) -> None:
    """As many block RAMs as the slices say, be the memory as small as a bit."""
    found = count_blocks(Shelf(BlockMemory(target, *shape) for shape in BLOCKS), target)
    blocks = sum(len(target.slices(*shape)) * target.banks(shape[1]) for shape in BLOCKS)
    assert count(found, BLOCK_RAMS[target]) == blocks


def test_single_port_memories() -> None:
    found = count_blocks(Shelf([SinglePortMemory(ICE40UP, 16, 1000), SinglePortMemory(ICE40UP, 40, 40000)]), ICE40UP)
    assert found["SB_SPRAM256KA"] == 1 + 3 * 3


@pytest.mark.parametrize(("target", "registers"), [(ECP5, 24), (ICE40UP, 0), (GOWIN, 48), (NEXUS, 32)])
def test_multipliers(target: Target, registers: int) -> None:
    """iCE40 has all registers inside, ECP5 all but the last, which is meant to be outside; yosys leaves more of Gowin's
    outside, and of Nexus' that of the unsigned operand."""
    netlist = synthesise(Multiplier(target, unsigned(8), signed(16)), target)
    assert count(netlist.cells, MULTIPLIERS[target]) == 1
    assert count(netlist.cells, REGISTERS[target]) == registers


# -- the chip ------------------------------------------------------------------------------------------------

ONE_LAYER = NetworkSpec("small", 4, InputSpec(12), (LayerSpec(6, lanes=2),))
TWO_LAYERS = NetworkSpec("small", 4, InputSpec(12), (LayerSpec(6, lanes=2), LayerSpec(4, lanes=2, rate_shift=6)))


@pytest.mark.parametrize(
    ("target", "spec", "cells"),
    [
        # The event buffers take a block each, as do the link's both ways; so few rows of weights lie in LUTs.
        (ECP5, TWO_LAYERS, {"DP16KD": 2 + 2, "MULT18X18D": 2 * 2}),
        (ICE40UP, ONE_LAYER, {"SB_SPRAM256KA": 2, "SB_MAC16": 2}),
    ],
    ids=["ecp5", "ice40up"],
)
def test_netlist_learns_like_the_golden_model(target: Target, spec: NetworkSpec, cells: dict[str, int]) -> None:
    """Every weight, noise state, score, error, event and counter after each sample."""
    netlist = chip_netlist(spec, target)
    assert {cell: netlist.cells[cell] for cell in cells} == cells
    rng = np.random.default_rng(3)
    pixels = (rng.integers(0, 256, (40, 12)) * (rng.random((40, 12)) < 0.7)).astype(np.uint8)
    with SimulatedChip(netlist.verilog, optimise=False) as chip, ChipDevice(spec, Link(chip.url)) as device:
        summary = verify(device, pixels, rng.integers(0, 4, 40))
    assert summary == {"samples": 40, "equal": True, "first_difference": None}
