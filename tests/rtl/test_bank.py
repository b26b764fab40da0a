"""A chain of banks against one row of lanes and a table: learning, sums, and the host's way through the lanes."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.fpga.primitives import primitive_models
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan, lane_rotation
from locallearn.rtl.bank import LaneBank, control_layout
from locallearn.rtl.target import ECP5, GENERIC, ICE40UP, SINGLE_PORT, Target
from locallearn.sim.bench import cycle, parameters, ports, start
from locallearn.sim.export import to_verilog
from locallearn.sim.streams import pack
from tests.rtl.chain import Chain
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer

# Cycles from the order for a row to what follows, all at the first bank.
TAKE_G = 2
OPERANDS = 3
PRODUCT = 7
CHANGE = 8
SATURATE = 9
UPDATED = 10


@dataclass
class Row:
    """One row's way through the lanes; `weights` and `g` are what it meets there."""

    kind: Literal["forward", "learn", "fetch"]
    row: int
    x: int
    first: bool = False
    take_g: bool = False
    noise: int = field(default_factory=lambda: random.getrandbits(64))
    weights: list[int] = field(default_factory=list)
    g: list[int] = field(default_factory=list)


class Model:
    """The chain as one row of lanes, which are all told the same at the same time: cycle by cycle.

    What a bank shows is compared as many cycles later as there are banks before it.
    """

    def __init__(self, dut: Any, plan: LayerPlan, target: Target) -> None:
        self._dut, self._plan = dut, plan
        self._layout = control_layout(plan)
        self._banks = plan.banks
        self._single_port = target.single_port_weights
        # `updated` is written a cycle after the order for that.
        self._write = UPDATED - 1
        self.table: list[list[int] | None] = [None] * plan.weight_rows
        self._next_g = [0] * plan.lanes
        self._g = [0] * plan.lanes
        self._sums: list[int | None] = [None] * plan.lanes
        self._updated: list[int | None] = [None] * plan.lanes
        self._clipped = [False] * plan.lanes
        self._terms = plan.inputs
        self._rows = deque[Row | None]([None] * (self._write + 1), self._write + 1)  # ordered 0, 1, ... cycles ago
        self._seen_sums = deque([self._sums] * len(self._banks), len(self._banks))
        self._seen_counts = deque([0] * (len(self._banks) + 2), len(self._banks) + 2)
        self._given = deque([0] * len(self._banks), len(self._banks))
        self.clipped = 0

    # -- what can be done in a cycle -----------------------------------------------------------------------

    async def step(self, row: Row | None = None, shift: int | None = None, store: int | None = None) -> None:
        """One cycle: begin with a row, shift a weight in, store the lanes' weights as this row."""
        plan = self._plan
        self._rows.appendleft(row)
        take, operands, multiplied = (self._rows[at] for at in (TAKE_G, OPERANDS, OPERANDS + 1))
        product, change, saturate = (self._rows[at] for at in (PRODUCT, CHANGE, SATURATE))
        written = self._rows[self._write]
        write_row = written.row if written and written.kind == "learn" else store
        load_g, g_lane, next_g = random.getrandbits(1), random.randrange(plan.lanes), any_error(plan)
        control = {
            "row": random.randrange(plan.weight_rows) if row is None else row.row,
            "x": multiplied.x if multiplied else random.randint(0, plan.input_format.max),
            "learn": operands.kind == "learn" if operands else random.getrandbits(1),
            "next_g": next_g,
            "g_lane": g_lane,
            "load_g": load_g,
            "take_g": take is not None and take.take_g,
            "add": product is not None and product.kind == "forward",
            "first": product.first if product else random.getrandbits(1),
            "round": product is not None and product.kind != "forward",
            "noise": product.noise if product else random.getrandbits(64),
            "subtract": change is not None and change.kind != "forward",
            "update": write_row is not None,
            "write_row": random.randrange(plan.weight_rows) if write_row is None else write_row,
            "shift": shift is not None,
            # Of no interest to the bank.
            "sum": random.getrandbits(1),
        }
        self._dut.control.value = pack(self._layout, control)
        # The last bank is the one that takes it.
        self._given.append(any_weight(plan) if shift is None else shift)
        self._dut.neighbour.value = self._given[0]
        await RisingEdge(self._dut.clk)
        self._compare()

        # From here on, what the next cycle begins with.
        if row is not None:
            weights = self.table[row.row]
            assert weights is not None, "the test reads what it has not written"
            row.weights = weights
        if operands:
            operands.g = self._g
        if take and take.take_g:
            self._g = list(self._next_g)
        if load_g:
            self._next_g[g_lane] = next_g
        self._work(product, saturate)
        if shift is not None:
            self._updated = [*self._updated[1:], shift]
            self._clipped = [False] * plan.lanes
        count = 0
        if write_row is not None:
            self.table[write_row] = [weight for weight in self._updated if weight is not None]
            count = sum(self._clipped)
            self.clipped += count
        self._seen_counts.append(count)
        self._seen_sums.append(self._sums)

    def _work(self, product: Row | None, change: Row | None) -> None:
        plan = self._plan
        if product and product.kind == "forward":
            half = 1 << plan.requantise_shift >> 1
            before = [half if product.first else total for total in self._sums]
            self._sums = [
                None if total is None else total + product.x * weight
                for total, weight in zip(before, product.weights, strict=True)
            ]
        if change and change.kind != "forward":
            noise = [change.noise >> r | change.noise << 64 - r for r in map(lane_rotation, range(plan.lanes))]
            words = np.array([word & (1 << plan.noise_bits) - 1 for word in noise])
            exact = [
                weight - ((change.x * g + noise) >> plan.update_shift)
                for weight, g, noise in zip(change.weights, change.g, plan.noise_value(words).tolist(), strict=True)
            ]
            form = plan.weight_format
            self._updated = [min(max(weight, form.min), form.max) for weight in exact]
            self._clipped = [new != weight for new, weight in zip(self._updated, exact, strict=True)]

    def _compare(self) -> None:
        dut = self._dut
        sums = [port.value.to_signed() for port in ports(dut, "accumulators", self._plan.lanes)]
        for number, lanes in enumerate(self._banks):
            for lane in lanes:
                expected = self._seen_sums[-1 - number][lane]
                assert expected in (None, sums[lane]), (
                    f"cycle {cycle()}: lane {lane}: expected sum {expected}, actual {sums[lane]}"
                )
        updated, saturated = dut.updated.value.to_signed(), int(dut.saturated.value)
        assert self._updated[0] in (None, updated), (
            f"cycle {cycle()}: expected weight {self._updated[0]} of the first lane, actual {updated}"
        )
        assert saturated == self._seen_counts[0], (
            f"cycle {cycle()}: expected {self._seen_counts[0]} clipped weights, actual {saturated}"
        )

    # -- what a layer and the host make of it --------------------------------------------------------------

    async def settle(self) -> None:
        """Until all banks have written all rows, and have been compared."""
        for _ in range(self._write + 1 + len(self._banks)):
            await self.step()

    async def work(self, cycles: int) -> None:
        """Rows forward and rows to learn, back to back and in any order as far as the memory allows."""
        plan = self._plan
        for _ in range(cycles):
            before, written = self._rows[0], self._rows[self._write - 1]
            writing = written is not None and written.kind == "learn"
            kind = random.choice(("forward", "learn", None))
            # `updated` waits for its turn to be written.
            too_soon = kind == "learn" and before is not None and before.kind == "learn"
            if kind is None or (self._single_port and (writing or too_soon)):
                await self.step()
                continue
            others = [row for row in range(plan.weight_rows) if not (writing and written and row == written.row)]
            # A sum has at most as many terms as there are inputs: more need not fit.
            first = self._terms == plan.inputs or random.random() < 1 / plan.fan_in
            if kind == "forward":
                self._terms = 1 if first else self._terms + 1
            x = random.choice((1, plan.input_format.max, random.randint(0, plan.input_format.max)))
            await self.step(Row(kind, random.choice(others), x, first, take_g=random.random() < 0.3))
        await self.settle()

    async def write(self, row: int, weights: list[int]) -> None:
        """Shifted in from lane 0 on, at least two cycles apart; stored with the last."""
        for weight in weights[:-1]:
            await self.step(shift=weight)
            for _ in range(random.choice((1, 1, 5))):
                await self.step()
        await self.step(shift=weights[-1], store=row)
        await self.settle()

    async def read(self, row: int) -> list[int]:
        """Fetched, and shifted out. Every bank has its weights before the one before needs them."""
        await self.step(Row("fetch", row, x=0))
        for _ in range(UPDATED):
            await self.step()
        weights = []
        for _ in range(self._plan.lanes):
            weights.append(self._dut.updated.value.to_signed())
            await self.step(shift=any_weight(self._plan))
            await self.step()
        return weights


