"""Lanes: a multiplier that serves both phases, an accumulator, and a saturating stochastic update."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.arithmetic import clamp
from locallearn.rtl.multiplier import Multiplier
from locallearn.rtl.target import Target

__all__ = ["ConvLane", "Lane"]


class Lane(wiring.Component):
    """Of a dense layer. Forward: accumulator += weight x.
    Learn: updated = saturate(weight - ((x g + noise) >> update_shift)).

    Cycle 0 takes the weight, cycle 4 has its product and accumulates it or makes the change, so that in cycle 5
    `accumulator` includes this input; cycle 5 subtracts and cycle 6 saturates, so that in cycle 7 `updated` and
    `saturated` are valid.

    weight      in cycle 0
    learn       chooses g instead of the weight as the multiplier's operand, in cycle 0
    x           the other operand, in cycle 1
    next_g, load_g, take_g
                the scaled error of the neuron that is learned from next, loaded while the one before is in use;
                taken in the cycle before its first operand
    add, first  accumulate this product; start a new sum with it; both in cycle 4
    round       make the change from this product, in cycle 4
    noise       the layer's noise word as this lane sees it, noise_bits wide, in cycle 4
    subtract    make the new weight, in cycle 5
    shift, neighbour
                take the neighbour's weight as `updated` instead: the host's way from lane to lane
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        super().__init__(
            _common_members(plan)
            | {
                "next_g": In(signed(plan.scaled_error_width)),
                "load_g": In(1),
                "take_g": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        next_g, g = (Signal(signed(p.scaled_error_width), name=n, reset_less=True) for n in ("next_g", "g"))
        with m.If(self.load_g):
            m.d.sync += next_g.eq(self.next_g)
        with m.If(self.take_g):
            m.d.sync += g.eq(next_g)

        product = _multiply(m, p, self._target, self, g)

        # The sum starts with half a unit of the activation that it becomes: rounding costs nothing later.
        half = 1 << p.requantise_shift >> 1
        total = Signal(signed(p.accumulator_bits), reset_less=True)
        with m.If(self.add):
            m.d.sync += total.eq(Mux(self.first, half, total) + product)
        m.d.comb += self.accumulator.eq(total)
        _update(m, p, self, product[: p.input_format.bits + p.scaled_error_width].as_signed())
        return m


class ConvLane(wiring.Component):
    """Of a convolution. Forward: accumulator += weight x, over a window. Learn: the same with g x over all places, then
    updated = saturate(weight - ((accumulator + noise) >> update_shift)).

    Cycles as those of `Lane`; what follows a sum in the next cycle is a new one, or what is made of it.

    g           the scaled error where the lane's channel learns at the place of x, else 0; in cycle 0
    add, first, half
                accumulate this product; start a new sum with it; with half a unit of the activation; all in cycle 4
    round, empty
                make the change from the sum until now, or from 0; both in cycle 4
    and the others as those of `Lane`; the weight that is updated is that of the cycle 0 of its `round`.
    """

    def __init__(self, plan: ConvPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        super().__init__(
            _common_members(plan)
            | {
                "g": In(signed(plan.scaled_error_width)),
                "half": In(1),
                "empty": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        product = _multiply(m, p, self._target, self, self.g)

        total = Signal(signed(p.sum_bits), reset_less=True)
        begin = self.half << p.requantise_shift >> 1
        with m.If(self.add):
            m.d.sync += total.eq(Mux(self.first, begin, total) + product)
        m.d.comb += self.accumulator.eq(total)
        _update(m, p, self, Mux(self.empty, 0, total))
        return m


def _common_members(plan: LayerPlan) -> dict[str, Member]:
    """Of any lane."""
    weight = signed(plan.weight_format.bits)
    return {
        "weight": In(weight),
        "learn": In(1),
        "x": In(Shape(plan.input_format.bits, signed=plan.input_format.signed)),
        "add": In(1),
        "first": In(1),
        "round": In(1),
        "noise": In(plan.noise_bits),
        "subtract": In(1),
        "shift": In(1),
        "neighbour": In(weight),
        "accumulator": Out(signed(plan.accumulator_bits)),
        "updated": Out(weight),
        "saturated": Out(1),
    }


def _multiply(m: Module, plan: LayerPlan, target: Target, lane: Any, g: Value) -> Signal:
    """Cycles 0 to 4: the product of x and the weight, or g where it is to learn."""
    wide = Shape(max(plan.weight_format.bits, plan.scaled_error_width), signed=True)
    m.submodules.multiplier = multiplier = Multiplier(target, lane.x.shape(), wide)
    operand = Signal(wide, reset_less=True)
    m.d.sync += operand.eq(Mux(lane.learn, g, lane.weight))
    m.d.comb += [multiplier.a.eq(lane.x), multiplier.b.eq(operand)]
    product: Signal = multiplier.product
    return product


def _update(m: Module, plan: LayerPlan, lane: Any, learned: Value) -> None:
    """Cycles 4 to 7: the weight after what is learned, signed, in units 2^update_shift times as small."""
    # The weight keeps step with what it is updated by.
    delayed = [Signal(signed(plan.weight_format.bits), reset_less=True, name=f"weight_{i}") for i in range(5)]
    m.d.sync += [late.eq(early) for early, late in zip([lane.weight, *delayed], delayed, strict=False)]
    spare = plan.update_shift - plan.noise_bits
    noise = Cat(Const(1 << spare >> 1, spare), lane.noise)
    # Rounding up can make a change of 1 from a product however small.
    change = Signal(signed(max(2, len(learned) + 1 - plan.update_shift)), reset_less=True)
    exact = Signal(signed(max(len(change), plan.weight_format.bits) + 1), reset_less=True)
    new, clipped = clamp(exact, plan.weight_format)
    saturate = Signal()
    m.d.sync += saturate.eq(lane.subtract)
    # Forward passes leave the update's registers alone: less power, and much less for a simulator to do.
    with m.If(lane.round):
        m.d.sync += change.eq((learned + noise) >> plan.update_shift)
    with m.If(lane.subtract):
        m.d.sync += exact.eq(delayed[-1] - change)
    with m.If(saturate):
        m.d.sync += [lane.updated.eq(new), lane.saturated.eq(clipped)]
    with m.If(lane.shift):
        m.d.sync += [lane.updated.eq(lane.neighbour), lane.saturated.eq(0)]
