"""One lane: a multiplier that serves both phases, an accumulator, and a saturating stochastic update."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.plan import LayerPlan
from locallearn.rtl.arithmetic import clamp

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Forward: accumulator += weight x. Learn: updated = saturate(weight - ((x g + noise) >> update_shift)).

    Cycle 0 takes the operands, cycle 1 multiplies, cycle 2 accumulates or makes the change, so that in cycle 3
    `accumulator` includes this input; cycle 3 subtracts, so that in cycle 4 `updated` and `saturated` are valid.

    x, weight   operands, in cycle 0
    learn       chooses g instead of the weight as the multiplier's other operand, in cycle 0
    g           the neuron's scaled error, in cycle 0
    add, first  accumulate this product; start a new sum with it; both in cycle 2
    round       make the change from this product, in cycle 2
    noise       the layer's noise word as this lane sees it, noise_bits wide, in cycle 2
    subtract    make the new weight, in cycle 3
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        weight = signed(plan.weight_format.bits)
        super().__init__(
            {
                "x": In(plan.input_format.bits),
                "weight": In(weight),
                "learn": In(1),
                "g": In(signed(plan.scaled_error_width)),
                "add": In(1),
                "first": In(1),
                "round": In(1),
                "noise": In(plan.noise_bits),
                "subtract": In(1),
                "accumulator": Out(signed(plan.accumulator_bits)),
                "updated": Out(weight),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        width = max(p.weight_format.bits, p.scaled_error_width)

        x = Signal(p.input_format.bits, reset_less=True)
        other = Signal(signed(width), reset_less=True)
        product = Signal(signed(p.input_format.bits + width), reset_less=True)
        m.d.sync += [
            x.eq(self.x),
            other.eq(Mux(self.learn, self.g, self.weight)),
            product.eq(x * other),
        ]
        # The weight keeps step with the product of its own update.
        delayed = [Signal(signed(p.weight_format.bits), reset_less=True, name=f"weight_{i}") for i in range(3)]
        m.d.sync += [late.eq(early) for early, late in zip([self.weight, *delayed], delayed, strict=False)]

        with m.If(self.add):
            m.d.sync += self.accumulator.eq(Mux(self.first, 0, self.accumulator) + product)

        spare = p.update_shift - p.noise_bits
        noise = (self.noise << spare) + (1 << spare >> 1)
        # Rounding up can make a change of 1 from a product however small.
        change = Signal(signed(max(2, len(product) + 1 - p.update_shift)), reset_less=True)
        exact = Signal(signed(max(len(change), p.weight_format.bits) + 1))
        m.d.comb += exact.eq(delayed[2] - change)
        # Forward passes leave the update's registers alone: less power, and much less for a simulator to do.
        with m.If(self.round):
            m.d.sync += change.eq((product + noise) >> p.update_shift)
        with m.If(self.subtract):
            m.d.sync += [
                self.updated.eq(clamp(exact, p.weight_format)),
                self.saturated.eq((exact > p.weight_format.max) | (exact < p.weight_format.min)),
            ]
        return m
