"""What a convolution's classifier sees: the averages over cells of the output, gathered while it passes."""

from itertools import pairwise

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.conv_plan import ConvPlan
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.memory import BlockMemory
from locallearn.rtl.pool import pooled_layout
from locallearn.rtl.target import Target

__all__ = ["FeatureUnit"]

_LATENCY = 3
"""From an output to its sum's place: a register and the memory."""


class FeatureUnit(wiring.Component):
    """Adds outputs up, cell by cell; then gives the averages in order, one a cycle, rounded halves up.

    pooled, take  an output where `take` is high; of one channel at most every 4 cycles
    start         give them; 4 cycles after the last output at the earliest
    o, valid      an average; active where any of its cell's outputs is not 0

    A cell that does not divide a power of two has somewhat less than its average, see `ConvPlan.cell_shift`.
    """

    def __init__(self, plan: ConvPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        super().__init__(
            {
                "pooled": In(pooled_layout(plan)),
                "take": In(1),
                "start": In(1),
                "o": Out(activation_layout(plan)),
                "valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        (rows, columns, channels), (down, across) = p.feature_map, p.cell
        sum_bits = p.output_format.bits + p.cell_shift
        row_bits, column_bits, channel_bits = ((n - 1).bit_length() for n in (rows, columns, channels))
        depth = 1 << row_bits + column_bits + channel_bits
        m.submodules.sums = sums = BlockMemory(self._target, sum_bits, depth)

        # Where an output belongs, and whether it is its cell's first.
        def table(size: int, cell: int, bits: int) -> tuple[Array[Const], Array[Const]]:
            return (
                Array(Const(i // cell, bits) for i in range(size)),
                Array(Const(int(i % cell == 0), 1) for i in range(size)),
            )

        cell_row, row_begins = table(p.output_map[0], down, row_bits)
        cell_column, column_begins = table(p.output_map[1], across, column_bits)
        address, walked = Signal(range(depth)), Signal(range(depth))
        m.d.comb += address.eq(Cat(self.pooled.channel, cell_column[self.pooled.column], cell_row[self.pooled.row]))
        begins = row_begins[self.pooled.row] & column_begins[self.pooled.column]

        # The walk over all, in order.
        row, column, channel = Signal(range(rows)), Signal(range(columns)), Signal(range(channels))
        index, walking, last = Signal(range(p.features)), Signal(), Signal()
        m.d.comb += [walked.eq(Cat(channel, column, row)), last.eq(index == p.features - 1)]
        with m.If(self.start):
            m.d.sync += walking.eq(1)
        with m.If(walking):
            m.d.sync += [index.eq(index + 1), channel.eq(channel + 1)]
            with m.If(channel == channels - 1):
                m.d.sync += [channel.eq(0), column.eq(column + 1)]
                with m.If(column == columns - 1):
                    m.d.sync += [column.eq(0), row.eq(row + 1)]
            with m.If(last):
                m.d.sync += [index.eq(0), row.eq(0), walking.eq(0)]

        stages = [
            (
                Signal(range(depth), name=f"address_{i}"),
                Signal(p.output_format.bits, name=f"value_{i}"),
                Signal(name=f"begins_{i}"),
                Signal(name=f"taken_{i}"),
                Signal(range(p.features), name=f"index_{i}"),
                Signal(name=f"walked_{i}"),
            )
            for i in range(_LATENCY)
        ]
        given = (Mux(walking, walked, address), self.pooled.value, begins, self.take, index, walking)
        m.d.sync += [stage.eq(value) for stage, value in zip(stages[0], given, strict=True)]
        for early, late in pairwise(stages):
            m.d.sync += [stage.eq(before) for stage, before in zip(late, early, strict=True)]
        at, value, first, taken, number, shown = stages[-1]
        sum = Signal(sum_bits)
        m.d.comb += [
            sums.address.eq(stages[0][0]),
            sum.eq(sums.data),
            sums.write.eq(taken),
            sums.write_address.eq(at),
            sums.write_data.eq(Mux(first, 0, sum) + value),
        ]
        average = (sum + (1 << p.cell_shift >> 1)) >> p.cell_shift
        m.d.sync += [
            self.valid.eq(shown),
            self.o.index.eq(number),
            self.o.value.eq(average),
            self.o.active.eq(sum.any()),
            self.o.first.eq(number == 0),
            self.o.last.eq(number == p.features - 1),
        ]
        return m
