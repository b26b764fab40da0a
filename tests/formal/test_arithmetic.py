"""Requantising and updating are what they should be, in integers as wide as it takes."""

from pathlib import Path

import pytest
from amaranth import Mux, Signal, Value, signed

from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.lanes import Lane
from locallearn.rtl.readout import Readout
from locallearn.rtl.target import GENERIC
from tests.formal.prove import Claims, prove
from tests.rtl.plans import layer


def nearest(value: Value, form: QFormat) -> Value:
    """The number of the format that is nearest to an integer."""
    return Mux(value < form.min, form.min, Mux(value > form.max, form.max, value))


def floor(value: Value, shift: int) -> Value:
    """value / 2^shift, rounded down."""
    return value >> shift


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(2, 1), id="defaults"),
        pytest.param(layer(2, 1, inputs=1), id="sums_narrower_than_activations"),
        pytest.param(layer(2, 1, activation=QFormat(1, 1)), id="one_bit"),
        pytest.param(layer(2, 1, weight=QFormat(2, 0, signed=True), activation=QFormat(8, 8)), id="no_shift"),
        pytest.param(layer(2, 1, inputs=784, weight=QFormat(16, 16, signed=True)), id="wide"),
    ],
)
def test_requantise(plan: LayerPlan, tmp_path: Path) -> None:
    """Sums to activations, for all sums; the first 12 cycles, in which more than one passes, with any pauses."""

    def state(claims: Claims) -> None:
        m, readout = claims.m, claims.dut
        # One sum at a time is under way: half a unit is added already.
        sum = Signal.like(readout.accumulators[0])
        under_way = Signal()
        taken = readout.o.valid & readout.o.ready
        with m.If(readout.load[0]):
            m.d.sync += [sum.eq(readout.accumulators[0]), under_way.eq(1)]
        with m.Elif(taken):
            m.d.sync += under_way.eq(0)
        claims.assume(~(under_way & readout.load[0]) & ~readout.flush)

        value = readout.o.payload.value
        expected = nearest(floor(sum, plan.requantise_shift), plan.output_format)
        claims.require("under_way", ~readout.o.valid | under_way)
        claims.require("value", ~readout.o.valid | (value == expected))
        claims.require("active", ~readout.o.valid | (readout.o.payload.active == (value != 0)))
        most = min(plan.output_format.max, (1 << plan.accumulator_bits - 1) - 1 >> plan.requantise_shift)
        for name, example in {"nothing": 0, "something": 1, "the_most": most}.items():
            claims.reach(name, taken & (value == example) & readout.o.payload.last)

    prove(Readout(plan, plan.neurons), state, tmp_path, 12, inductive=False)


_LAYERS = pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(), id="defaults"),
        pytest.param(layer(weight=QFormat(16, 14, signed=True), noise_bits=16, error_bits=8), id="wide"),
        pytest.param(layer(weight=QFormat(2, 1, signed=True), error_bits=2, noise_bits=1, rate_shift=0), id="narrow"),
        pytest.param(layer(rate_shift=17, noise_bits=16), id="shift_21"),
    ],
)


