"""Max pooling: of the activations that lanes give for the places of a pool one after another, the largest goes on."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.conv_plan import ConvPlan
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.memory import small_memory
from locallearn.rtl.target import Target

__all__ = ["PoolUnit", "pooled_layout"]


def pooled_layout(plan: ConvPlan) -> data.StructLayout:
    """An output of the layer: an activation, `active` where it is not 0.

    index          output number
    row, column, channel
                   of the map
    group, lane    of the channel; `ends` the group's last
    winner         the place of the pool that it comes from
    last           of the sample
    """
    rows, columns, channels = plan.output_map
    return data.StructLayout(
        {
            "index": range(plan.outputs),
            "row": (rows - 1).bit_length(),
            "column": (columns - 1).bit_length(),
            "channel": (channels - 1).bit_length(),
            "group": (plan.groups - 1).bit_length(),
            "lane": range(plan.lanes),
            "value": plan.output_format.bits,
            "winner": plan.winner_bits - 1,
            "active": 1,
            "ends": 1,
            "last": 1,
        }
    )


class PoolUnit(wiring.Component):
    """Counts what comes: lane by lane, place by place of a pool, group by group, column by column, row by row.

    i  activations of all lanes, those without a channel too; `index` is the lane
    o  outputs in order, a cycle later; of equals the first place wins
    """

    def __init__(self, plan: ConvPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        super().__init__(
            {
                "i": In(stream.Signature(activation_layout(plan))),
                "o": Out(stream.Signature(pooled_layout(plan))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        rows, columns, channels = p.output_map
        places, value_bits = p.conv.pool**2, p.output_format.bits
        m.submodules.best = best = small_memory(self._target, value_bits + p.winner_bits - 1, p.lanes)
        read, write = best.read_port(), best.write_port()

        # What came, and the best of its lane until then.
        came, valid, place = Signal.like(self.i.payload), Signal(), Signal(range(places))
        counted, exists, given = Signal(pooled_layout(p)), Signal(), self.o.payload
        before = data.View(data.StructLayout({"value": value_bits, "winner": p.winner_bits - 1}), read.data)
        better, advance, last_place = Signal(), Signal(), Signal()
        m.d.comb += [
            last_place.eq(place == places - 1),
            exists.eq((counted.group != p.groups - 1) | (came.index < channels - (p.groups - 1) * p.lanes)),
            self.o.valid.eq(valid & last_place & exists),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
            read.addr.eq(self.i.payload.index),
            read.en.eq(advance),
            better.eq((place == 0) | (came.value > before.value)),
            given.eq(counted),
            given.lane.eq(came.index),
            given.value.eq(Mux(better, came.value, before.value)),
            given.winner.eq(Mux(better, place, before.winner)),
            given.active.eq(given.value.any()),
            given.ends.eq((came.index == p.lanes - 1) | (counted.channel == channels - 1)),
            given.last.eq(counted.index == p.outputs - 1),
            write.addr.eq(came.index),
            write.data.eq(Cat(given.value, given.winner)),
            write.en.eq(valid & advance),
        ]
        with m.If(advance):
            m.d.sync += [came.eq(self.i.payload), valid.eq(self.i.valid)]
        with m.If(valid & advance & (came.index == p.lanes - 1)):
            m.d.sync += place.eq(Mux(last_place, 0, place + 1))
            with m.If(last_place):
                m.d.sync += counted.group.eq(Mux(counted.group == p.groups - 1, 0, counted.group + 1))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [counted.index.eq(counted.index + 1), counted.channel.eq(counted.channel + 1)]
            with m.If(counted.channel == channels - 1):
                m.d.sync += [counted.channel.eq(0), counted.column.eq(counted.column + 1)]
                with m.If(counted.column == columns - 1):
                    m.d.sync += [counted.column.eq(0), counted.row.eq(counted.row + 1)]
                    with m.If(counted.row == rows - 1):
                        m.d.sync += [counted.row.eq(0), counted.index.eq(0)]
        return m
