"""A bank of lanes with its part of the weight memory. Banks form a systolic chain."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan, lane_rotation
from locallearn.quant.lfsr import STATE_BITS
from locallearn.rtl.arithmetic import popcount
from locallearn.rtl.lanes import Lane
from locallearn.rtl.memory import BlockMemory, SinglePortMemory
from locallearn.rtl.target import Target

__all__ = ["LaneBank", "control_layout"]


def control_layout(plan: LayerPlan) -> data.StructLayout:
    """What a bank is told in a cycle; the next bank is told the same in the next cycle.

    row        weights to read: they are at the lanes 3 cycles later
    update, write_row
               where `updated` is written in the next cycle
    next_g, g_lane, load_g
               the scaled error of one lane, for its next neuron
    shift      every lane takes the `updated` weight of the lane after it; at most every second cycle
    sum        the accumulators are complete
    others     see `Lane`; the noise is the whole word
    """
    row = range(plan.weight_rows)
    return data.StructLayout(
        {
            "row": row,
            "x": plan.input_format.bits,
            "learn": 1,
            "next_g": signed(plan.scaled_error_width),
            "g_lane": range(plan.lanes),
            "load_g": 1,
            "take_g": 1,
            "add": 1,
            "first": 1,
            "round": 1,
            "noise": STATE_BITS,
            "subtract": 1,
            "update": 1,
            "write_row": row,
            "shift": 1,
            "sum": 1,
        }
    )


class LaneBank(wiring.Component):
    """Lanes `lanes` of a layer and their columns of the weight memory.

    control          see `control_layout`
    accumulators     of all lanes
    neighbour        `updated` of the first lane of the next bank, or the host's data after the last
    updated          of the first lane
    saturated_before clipped weights in the row that the banks before this one have counted
    saturated        the same with this bank's, 3 cycles after `update`
    """

    def __init__(self, plan: LayerPlan, target: Target, lanes: range) -> None:
        self._plan = plan
        self._target = target
        self._lanes = lanes
        weight = signed(plan.weight_format.bits)
        super().__init__(
            {
                "control": In(control_layout(plan)),
                "accumulators": Out(signed(plan.accumulator_bits)).array(len(lanes)),
                "neighbour": In(weight),
                "updated": Out(weight),
                "saturated_before": In(range(lanes.start + 1)),
                "saturated": Out(range(lanes.stop + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, control = self._plan, self.control
        bits = p.weight_format.bits
        kind = SinglePortMemory if self._target.single_port_weights else BlockMemory
        m.submodules.memory = memory = kind(self._target, len(self._lanes) * bits, p.weight_rows)
        lanes = [Lane(p, self._target) for _ in self._lanes]
        # The blocks of the memory lie wherever there are some: a register on the way to them.
        update = Signal()
        m.d.sync += [
            memory.address.eq(control.row),
            memory.write_address.eq(control.write_row),
            update.eq(control.update),
        ]
        m.d.comb += [
            memory.write.eq(update),
            memory.write_data.eq(Cat(lane.updated for lane in lanes)),
            self.updated.eq(lanes[0].updated),
        ]
        neighbours = [*(lane.updated for lane in lanes[1:]), self.neighbour]
        for i, (number, lane, neighbour) in enumerate(zip(self._lanes, lanes, neighbours, strict=True)):
            m.submodules[f"lane_{number}"] = lane
            m.d.comb += [
                lane.weight.eq(memory.data[i * bits : (i + 1) * bits]),
                lane.load_g.eq(control.load_g & (control.g_lane == number)),
                lane.noise.eq(control.noise.rotate_right(lane_rotation(number))),
                lane.neighbour.eq(neighbour),
                self.accumulators[i].eq(lane.accumulator),
            ]
            for name in ("x", "learn", "next_g", "take_g", "add", "first", "round", "subtract", "shift"):
                m.d.comb += getattr(lane, name).eq(getattr(control, name))
        clipped = Signal(range(len(lanes) + 1))
        m.d.sync += [
            clipped.eq(Mux(update, popcount(Cat(lane.saturated for lane in lanes)), 0)),
            self.saturated.eq(self.saturated_before + clipped),
        ]
        return m
