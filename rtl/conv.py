"""A convolutional layer that learns from its own local classifier.

    i -> map buffer -> sequencer -> banks of lanes with their weights -> readout -> pool -> queue -> o (next layer)
                           ^            ^ errors           ^ winners                         |
                           |            |                  +---------------------------------+
                           |            |                                                 features
                           +------------+---- scaled errors <-- classifier <-----------------+
                                                                    ^-> error unit -> result

One sample is in the lanes and learned from while the next one comes into the map buffer.
"""

from typing import Any

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.registers import LAYER_COUNTERS
from locallearn.rtl.conv_bank import ConvBank, conv_control_layout
from locallearn.rtl.conv_sequencer import ConvSequencer, token_layout
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.features import FeatureUnit
from locallearn.rtl.layer import Layer
from locallearn.rtl.maps import MapBuffer
from locallearn.rtl.pool import PoolUnit, pooled_layout
from locallearn.rtl.readout import Readout
from locallearn.rtl.timing import EVENT, OPERANDS, PRODUCT, ROW, SUM, WRITTEN

__all__ = ["ConvLayer"]

_FEATURES_AFTER = 4
"""From the last output until its cell's sum is whole."""

_SAME_CHANNEL = 4
"""Cycles from an output to the next one of its channel, at least: see `FeatureUnit`."""


