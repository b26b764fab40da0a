"""The banks of a layer, joined as in it."""

from collections.abc import Sequence
from itertools import pairwise

from amaranth import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.bank import Bank

__all__ = ["Chain"]


class Chain(wiring.Component):
    """All banks of a layer; each is told a cycle later than the one before."""

    def __init__(self, plan: LayerPlan, banks: Sequence[Bank], control: data.StructLayout) -> None:
        weight = signed(plan.weight_format.bits)
        self._banks = banks
        self._layout = control
        super().__init__(
            {
                "control": In(self._layout),
                "accumulators": Out(signed(plan.accumulator_bits)).array(plan.lanes),
                "neighbour": In(weight),
                "updated": Out(weight),
                "saturated": Out(range(plan.lanes + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control
        for number, bank in enumerate(self._banks):
            m.submodules[f"bank_{number}"] = bank
            m.d.comb += bank.control.eq(control)
            late = Signal(self._layout, name=f"control_{number + 1}")
            m.d.sync += late.eq(control)
            control = late
        for bank, following in pairwise(self._banks):
            m.d.comb += [bank.neighbour.eq(following.updated), following.saturated_before.eq(bank.saturated)]
        sums = [sum for bank in self._banks for sum in bank.accumulators]
        m.d.comb += [
            self._banks[-1].neighbour.eq(self.neighbour),
            self.updated.eq(self._banks[0].updated),
            self.saturated.eq(self._banks[-1].saturated),
            *(port.eq(sum) for port, sum in zip(self.accumulators, sums, strict=True)),
        ]
        return m
