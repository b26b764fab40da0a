"""A lane against the golden arithmetic of forward and learn, an operation a cycle."""

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.fpga.primitives import primitive_models
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.spec import InputSpec
from locallearn.rtl.lanes import Lane
from locallearn.rtl.target import ECP5, GENERIC, ICE40UP, Target
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.export import to_verilog
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer


@dataclass(frozen=True)
class Operation:
    """One operand pair and what becomes of it; `add` and `learn` may both be off.

    g      taken for this operation and those behind it; None leaves the one before
    fetch  the weight becomes `updated` as it is; x is 0
    shift  the neighbour's weight becomes `updated`, in the cycle in which this operation's would
    """

    x: int
    weight: int
    g: int | None = None
    noise: int = 0
    learn: bool = False
    add: bool = False
    first: bool = False
    fetch: bool = False
    shift: int | None = None


NOTHING = Operation(0, 0)


def updated(plan: LayerPlan, operation: Operation, g: int) -> tuple[int, bool]:
    """The new weight, and whether it was clipped."""
    noise = int(plan.noise_value(np.array(operation.noise)))
    exact = operation.weight - ((operation.x * g + noise) >> plan.update_shift)
    clipped = min(max(exact, plan.weight_format.min), plan.weight_format.max)
    return clipped, clipped != exact


async def run(dut: Any, plan: LayerPlan, operations: list[Operation]) -> dict[bool, int]:
    """Feed an operation a cycle; compare sums, and new weights, which stay until the next. Counts the clipped.

    An error is loaded two cycles before its first operation, and taken in the one before it, which uses the last.
    """
    await start(dut)
    clipped = {True: 0, False: 0}
    half = 1 << plan.requantise_shift >> 1
    total: int | None = None
    weight: tuple[int, bool] | None = None
    g = 0
    # In cycle c, `ahead[c]` is the operation that comes 2 cycles later; before[n - 1] was n cycles ago, with its g.
    ahead = [*operations, *[NOTHING] * 9]
    coming = [NOTHING, NOTHING]
    before = [(NOTHING, 0)] * 7
    for arriving in ahead:
        operation, following = coming
        coming = [following, arriving]
        g = g if operation.g is None else operation.g
        dut.weight.value, dut.learn.value = operation.weight, operation.learn
        dut.x.value = before[0][0].x
        # What is neither loaded nor taken does not matter.
        dut.load_g.value = arriving.g is not None
        dut.next_g.value = any_error(plan) if arriving.g is None else arriving.g
        dut.take_g.value = following.g is not None
        adding, subtracting, saturating = before[3][0], before[4][0], before[5][0]
        dut.add.value, dut.first.value = adding.add, adding.first
        dut.round.value, dut.noise.value = adding.learn or adding.fetch, adding.noise
        dut.subtract.value = subtracting.learn or subtracting.fetch
        dut.shift.value = saturating.shift is not None
        dut.neighbour.value = any_weight(plan) if saturating.shift is None else saturating.shift
        await RisingEdge(dut.clk)
        summed, (updating, its_g) = before[4][0], before[6]
        if summed.add:
            total = (half if summed.first else total or 0) + summed.x * summed.weight
        if total is not None:
            actual = dut.accumulator.value.to_signed()
            assert actual == total, f"cycle {cycle()}: expected sum {total}, actual {actual} after {summed}"
        if updating.shift is not None:
            weight = updating.shift, False
        elif updating.learn or updating.fetch:
            weight = updated(plan, updating, its_g)
            clipped[weight[1]] += 1
        if weight is not None:
            new = dut.updated.value.to_signed(), bool(dut.saturated.value)
            assert new == weight, f"cycle {cycle()}: expected weight, clipped {weight}, actual {new} after {updating}"
        before = [(operation, g), *before[:-1]]
    return clipped


def at_limits(low: int, high: int) -> int:
    """One of the limits, next to them, around 0, or anything."""
    return random.choice((low, high, min(low + 1, high), max(high - 1, low), 0, 1, random.randint(low, high)))


def any_error(plan: LayerPlan) -> int:
    limit = 1 << plan.scaled_error_width - 1
    return at_limits(-limit, limit - 1)


def any_weight(plan: LayerPlan) -> int:
    return at_limits(plan.weight_format.min, plan.weight_format.max)


def any_operation(plan: LayerPlan, **changes: Any) -> Operation:
    given = {
        "x": at_limits(plan.input_format.min, plan.input_format.max),
        "weight": any_weight(plan),
        "g": random.choice((None, any_error(plan))),
        "noise": at_limits(0, (1 << plan.noise_bits) - 1),
    }
    return Operation(**(given | changes))


@cocotb.test()
async def both_phases_in_any_order(dut: Any) -> None:
    """Sums of up to a whole fan-in, updates, the host's fetches and shifts, and none of them, back to back."""
    plan = parameters()
    operations = []
    terms = plan.inputs
    for _ in range(3000):
        kind = random.choices(("learn", "add", "fetch", "shift", "nothing"), (4, 5, 1, 1, 1))[0]
        # A sum has at most as many terms as there are inputs: more need not fit.
        first = terms == plan.inputs or random.random() < 1 / plan.fan_in
        if kind == "add":
            terms = 1 if first else terms + 1
        changes: dict[str, Any] = {"first": first}
        if kind == "fetch":
            changes |= {"x": 0, "fetch": True}
        elif kind == "shift":
            # Even where there is an update.
            changes |= {"shift": any_weight(plan), "learn": random.random() < 0.5}
        elif kind != "nothing":
            changes |= {kind: True}
        operations.append(any_operation(plan, **changes))
    await run(dut, plan, operations)


@cocotb.test()
async def sums_reach_their_limits(dut: Any) -> None:
    """Every input and every weight at its largest magnitude, on top of the half: what the width is made for."""
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
    ("plan", "target"),
    [
        pytest.param(layer(), GENERIC, id="defaults"),
        # Their multipliers are primitives.
        pytest.param(layer(), ECP5, id="ecp5"),
        pytest.param(layer(), ICE40UP, id="ice40up"),
        pytest.param(
            layer(inputs=40, weight=QFormat(16, 14, signed=True), noise_bits=16, error_bits=8), GENERIC, id="wide"
        ),
        pytest.param(
            layer(inputs=3, weight=QFormat(2, 1, signed=True), error_bits=2, noise_bits=1, rate_shift=0),
            GENERIC,
            id="narrow",
        ),
        pytest.param(layer(input=InputSpec(12, 8, 7, signed=True)), ECP5, id="signed, ecp5"),
        pytest.param(layer(input=InputSpec(12, 8, 7, signed=True)), ICE40UP, id="signed, ice40up"),
        # All products are below a weight's unit, and only with noise do they make changes.
        pytest.param(layer(rate_shift=17, noise_bits=16), GENERIC, id="shift 21"),
        pytest.param(layer(weight=QFormat(16, 14, signed=True), rate_shift=0), GENERIC, id="shift 1"),
        # Sums of whole activations: there is no half.
        pytest.param(layer(weight=QFormat(4, 0, signed=True), activation=QFormat(8, 8)), GENERIC, id="no rounding"),
    ],
)
def test_lane(bench: Bench, plan: LayerPlan, target: Target) -> None:
    lane = Lane(plan, target)
    bench(lane, plan, primitive_models(target) + to_verilog(lane))