@_LAYERS
def test_update(plan: LayerPlan, tmp_path: Path) -> None:
    """W = saturate(W - floor((x g + noise) / 2^shift)), for all operands; unbounded."""

    def state(claims: Claims) -> None:
        m, lane = claims.m, claims.dut
        past = claims.past
        # The neuron's scaled error, once one has been loaded and taken.
        next_g, g = Signal.like(lane.next_g), Signal.like(lane.next_g)
        loaded, known = Signal(), Signal()
        with m.If(lane.load_g):
            m.d.sync += [next_g.eq(lane.next_g), loaded.eq(1)]
        with m.If(lane.take_g):
            m.d.sync += [g.eq(next_g), known.eq(loaded)]
        claims.require("next_g", ~loaded | (claims.local(lane, "next_g") == next_g))
        claims.require("g", ~known | (claims.local(lane, "g") == g))

        # Any product, as far as its operands allow; what the multiplier makes of them is for simulation to test.
        multiplier = claims.part(lane, "multiplier")
        claims.cut(multiplier)
        claims.require("a", multiplier.a == lane.x)
        # In the first cycle after the reset nothing is known of the one before.
        begun = past(lane.shift | 1)
        operand = Mux(past(lane.learn), past(g), past(lane.weight))
        claims.require("b", ~begun | past(lane.learn & ~known) | (multiplier.b == operand))

        fits = multiplier.product == multiplier.product[: len(lane.x) + len(g)].as_signed()
        claims.assume(~past(lane.learn, 4) | fits)

        whole = past(lane.learn & known, 7) & past(lane.round, 3) & past(lane.subtract, 2) & ~past(lane.shift)
        spare = plan.update_shift - plan.noise_bits
        noise = (past(lane.noise, 3) << spare) + (1 << spare >> 1)
        exact = past(lane.weight, 7) - floor(past(multiplier.product, 3) + noise, plan.update_shift)
        expected = nearest(exact, plan.weight_format)
        claims.require("updated", ~whole | (lane.updated == expected))
        claims.require("saturated", ~whole | (lane.saturated == (exact != expected)))
        moved = past(lane.shift)
        claims.require("shifted", ~moved | ((lane.updated == past(lane.neighbour)) & ~lane.saturated))
        kept = ~moved & ~past(lane.subtract, 2) & past(past(lane.subtract | lane.shift) | 1)
        claims.require("kept", ~kept | (lane.updated == past(lane.updated)))
        for name, limit in {"lowest": plan.weight_format.min, "highest": plan.weight_format.max}.items():
            claims.reach(name, whole & lane.saturated & (lane.updated == limit))
        claims.reach("within", whole & ~lane.saturated & (lane.updated != past(lane.weight, 7)))

    prove(Lane(plan, GENERIC), state, tmp_path, 9)


@_LAYERS
def test_accumulate(plan: LayerPlan, tmp_path: Path) -> None:
    """Half a unit and the products, and whatever they are, the sum never overflows; unbounded."""

    def state(claims: Claims) -> None:
        m, lane = claims.m, claims.dut
        multiplier = claims.part(lane, "multiplier")
        claims.cut(multiplier)
        product = multiplier.product
        # A sample has at most an event for every input, and the bias.
        bias = claims.anything(1)
        largest = Mux(bias, plan.input_format.half, plan.input_format.max)
        claims.assume((product >= plan.weight_format.min * largest) & (product <= plan.weight_format.max * largest))
        inputs, biases = Signal(range(plan.inputs + 1)), Signal()
        claims.assume(~lane.add | lane.first | Mux(bias, ~biases, inputs != plan.inputs))

        half = 1 << plan.requantise_shift >> 1
        # Wider than need be.
        total, begun = Signal(signed(plan.accumulator_bits + 8)), Signal()
        with m.If(lane.add):
            m.d.sync += [
                total.eq(Mux(lane.first, half, total) + product),
                inputs.eq(Mux(lane.first, 0, inputs) + ~bias),
                biases.eq(Mux(lane.first, 0, biases) | bias),
                begun.eq(begun | lane.first),
            ]
        claims.require("inputs", inputs <= plan.inputs)
        weight = inputs * plan.input_format.max + biases * plan.input_format.half
        claims.require("low", ~begun | (total >= plan.weight_format.min * weight + half))
        claims.require("high", ~begun | (total <= plan.weight_format.max * weight + half))
        claims.require("sum", ~begun | (lane.accumulator == total))
        most = plan.inputs * plan.input_format.max + plan.input_format.half
        for name, limit in {"lowest": plan.weight_format.min, "highest": plan.weight_format.max}.items():
            claims.reach(name, begun & (lane.accumulator == limit * most + half))

    prove(Lane(plan, GENERIC), state, tmp_path, reach=plan.fan_in + 2)
