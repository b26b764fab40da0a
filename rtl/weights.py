"""The weight memory of a layer: one block a lane, read and written side by side, and by the host lane by lane."""

from amaranth import Array, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from locallearn.quant.plan import LayerPlan

__all__ = ["WeightMemory"]


class WeightMemory(wiring.Component):
    """`weight_rows` rows of one weight a lane. Latency 1 cycle; a read and a write a cycle.

    row, weights      read: the weights of `row` are there in the next cycle
    update, write_row, updated
                      write all lanes of a row. A row must not be read in the cycle that it is written in
    host_row, host_lane, host_write, host_data, host_weight
                      the host's way in, only while nothing else reads or writes; latency 2 cycles
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        weight = signed(plan.weight_format.bits)
        rows = range(plan.weight_rows)
        super().__init__(
            {
                "row": In(rows),
                "weights": Out(weight).array(plan.lanes),
                "update": In(1),
                "write_row": In(rows),
                "updated": In(weight).array(plan.lanes),
                "host": In(1),
                "host_row": In(rows),
                "host_lane": In(range(plan.lanes)),
                "host_write": In(1),
                "host_data": In(weight),
                "host_weight": Out(weight),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        for lane in range(p.lanes):
            m.submodules[f"lane_{lane}"] = memory = Memory(
                shape=signed(p.weight_format.bits), depth=p.weight_rows, init=[]
            )
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.addr.eq(Mux(self.host, self.host_row, self.row)),
                self.weights[lane].eq(read.data),
                write.addr.eq(Mux(self.host, self.host_row, self.write_row)),
                write.data.eq(Mux(self.host, self.host_data, self.updated[lane])),
                write.en.eq(self.update | (self.host_write & (self.host_lane == lane))),
            ]
        with m.If(self.host):
            m.d.sync += self.host_weight.eq(Array(self.weights)[self.host_lane])
        return m