class ConvLayer(Layer):
    """Layer `plan.index`. A sample takes a cycle for every input of its windows that is not 0, group by group, and as
    many again where it learns, and one for each of its features and, where it learns, twice that and one for each row
    of weights; to this come some 100 cycles for the judge.
    """

    _plan: ConvPlan

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.buffer = self._buffer = MapBuffer(p, self._target)
        m.submodules.sequencer = self._sequencer = ConvSequencer(p)
        m.submodules.readout = self._readout = Readout(p, p.lanes)
        m.submodules.pool = self._pool = PoolUnit(p, self._target)
        m.submodules.features = self._features = FeatureUnit(p, self._target)
        self._units(m)
        wiring.connect(m, wiring.flipped(self.i), self._buffer.i)
        wiring.connect(m, self._readout.o, self._pool.i)
        control = Signal(conv_control_layout(p))
        saturated = self._pipeline(m, control)
        self._bring_back(m, control)
        learned, counts = self._samples(m, control)
        m.submodules.counters = self._counters = CounterBank(
            LAYER_COUNTERS, counts | {"saturated": saturated}, self._target
        )
        self._host_access(m, {})
        self._work(m, self._buffer.held, learned)
        return m

    def _pipeline(self, m: Module, control: Any) -> Value:
        """Tokens through memory and lanes. Returns how many weights were clipped, a little later."""
        p, buffer, sequencer = self._plan, self._buffer, self._sequencer
        token = [sequencer.token, *(Signal(token_layout(p), name=f"token_{i}") for i in range(1, WRITTEN + 1))]
        valid = [sequencer.issue, *(Signal(name=f"valid_{i}") for i in range(1, WRITTEN + 1))]
        for i in range(1, WRITTEN + 1):
            m.d.sync += [token[i].eq(token[i - 1]), valid[i].eq(valid[i - 1])]
        for name in ("pixel", "columns"):
            m.d.comb += [
                getattr(buffer, f"{name}_at").eq(getattr(sequencer, f"{name}_at")),
                getattr(sequencer, name).eq(getattr(buffer, name)),
            ]
        m.d.comb += buffer.value_at.eq(sequencer.token.value_at)

        # The host's rows take the same way: a weight is updated by nothing.
        fetch, store = self._stage_access(m)

        row = {i: Signal(range(p.weight_rows), name=f"row_{i}") for i in range(ROW, WRITTEN + 1)}
        x = {i: Signal(p.input_format.bits, name=f"x_{i}") for i in range(ROW, OPERANDS + 2)}
        m.d.sync += [
            row[ROW].eq(Mux(self._accessed, self.access.row, token[EVENT].row)),
            x[ROW].eq(Mux(token[EVENT].constant, p.input_format.half, buffer.value)),
            *(row[i].eq(row[i - 1]) for i in range(ROW + 1, WRITTEN + 1)),
            *(x[i].eq(x[i - 1]) for i in range(ROW + 1, OPERANDS + 2)),
        ]

        add = {i: valid[i - 1] & ~token[i - 1].update for i in (PRODUCT, SUM)}
        update = {i: valid[i - 1] & token[i - 1].update for i in range(1, WRITTEN)}
        orders = {
            "add": add[PRODUCT],
            "round": update[PRODUCT] | fetch[PRODUCT - 1],
            "subtract": update[SUM] | fetch[SUM - 1],
            "update": update[WRITTEN - 1] | store[WRITTEN - 2],
            "shift": self._shift,
            "sum": add[SUM] & token[SUM - 1].last,
        }
        self._order(m, control, orders)
        m.d.sync += self._noise.step.eq(update[PRODUCT])
        error_at, winner_at = self._place(m, token[EVENT - 1])
        m.d.comb += [
            control.row.eq(row[ROW]),
            control.x.eq(x[OPERANDS + 1]),
            control.learn.eq(token[OPERANDS].learn),
            control.error_at.eq(error_at),
            control.winner_at.eq(winner_at),
            control.place.eq(Cat(token[OPERANDS - 1].place.right, token[OPERANDS - 1].place.below)),
            control.first.eq(token[PRODUCT].first),
            control.half.eq(~token[PRODUCT].learn),
            control.empty.eq(token[PRODUCT].empty | self._accessed),
            control.noise.eq(self._noise.state),
            control.write_row.eq(row[WRITTEN - 1]),
        ]
        saturated = self._lanes(m, control, ConvBank)

        # A sum has the readout to itself from the issue of its last input until it has left.
        reserved = Signal()
        with m.If(sequencer.issue & sequencer.token.last):
            m.d.sync += reserved.eq(1)
        with m.If(self._readout.left):
            m.d.sync += reserved.eq(0)
        m.d.comb += [sequencer.room.eq(~reserved), self._readout.enable.eq(1)]
        if self._target.single_port_weights:
            # What is updated must not be read when another is written: a row is at its memory a cycle after ROW.
            ahead = WRITTEN - ROW - 1
            m.d.comb += sequencer.turn.eq(~(valid[ahead] & token[ahead].update))
        else:
            m.d.comb += sequencer.turn.eq(1)
        return saturated

    def _place(self, m: Module, token: Any) -> tuple[Signal, Signal]:
        """Where the errors and winners of a token's place are, a cycle later."""
        p, place = self._plan, token.place
        down, across = p.cell
        rows, columns, _ = p.output_map
        error_at, winner_at = Signal(data.StructLayout(p.error_address)), Signal(data.StructLayout(p.winner_address))
        m.d.sync += [
            error_at.row.eq(_quotient(place.row, rows, down)),
            error_at.column.eq(_quotient(place.column, columns, across)),
            error_at.group.eq(token.group),
            winner_at.row.eq(place.row),
            winner_at.column.eq(place.column),
            winner_at.group.eq(token.group),
        ]
        return error_at, winner_at

    def _bring_back(self, m: Module, control: Any) -> None:
        """Scaled errors to their lanes and cells, in the order of the features; then the pass that learns."""
        p, classifier, sequencer = self._plan, self._classifier, self._sequencer
        _, columns, channels = p.feature_map
        at, lane, channel = Signal(data.StructLayout(p.error_address)), Signal(range(p.lanes)), Signal(range(channels))
        with m.If(classifier.load_g):
            m.d.sync += [lane.eq(lane + 1), channel.eq(channel + 1)]
            with m.If(classifier.next_g != 0):
                m.d.sync += sequencer.live.bit_select(at.group, 1).eq(1)
            with m.If(lane == p.lanes - 1):
                m.d.sync += [lane.eq(0), at.group.eq(at.group + 1)]
            with m.If(channel == channels - 1):
                m.d.sync += [lane.eq(0), channel.eq(0), at.group.eq(0), at.column.eq(at.column + 1)]
                with m.If(at.column == columns - 1):
                    m.d.sync += [at.column.eq(0), at.row.eq(at.row + 1)]
        with m.If(self._learn):
            m.d.sync += [sequencer.live.eq(0), at.eq(0)]
        m.d.comb += [
            control.load_g.eq(classifier.load_g),
            control.next_g.eq(classifier.next_g),
            control.g_lane.eq(lane),
            control.g_at.eq(at),
            classifier.next_group.eq(classifier.group_ready),
            sequencer.gradient.eq(classifier.group_ready),
        ]

    def _samples(self, m: Module, control: Any) -> tuple[Value, dict[str, Value]]:
        """The oldest sample from the readout to the judge, and back.

        Returns when its weights have been learned, and what the counters add.
        """
        p, buffer, sequencer, features = self._plan, self._buffer, self._sequencer, self._features
        # Outputs come many at a time, but not always: the next layer need not be as fast.
        layout = pooled_layout(p)
        m.submodules.queue = queue = SyncFIFOBuffered(width=layout.size, depth=max(4, p.lanes))
        passed = data.View(layout, queue.r_data)
        given, taken, last = Signal(), Signal(), Signal()
        pause = Signal(range(_SAME_CHANNEL))
        m.d.comb += given.eq(queue.r_rdy & (pause == 0))
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        if p.neurons < _SAME_CHANNEL:
            # Behind a queue outputs may come as fast as the sums of so few channels cannot.
            with m.If(taken):
                m.d.sync += pause.eq(_SAME_CHANNEL - 1)
        ready, passed_on = self._pass_on(m, given, passed, last)
        m.d.comb += [
            queue.w_data.eq(self._pool.o.payload),
            queue.w_en.eq(self._pool.o.valid),
            self._pool.o.ready.eq(queue.w_rdy),
            queue.r_en.eq(taken),
            taken.eq(given & ready),
            last.eq(taken & passed.last),
            features.pooled.eq(passed),
            features.take.eq(taken),
            self._classifier.activation.eq(features.o),
            self._classifier.take.eq(features.valid),
            control.keep.eq(taken),
            control.kept_lane.eq(passed.lane),
            control.kept.eq(Cat(passed.winner, passed.active)),
            control.kept_at.row.eq(passed.row),
            control.kept_at.column.eq(passed.column),
            control.kept_at.group.eq(passed.group),
            control.ends.eq(passed.ends),
            self._sample.label.eq(buffer.label),
            self._sample.learn.eq(buffer.learn),
            buffer.release.eq(self._release),
        ]
        after = Signal(_FEATURES_AFTER)
        m.d.sync += after.eq(Cat(last, after))
        m.d.comb += features.start.eq(after[-1])

        begun, learning, written = Signal(), Signal(), Signal(WRITTEN)
        m.d.comb += sequencer.forward.eq((buffer.held != 0) & ~begun)
        m.d.sync += [
            begun.eq((begun | sequencer.forward) & ~self._release),
            learning.eq((learning | sequencer.gradient) & ~sequencer.done),
            written.eq(Cat(learning & sequencer.done, written)),
        ]
        self._judge(m, features.valid & features.o.last, written[-1], passed_on)
        token, starved = sequencer.token, Signal()
        m.d.comb += starved.eq(buffer.held == 0)
        counts: dict[str, Value] = {
            "events": buffer.taken,
            "forward": sequencer.issue & ~token.learn & ~token.update,
            "discarded": Const(0, 1),
            "gradients": sequencer.issue & token.learn,
            "updates": sequencer.issue & token.update,
            "learned": self._learn,
            "skipped": self._skipped,
            "starved": self.busy & starved,
            "waiting": self.busy & ~starved & ~sequencer.issue,
        }
        return written[-1], counts


def _quotient(number: Value, size: int, divisor: int) -> Value:
    """number // divisor, for numbers below `size`."""
    bits = (size - 1) // divisor
    return Array(Const(i // divisor, bits.bit_length()) for i in range(size))[number] if bits else Const(0, 0)
