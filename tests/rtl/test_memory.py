"""Memories against a table, made of every target's own primitives."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from hypothesis import given
from hypothesis import strategies as st

from locallearn.fpga.primitives import primitive_models
from locallearn.rtl.memory import BlockMemory, SinglePortMemory
from locallearn.rtl.target import ECP5, GENERIC, ICE40UP, SINGLE_PORT, TARGETS, Target
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.export import to_verilog
from tests.rtl.conftest import Bench
from tests.rtl.shelf import Shelf

Shape = tuple[int, int]
"""Width and depth."""

BLOCKS: tuple[Shape, ...] = (
    (1, 1),
    (128, 90),
    (20, 1024),
    (20, 1570),
    (6, 4096),
    (3, 5000),
    (1, 16384),
    (2, 35000),
)
"""One of every shape that a block RAM has, and several banks."""

SINGLE_PORT_BLOCKS: tuple[Shape, ...] = ((1, 1), (16, 16384), (40, 300), (20, 40000))


async def use(dut: Any, number: int, shape: Shape, two_ports: bool, collide: bool) -> None:
    """Reads of words already written, one a cycle, and writes, of another word in the same cycle if it can. In some
    cycles memory or output register keep what they have.

    Or of the same word, with `collide`: ECP5's model then answers the opposite, so that no bench would miss it.
    """
    width, depth = shape
    port = {
        # A memory of a single word has no address.
        name: getattr(dut, f"item_{number}__{name}") if depth > 1 or "address" not in name else None
        for name in ("address", "read", "enable", "data", "write", "write_address", "write_data")
    }

    def put(name: str, value: int) -> None:
        if port[name] is not None:
            port[name].value = value

    # So few that each is met many times; the ends of blocks and banks are among them.
    edges = {edge for bits in range(depth.bit_length()) for edge in ((1 << bits) - 1, 1 << bits, depth - 1)}
    words = [*(edge for edge in sorted(edges) if edge < depth), *(random.randrange(depth) for _ in range(20))]
    table: dict[int, int] = {}
    # What was read, and what of that is in the output register.
    read: int | None = None
    expect: int | None = None
    for step in range(1000):
        new = words[step] if step < len(words) else random.choice([None, random.choice(words)])
        readable = [word for word in table if word != new or collide] if two_ports or new is None else []
        old = random.choice([None, *readable])
        data = random.getrandbits(width)
        put("write", new is not None)
        put("write_address", random.randrange(depth) if new is None else new)
        put("write_data", data)
        put("address", random.randrange(depth) if old is None else old)
        reads, enable = random.random() < 0.8 or not two_ports, random.random() < 0.8
        put("read", reads)
        put("enable", enable)
        await RisingEdge(dut.clk)
        actual = port["data"].value
        assert expect is None or actual == expect, (
            f"cycle {cycle()}: {width} bits x {depth}: expected {expect:#x}, actual {int(actual):#x}"
        )
        opposite = (1 << width) - 1 if old == new else 0
        if enable:
            expect = read
        if reads:
            read = None if old is None else table[old] ^ opposite
        if new is not None:
            table[new] = data


@cocotb.test()
async def reads_and_writes_any_words(dut: Any) -> None:
    """All memories at once, each with its own traffic."""
    shapes, *kind = parameters()
    await start(dut)
    tasks = [cocotb.start_soon(use(dut, number, shape, *kind)) for number, shape in enumerate(shapes)]
    for task in tasks:
        await task


@pytest.mark.parametrize("target", [GENERIC, ECP5, ICE40UP], ids=lambda target: target.name)
def test_block_memory(bench: Bench, target: Target) -> None:
    """Gowin's and Nexus' are made as iCE40's are, of memories for yosys to infer."""
    shelf = Shelf(BlockMemory(target, *shape) for shape in BLOCKS)
    bench(shelf, (BLOCKS, True, target == ECP5), primitive_models(target) + to_verilog(shelf))


@pytest.mark.parametrize("target", [SINGLE_PORT, ICE40UP], ids=lambda target: target.name)
def test_single_port_memory(bench: Bench, target: Target) -> None:
    shelf = Shelf(SinglePortMemory(target, *shape) for shape in SINGLE_PORT_BLOCKS)
    bench(shelf, (SINGLE_PORT_BLOCKS, False, False), primitive_models(target) + to_verilog(shelf))


# -- how memories are cut into blocks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "shape", "slices", "banks"),
    [
        (GENERIC, (128, 100_000), (128,), 1),
        (ECP5, (40, 1024), (18, 18, 4), 1),
        (ECP5, (40, 1025), (9, 9, 9, 9, 4), 1),
        (ECP5, (5, 8192), (2, 2, 1), 1),
        (ECP5, (2, 16385), (1, 1), 2),
        (ICE40UP, (33, 256), (16, 16, 1), 1),
        (ICE40UP, (3, 4097), (2, 1), 3),
    ],
)
def test_slices(target: Target, shape: Shape, slices: tuple[int, ...], banks: int) -> None:
    assert target.slices(*shape) == slices
    assert target.banks(shape[1]) == banks


@given(st.sampled_from(list(TARGETS.values())), st.integers(1, 2000), st.integers(1, 200_000))
def test_slices_fit_their_blocks(target: Target, width: int, depth: int) -> None:
    """All bits once, and every block is one that the target has, with none left out behind or beside it."""
    slices, banks = target.slices(width, depth), target.banks(depth)
    assert sum(slices) == width
    if target.blocks:
        deepest = target.blocks[-1][0]
        assert (banks - 1) * deepest < depth <= banks * deepest
        widest = max(w for d, w in target.blocks if d >= min(depth, deepest))
        assert all(part == widest for part in slices[:-1]) and 0 < slices[-1] <= widest
