"""A bank of a convolution's lanes, which know where each channel learns, and by what error."""

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import data

from locallearn.quant.conv_plan import ConvPlan
from locallearn.rtl.bank import Bank, common_control
from locallearn.rtl.lanes import ConvLane
from locallearn.rtl.memory import words_memory
from locallearn.rtl.target import Target

__all__ = ["ConvBank", "conv_control_layout"]


def conv_control_layout(plan: ConvPlan) -> data.StructLayout:
    """What a bank is told beyond `bank.common_control`.

    half, empty    see `ConvLane`
    error_at, winner_at
                   where the place is that is learned from, 4 cycles before the operands are at the lanes
    place          which of its pool's places it is, a cycle before that
    load_g, g_lane, g_at, next_g
                   the scaled error of a lane at a cell
    keep, kept_lane, kept_at, kept
                   of an output of the lane: the place that won, and above it whether there is an activation; lanes
                   come in order
    ends           it is the last of its group: the lanes after it have no channel
    """
    error_at, winner_at = data.StructLayout(plan.error_address), data.StructLayout(plan.winner_address)
    return data.StructLayout(
        common_control(plan)
        | {
            "half": 1,
            "empty": 1,
            "error_at": error_at,
            "winner_at": winner_at,
            "place": plan.winner_bits - 1,
            "load_g": 1,
            "g_lane": range(plan.lanes),
            "g_at": error_at,
            "next_g": signed(plan.scaled_error_width),
            "keep": 1,
            "kept_lane": range(plan.lanes),
            "kept_at": winner_at,
            "kept": plan.winner_bits,
            "ends": 1,
        }
    )


class ConvBank(Bank):
    """Of a convolution; for `control` see `conv_control_layout`."""

    _plan: ConvPlan

    def __init__(self, plan: ConvPlan, target: Target, lanes: range) -> None:
        super().__init__(plan, target, lanes, conv_control_layout(plan))

    def _make_lanes(self, m: Module) -> dict[int, ConvLane]:
        p, control, count = self._plan, self.control, len(self._lanes)
        cells, pixels = (1 << sum(address.values()) for address in (p.error_address, p.winner_address))
        m.submodules.winners = winners = words_memory(self._target, count * p.winner_bits, pixels)
        # A word is gathered until its last lane has come, and written in the next cycle. Lanes without a channel keep
        # what the group before had there: they have no errors.
        gathered = Signal(data.ArrayLayout(p.winner_bits, count))
        m.d.comb += winners.write_data.eq(gathered)
        last = control.kept_lane == self._lanes[-1]
        m.d.sync += [
            winners.write.eq(control.keep & (last | (control.ends & (control.kept_lane < self._lanes.stop)))),
            winners.write_address.eq(control.kept_at),
            winners.address.eq(control.winner_at),
        ]
        loaded_at, loaded = Signal(data.StructLayout(p.error_address)), Signal(signed(p.scaled_error_width))
        m.d.sync += [loaded_at.eq(control.g_at), loaded.eq(control.next_g)]
        lanes = {}
        for i, number in enumerate(self._lanes):
            lanes[number] = lane = ConvLane(p, self._target)
            with m.If(control.keep & (control.kept_lane == number)):
                m.d.sync += gathered[i].eq(control.kept)
            m.submodules[f"errors_{number}"] = errors = words_memory(self._target, p.scaled_error_width, cells)
            winner = winners.data[i * p.winner_bits : (i + 1) * p.winner_bits]
            learns: Value = winner[-1]
            if p.conv.pool > 1:
                learns &= winner[:-1] == control.place
            m.d.sync += [
                errors.address.eq(control.error_at),
                errors.write.eq(control.load_g & (control.g_lane == number)),
                lane.g.eq(Mux(learns, errors.data, 0)),
            ]
            m.d.comb += [
                errors.write_address.eq(loaded_at),
                errors.write_data.eq(loaded),
                lane.half.eq(control.half),
                lane.empty.eq(control.empty),
            ]
        return lanes
