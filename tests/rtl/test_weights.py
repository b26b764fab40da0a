"""The weight memory against a table."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.formats import QFormat
from locallearn.quant.plan import LayerPlan
from locallearn.rtl.weights import WeightMemory
from locallearn.sim.bench import cycle, parameters, ports, start
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer

Row = list[int]


def any_row(plan: LayerPlan) -> Row:
    return [random.randint(plan.weight_format.min, plan.weight_format.max) for _ in range(plan.lanes)]


def weights(dut: Any, plan: LayerPlan) -> Row:
    """What the read port shows."""
    return [port.value.to_signed() for port in ports(dut, "weights", plan.lanes)]


async def write(dut: Any, plan: LayerPlan, table: list[Row]) -> None:
    """All rows, one a cycle."""
    dut.update.value = 1
    for number, row in enumerate(table):
        dut.write_row.value = number
        for port, weight in zip(ports(dut, "updated", plan.lanes), row, strict=True):
            port.value = weight
        await RisingEdge(dut.clk)
    dut.update.value = 0


@cocotb.test()
async def reads_and_writes_a_row_a_cycle(dut: Any) -> None:
    """Any rows but the same one in the same cycle, read one cycle later."""
    plan = parameters()
    await start(dut)
    table = [any_row(plan) for _ in range(plan.weight_rows)]
    await write(dut, plan, table)
    expected: Row | None = None
    for _ in range(1000):
        row, write_row, update = *random.sample(range(plan.weight_rows), 2), random.random() < 0.5
        new = any_row(plan)
        dut.row.value, dut.write_row.value, dut.update.value = row, write_row, update
        for port, weight in zip(ports(dut, "updated", plan.lanes), new, strict=True):
            port.value = weight
        await RisingEdge(dut.clk)
        if expected is not None:
            actual = weights(dut, plan)
            assert actual == expected, f"cycle {cycle()}: expected {expected}, actual {actual}"
        expected = table[row]
        if update:
            table[write_row] = new


@cocotb.test()
async def serves_the_host_lane_by_lane(dut: Any) -> None:
    """Single weights written and read two cycles later; the other lanes of a row keep theirs."""
    plan = parameters()
    await start(dut)
    table = [any_row(plan) for _ in range(plan.weight_rows)]
    await write(dut, plan, table)
    dut.host.value = 1
    for _ in range(500):
        row, lane, new = random.randrange(plan.weight_rows), random.randrange(plan.lanes), any_row(plan)[0]
        dut.host_row.value, dut.host_data.value = row, new
        if plan.lanes > 1:
            dut.host_lane.value = lane
        dut.host_write.value = write_it = random.random() < 0.5
        # What the layer's ports say does not matter.
        dut.row.value, dut.write_row.value = (random.randrange(plan.weight_rows) for _ in range(2))
        await RisingEdge(dut.clk)
        dut.host_write.value = 0
        if write_it:
            table[row][lane] = new
            await RisingEdge(dut.clk)
        await RisingEdge(dut.clk)
        await RisingEdge(dut.clk)
        actual = dut.host_weight.value.to_signed()
        assert actual == table[row][lane], (
            f"cycle {cycle()}: row {row} lane {lane}: expected {table[row][lane]}, actual {actual}"
        )
    dut.host.value = 0
    for number, row in enumerate(table):
        dut.row.value = number
        await RisingEdge(dut.clk)
        await RisingEdge(dut.clk)
        assert weights(dut, plan) == row, f"row {number}: expected {row}, actual {weights(dut, plan)}"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(5, 1, weight=QFormat(2, 1, signed=True)), id="1 lane of 2 bits"),
        pytest.param(layer(5, 3, weight=QFormat(16, 16, signed=True)), id="3 lanes of 16 bits"),
    ],
)
def test_weight_memory(bench: Bench, plan: LayerPlan) -> None:
    bench(WeightMemory(plan), plan)
