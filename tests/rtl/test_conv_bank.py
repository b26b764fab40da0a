"""A chain of a convolution's banks against errors, winners and weights in tables: sums, gradients, updates."""

import random
from collections import defaultdict
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from locallearn.fpga.primitives import primitive_models
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import see_noise
from locallearn.quant.spec import ConvSpec
from locallearn.rtl.conv_bank import ConvBank, conv_control_layout
from locallearn.rtl.target import ECP5, GENERIC, SINGLE_PORT, Target
from locallearn.sim.bench import cycle, parameters, ports, start
from locallearn.sim.export import to_verilog
from locallearn.sim.streams import pack, unpack
from tests.rtl.chain import Chain
from tests.rtl.conftest import Bench
from tests.rtl.plans import convolution

Ints = NDArray[np.int64]

# Cycles from the order for a row to what follows, all at the first bank.
PLACE = 2
OPERANDS = 3
X = 4
PRODUCT = 7
CHANGE = 8
WRITE = 9

STROBES = ("add", "round", "subtract", "update", "shift", "sum", "load_g", "keep")


class Model:
    """Orders for the cycles to come, and what becomes of them."""

    def __init__(self, dut: Any, plan: ConvPlan) -> None:
        self._dut, self.plan = dut, plan
        self._layout = conv_control_layout(plan)
        self._orders: dict[int, dict[str, Any]] = defaultdict(dict)
        self._sums: dict[int, Ints] = {}
        self._now = 0
        rows, columns, _ = plan.output_map
        form = plan.weight_format
        rng = np.random.default_rng(random.getrandbits(64))
        self.table = rng.integers(form.min, form.max, (plan.weight_rows, plan.lanes), endpoint=True)
        limit = 1 << plan.scaled_error_width - 1
        self.errors = rng.integers(-limit, limit, (plan.groups, *plan.feature_map[:2], plan.lanes))
        self.winners = rng.integers(0, plan.conv.pool**2, (plan.groups, rows, columns, plan.lanes))
        self.active = rng.random(self.winners.shape) < 0.7
        # The last group's lanes without a channel have nothing.
        self._used = plan.neurons - (plan.groups - 1) * plan.lanes
        self.errors[-1, ..., self._used :] = 0
        self.active[-1, ..., self._used :] = False
        self._total = np.zeros(plan.lanes, np.int64)

    def _order(self, after: int, **fields: Any) -> None:
        self._orders[self._now + after] |= fields

    async def step(self) -> None:
        """A cycle; what nobody asked for may be anything."""
        plan = self.plan
        control = unpack(self._layout, random.getrandbits(self._layout.size)) | dict.fromkeys(STROBES, 0)
        control |= self._orders.pop(self._now, {})
        self._dut.control.value = pack(self._layout, control)
        await RisingEdge(self._dut.clk)
        sums = [port.value.to_signed() for port in ports(self._dut, "accumulators", plan.lanes)]
        for number, lanes in enumerate(plan.banks):
            expected = self._sums.get(self._now - number)
            if expected is not None:
                actual = [sums[lane] for lane in lanes]
                assert actual == expected[lanes.start : lanes.stop].tolist(), (
                    f"cycle {cycle()}: sums of lanes {lanes}: expected {expected[lanes]}, actual {actual}"
                )
        self._now += 1

    async def settle(self) -> None:
        """Until all orders have been carried out by all banks."""
        for _ in range(WRITE + len(self.plan.banks) + 5):
            await self.step()

    async def load(self) -> None:
        """Weights by the host's way; errors and winners lane by lane."""
        plan = self.plan
        for row, weights in enumerate(self.table.tolist()):
            for weight in weights:
                self._dut.neighbour.value = weight
                # The last bank takes it as many cycles later.
                self._order(0, shift=1)
                for _ in range(len(plan.banks) + 1):
                    await self.step()
            self._order(0, update=1, write_row=row)
            await self.settle()
        for (group, row, column, lane), error in np.ndenumerate(self.errors):
            if group < plan.groups - 1 or lane < self._used:
                at = {"group": group, "row": row, "column": column}
                self._order(0, load_g=1, g_lane=lane, g_at=at, next_g=int(error))
                await self.step()
        for (group, row, column, lane), winner in np.ndenumerate(self.winners):
            used = plan.lanes if group < plan.groups - 1 else self._used
            if lane < used:
                kept = int(winner) | int(self.active[group, row, column, lane]) << plan.winner_bits - 1
                at = {"group": group, "row": row, "column": column}
                self._order(0, keep=1, kept_lane=lane, kept_at=at, kept=kept, ends=lane == used - 1)
                await self.step()
        await self.settle()

    def _any_input(self) -> int:
        form = self.plan.input_format
        return random.choice((1, form.max, form.min, random.randint(form.min, form.max)))

    def _meet(self, factors: Ints, first: bool, half: int, learn: bool, x: int) -> None:
        self._order(OPERANDS, learn=learn)
        self._order(X, x=x & (1 << self.plan.input_format.bits) - 1)
        self._order(PRODUCT, add=1, first=first, half=half)
        begin = half << self.plan.requantise_shift >> 1
        self._total = (begin if first else self._total) + factors * x
        self._sums[self._now + PRODUCT + 1] = self._total if not learn else None

    def forward(self, first: bool) -> None:
        row = random.randrange(self.plan.weight_rows)
        self._order(0, row=row)
        self._meet(self.table[row], first, int(first), False, self._any_input())

    def gradient(self, group: int, first: bool) -> None:
        plan, pool = self.plan, self.plan.conv.pool
        rows, columns, _ = plan.output_map
        row, column, place = random.randrange(rows), random.randrange(columns), random.randrange(pool**2)
        down, across = plan.cell
        cell = (row // down, column // across)
        at = {"group": group, "row": cell[0], "column": cell[1]}
        self._order(-1 + 1, error_at=at, winner_at={"group": group, "row": row, "column": column})
        self._now += 1
        self._order(PLACE, place=place)
        learns = self.active[group, row, column] & (self.winners[group, row, column] == place)
        self._meet(np.where(learns, self.errors[group][cell], 0), first, 0, True, self._any_input())
        self._now -= 1

    def update(self, row: int, empty: bool) -> None:
        plan, noise = self.plan, random.getrandbits(64)
        self._now += 1
        self._order(0, row=row)
        self._order(PRODUCT, round=1, empty=empty, noise=noise)
        self._order(CHANGE, subtract=1)
        self._order(WRITE, update=1, write_row=row)
        self._now -= 1
        random_bits = plan.noise_value(see_noise(np.array([noise], np.uint64), plan.lanes, plan.noise_bits)[0])
        exact = self.table[row] - (((0 if empty else self._total) + random_bits) >> plan.update_shift)
        self.table[row] = np.clip(exact, plan.weight_format.min, plan.weight_format.max)

    async def read(self, row: int) -> list[int]:
        """Fetched by an update of nothing, and shifted out."""
        self._order(0, row=row)
        self._order(PRODUCT, round=1, empty=1, noise=0)
        self._order(CHANGE, subtract=1)
        await self.settle()
        weights = []
        for _ in range(self.plan.lanes):
            weights.append(self._dut.updated.value.to_signed())
            self._order(0, shift=1)
            await self.step()
            await self.step()
        return weights


@cocotb.test()
async def sums_and_learns(dut: Any) -> None:
    """Sums of weights, then gradients and updates of all rows, back to back or not; then all rows read."""
    plan, target = parameters()
    await start(dut)
    model = Model(dut, plan)
    await model.load()
    for _ in range(20):
        for term in range(random.randint(1, plan.fan_in)):
            model.forward(first=term == 0)
            await model.step()
    await model.settle()
    begun: set[int] = set()
    for row in range(plan.weight_rows):
        terms = random.choice((0, 1, 3, plan.places))
        for term in range(terms):
            model.gradient(row // plan.fan_in, first=term == 0)
            for _ in range(1 + random.choice((0, 0, 2))):
                await model.step()
        # In single-port memory none is written while one is read.
        while target.single_port_weights and cycle() - WRITE in begun:
            await model.step()
        begun.add(cycle())
        model.update(row, empty=terms == 0)
        await model.step()
    await model.settle()
    for row, expected in enumerate(model.table.tolist()):
        actual = await model.read(row)
        assert actual == expected, f"cycle {cycle()}: row {row}: expected {expected}, actual {actual}"


@pytest.mark.parametrize(
    ("plan", "target"),
    [
        pytest.param(convolution((2, 6, 6), ConvSpec(5, pool=2, resolution=1, lanes=3)), GENERIC, id="pool"),
        pytest.param(
            convolution((1, 4, 4), ConvSpec(19, 2, resolution=0, lanes=10)), SINGLE_PORT, id="2 banks, single-port"
        ),
        pytest.param(convolution((1, 4, 4), ConvSpec(12, 2, pool=2, resolution=1, lanes=9)), ECP5, id="2 banks, ecp5"),
    ],
)
def test_conv_banks(bench: Bench, plan: ConvPlan, target: Target) -> None:
    banks = [ConvBank(plan, target, lanes) for lanes in plan.banks]
    chain = Chain(plan, banks, conv_control_layout(plan))
    bench(chain, (plan, target), primitive_models(target) + to_verilog(chain))
