"""Banks of lanes with their part of the weight memory. Banks form a systolic chain."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan, lane_rotation
from locallearn.quant.lfsr import STATE_BITS
from locallearn.rtl.arithmetic import popcount
from locallearn.rtl.lanes import Lane
from locallearn.rtl.memory import SinglePortMemory, words_memory
from locallearn.rtl.target import Target

__all__ = ["Bank", "LaneBank", "common_control", "control_layout"]


def common_control(plan: LayerPlan) -> dict[str, Any]:
    """What a bank of any layer is told in a cycle; the next bank is told the same in the next cycle.

    row        weights to read: they are at the lanes 3 cycles later
    update, write_row
               where `updated` is written in the next cycle
    shift      every lane takes the `updated` weight of the lane after it; at most every second cycle
    sum        the accumulators are complete
    others     see `Lane`; the noise is the whole word
    """
    row = range(plan.weight_rows)
    return {
        "row": row,
        "x": plan.input_format.bits,
        "learn": 1,
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


def control_layout(plan: LayerPlan) -> data.StructLayout:
    """The same of a dense layer's.

    next_g, g_lane, load_g
               the scaled error of one lane, for its next neuron
    """
    return data.StructLayout(
        common_control(plan)
        | {
            "next_g": signed(plan.scaled_error_width),
            "g_lane": range(plan.lanes),
            "load_g": 1,
            "take_g": 1,
        }
    )


class Bank(wiring.Component):
    """Lanes `lanes` of a layer and their columns of the weight memory.

    control          of the layout that the subclass has
    accumulators     of all lanes
    neighbour        `updated` of the first lane of the next bank, or the host's data after the last
    updated          of the first lane
    saturated_before clipped weights in the row that the banks before this one have counted
    saturated        the same with this bank's, 3 cycles after `update`
    """

    def __init__(self, plan: LayerPlan, target: Target, lanes: range, control: data.StructLayout) -> None:
        self._plan = plan
        self._target = target
        self._lanes = lanes
        weight = signed(plan.weight_format.bits)
        super().__init__(
            {
                "control": In(control),
                "accumulators": Out(signed(plan.accumulator_bits)).array(len(lanes)),
                "neighbour": In(weight),
                "updated": Out(weight),
                "saturated_before": In(range(lanes.start + 1)),
                "saturated": Out(range(lanes.stop + 1)),
            }
        )

    @abstractmethod
    def _make_lanes(self, m: Module) -> Mapping[int, Any]:
        """The lanes by number, with all that they have from this kind of layer alone."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, control = self._plan, self.control
        bits = p.weight_format.bits
        kind = SinglePortMemory if self._target.single_port_weights else words_memory
        m.submodules.memory = memory = kind(self._target, len(self._lanes) * bits, p.weight_rows)
        lanes = self._make_lanes(m)
        # The blocks of the memory lie wherever there are some: a register on the way to them.
        update = Signal()
        m.d.sync += [
            memory.address.eq(control.row),
            memory.write_address.eq(control.write_row),
            update.eq(control.update),
        ]
        m.d.comb += [
            memory.write.eq(update),
            memory.write_data.eq(Cat(lane.updated for lane in lanes.values())),
            self.updated.eq(lanes[self._lanes[0]].updated),
        ]
        neighbours = [*(lanes[number].updated for number in self._lanes[1:]), self.neighbour]
        for i, ((number, lane), neighbour) in enumerate(zip(lanes.items(), neighbours, strict=True)):
            m.submodules[f"lane_{number}"] = lane
            m.d.comb += [
                lane.weight.eq(memory.data[i * bits : (i + 1) * bits]),
                lane.noise.eq(control.noise.rotate_right(lane_rotation(number))),
                lane.neighbour.eq(neighbour),
                self.accumulators[i].eq(lane.accumulator),
            ]
            for name in ("x", "learn", "add", "first", "round", "subtract", "shift"):
                m.d.comb += getattr(lane, name).eq(getattr(control, name))
        clipped = Signal(range(len(lanes) + 1))
        m.d.sync += [
            clipped.eq(Mux(update, popcount(Cat(lane.saturated for lane in lanes.values())), 0)),
            self.saturated.eq(self.saturated_before + clipped),
        ]
        return m


class LaneBank(Bank):
    """Of a dense layer; for `control` see `control_layout`."""

    def __init__(self, plan: LayerPlan, target: Target, lanes: range) -> None:
        super().__init__(plan, target, lanes, control_layout(plan))

    def _make_lanes(self, m: Module) -> dict[int, Lane]:
        lanes, control = {number: Lane(self._plan, self._target) for number in self._lanes}, self.control
        for number, lane in lanes.items():
            m.d.comb += [
                lane.load_g.eq(control.load_g & (control.g_lane == number)),
                lane.next_g.eq(control.next_g),
                lane.take_g.eq(control.take_g),
            ]
        return lanes