def any_error(plan: LayerPlan) -> int:
    limit = 1 << plan.scaled_error_width - 1
    return random.choice((0, -limit, limit - 1, random.randrange(-limit, limit)))


def any_weight(plan: LayerPlan) -> int:
    return random.randint(plan.weight_format.min, plan.weight_format.max)


@cocotb.test()
async def learns_and_serves_the_host(dut: Any) -> None:
    """Rows written by the host, then work on them, rows of the host in between, and in the end all rows read."""
    plan, target = parameters()
    await start(dut)
    model = Model(dut, plan, target)
    for row in range(plan.weight_rows):
        await model.write(row, [any_weight(plan) for _ in range(plan.lanes)])
    for _ in range(10):
        await model.work(150)
        row, other = (random.randrange(plan.weight_rows) for _ in range(2))
        expected, actual = model.table[row], await model.read(row)
        assert actual == expected, f"cycle {cycle()}: row {row}: expected {expected}, actual {actual}"
        await model.settle()
        await model.write(other, [any_weight(plan) for _ in range(plan.lanes)])
    await model.work(150)
    for row, expected in enumerate(model.table):
        actual = await model.read(row)
        assert actual == expected, f"cycle {cycle()}: row {row}: expected {expected}, actual {actual}"
    assert model.clipped, "expected some clipped weights, actual none"


@pytest.mark.parametrize(
    ("plan", "target"),
    [
        pytest.param(layer(5, 1, weight=QFormat(2, 1, signed=True)), SINGLE_PORT, id="1 lane of 2 bits, single-port"),
        pytest.param(layer(5, 3, weight=QFormat(16, 16, signed=True)), GENERIC, id="3 lanes of 16 bits"),
        pytest.param(layer(10, 9, inputs=4), GENERIC, id="2 banks"),
        pytest.param(layer(20, 19, inputs=5), GENERIC, id="3 banks"),
        pytest.param(layer(20, 19, inputs=5), SINGLE_PORT, id="3 banks, single-port"),
        pytest.param(layer(10, 9, inputs=4), ECP5, id="2 banks, ecp5"),
        pytest.param(layer(10, 9, inputs=4), ICE40UP, id="2 banks, ice40up"),
    ],
)
def test_lane_banks(bench: Bench, plan: LayerPlan, target: Target) -> None:
    chain = Chain(plan, [LaneBank(plan, target, lanes) for lanes in plan.banks], control_layout(plan))
    bench(chain, (plan, target), primitive_models(target) + to_verilog(chain))
