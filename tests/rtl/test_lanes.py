"""A lane against the golden arithmetic of forward and learn, an operation a cycle."""

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.formats import QFormat
from locallearn.quant.plan import LayerPlan
from locallearn.rtl.lanes import Lane
from locallearn.sim.bench import cycle, parameters, start
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer


@dataclass(frozen=True)
class Operation:
    """One operand pair and what becomes of it; `add` and `learn` may both be off."""

    x: int
    weight: int
    g: int = 0
    noise: int = 0
    learn: bool = False
    add: bool = False
    first: bool = False


def updated(plan: LayerPlan, operation: Operation) -> tuple[int, bool]:
    """The new weight, and whether it was clipped."""
    noise = int(plan.noise_value(np.array(operation.noise)))
    exact = operation.weight - ((operation.x * operation.g + noise) >> plan.update_shift)
    clipped = min(max(exact, plan.weight_format.min), plan.weight_format.max)
    return clipped, clipped != exact


async def run(dut: Any, plan: LayerPlan, operations: list[Operation]) -> dict[bool, int]:
    """Feed an operation a cycle; compare sums, and new weights, which stay until the next. Counts the clipped."""
    await start(dut)
    clipped = {True: 0, False: 0}
    total, weight = 0, None
    before = [Operation(0, 0)] * 4  # before[n - 1] was n cycles ago
    for operation in [*operations, *before]:
        dut.x.value, dut.weight.value, dut.g.value = operation.x, operation.weight, operation.g
        dut.learn.value = operation.learn
        dut.add.value, dut.first.value = before[1].add, before[1].first
        dut.round.value, dut.noise.value, dut.subtract.value = before[1].learn, before[1].noise, before[2].learn
        await RisingEdge(dut.clk)
        summed, updating = before[2], before[3]
        if summed.add:
            total = (0 if summed.first else total) + summed.x * summed.weight
        actual = dut.accumulator.value.to_signed()
        assert actual == total, f"cycle {cycle()}: expected sum {total}, actual {actual} after {summed}"
        if updating.learn:
            weight = updated(plan, updating)
            clipped[weight[1]] += 1
        if weight is not None:
            new = dut.updated.value.to_signed(), bool(dut.saturated.value)
            assert new == weight, f"cycle {cycle()}: expected weight, clipped {weight}, actual {new} after {updating}"
        before = [operation, *before[:-1]]
    return clipped


def at_limits(low: int, high: int) -> int:
    """One of the limits, next to them, around 0, or anything."""
    return random.choice((low, high, min(low + 1, high), max(high - 1, low), 0, 1, random.randint(low, high)))


def any_operation(plan: LayerPlan, **changes: Any) -> Operation:
    weight, limit = plan.weight_format, 1 << plan.scaled_error_width - 1
    return Operation(
        x=at_limits(0, plan.input_format.max),
        weight=at_limits(weight.min, weight.max),
        g=at_limits(-limit, limit - 1),
        noise=at_limits(0, (1 << plan.noise_bits) - 1),
        **changes,
    )


@cocotb.test()
async def both_phases_in_any_order(dut: Any) -> None:
    """Sums of up to a whole fan-in, updates, and operations that are neither, back to back."""
    plan = parameters()
    operations = []
    terms = plan.inputs
    for _ in range(3000):
        learn = random.random() < 0.4
        add = not learn and random.random() < 0.8
        # A sum has at most as many terms as there are inputs: more need not fit.
        first = terms == plan.inputs or random.random() < 1 / plan.fan_in
        if add:
            terms = 1 if first else terms + 1
        operations.append(any_operation(plan, learn=learn, add=add, first=first))
    await run(dut, plan, operations)


@cocotb.test()
async def sums_reach_their_limits(dut: Any) -> None:
    """Every input and every weight at its largest magnitude: the sum that the width is made for."""
    plan = parameters()
    operations = []
    for weight in (plan.weight_format.min, plan.weight_format.max):
        x = [plan.input_format.max] * plan.inputs + [plan.input_format.half]
        operations += [Operation(value, weight, add=True, first=i == 0) for i, value in enumerate(x)]
    await run(dut, plan, operations)


@cocotb.test()
async def updates_saturate_both_ways(dut: Any) -> None:
    """From weights at their limits, with the largest inputs and errors of either sign."""
    plan = parameters()
    error = 1 << plan.error_bits + plan.max_decay
    weight = plan.weight_format
    operations = [
        Operation(x, w, g, noise, learn=True)
        for x in (0, 1, plan.input_format.max)
        for w in (weight.min, weight.min + 1, -1, 0, weight.max - 1, weight.max)
        for g in (-error, -1, 0, 1, error)
        for noise in (0, (1 << plan.noise_bits) - 1)
    ]
    clipped = await run(dut, plan, operations)
    assert clipped[False], "expected some weights inside their limits, actual none"
    if plan.update_shift < plan.weight_format.bits:
        assert clipped[True], "expected some clipped weights, actual none"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(), id="defaults"),
        pytest.param(layer(inputs=40, weight=QFormat(16, 14, signed=True), noise_bits=16, error_bits=8), id="wide"),
        pytest.param(
            layer(inputs=3, weight=QFormat(2, 1, signed=True), error_bits=2, noise_bits=1, rate_shift=0), id="narrow"
        ),
        # All products are below a weight's unit, and only with noise do they make changes.
        pytest.param(layer(rate_shift=17, noise_bits=16), id="shift 21"),
        pytest.param(layer(weight=QFormat(16, 14, signed=True), rate_shift=0), id="shift 1"),
    ],
)
def test_lane(bench: Bench, plan: LayerPlan) -> None:
    bench(Lane(plan), plan)
