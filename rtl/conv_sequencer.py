"""The order of a convolution's passes: a token for every input of a window that is not 0, and for every weight."""

from collections.abc import Sequence
from typing import Any

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from locallearn.quant.conv_plan import MASK_WORD, WAITING_WORDS, ConvPlan
from locallearn.rtl.ones import Ones, word_layout

__all__ = ["ConvSequencer", "place_layout", "token_layout"]

_LATENCY = 3
"""From a step to its word: a register and the memory."""


def place_layout(plan: ConvPlan) -> data.StructLayout:
    """A place of the convolution: the pixel that it is pooled to, and which of the pool's places it is."""
    rows, columns, _ = plan.output_map
    return data.StructLayout(
        {
            "column": (columns - 1).bit_length(),
            "row": (rows - 1).bit_length(),
            "right": plan.conv.pool - 1,
            "below": plan.conv.pool - 1,
        }
    )


def token_layout(plan: ConvPlan) -> data.StructLayout:
    """What the lanes are to do with an input, or with a weight.

    value_at  the input
    constant  it is the bias's constant instead
    row       of the weight memory: the weight that the input meets, or that is updated
    learn     add the product with the error at `place` of `group`
    update    change the weight by the sum, which is 0 where it is `empty`; neither of these: add the product with it
    first     of its sum
    last      forward: the sum is complete
    """
    return data.StructLayout(
        {
            "value_at": data.StructLayout(plan.value_address),
            "constant": 1,
            "row": range(plan.weight_rows),
            "learn": 1,
            "update": 1,
            "empty": 1,
            "first": 1,
            "last": 1,
            "group": range(plan.groups),
            "place": place_layout(plan),
        }
    )


class ConvSequencer(wiring.Component):
    """Forward: pooled pixel by pixel, group by group, place by place of the pool: the window's inputs that are not 0 in
    order, then the bias. Learn: group by group, weight by weight: the inputs that are not 0 at all places, then update.

    forward, gradient
               start a pass over the oldest sample of the map buffer
    live       groups that there is an error for; stable while learning
    pixel_at, pixel, columns_at, columns
               to and from the map buffer
    room       the readout can take another sum
    turn       a weight can be read to be updated
    issue      `token` goes to the lanes in this cycle
    done       the pass's last token has been issued; for a cycle
    """

    def __init__(self, plan: ConvPlan) -> None:
        self._plan = plan
        self._about = data.StructLayout(plan.word_fields)
        super().__init__(
            {
                "forward": In(1),
                "gradient": In(1),
                "live": In(plan.groups),
                "pixel_at": Out(data.StructLayout(plan.pixel_address)),
                "pixel": In(plan.channel_word),
                "columns_at": Out(data.StructLayout(plan.columns_address)),
                "columns": In(plan.column_word),
                "room": In(1),
                "turn": In(1),
                "issue": Out(1),
                "token": Out(token_layout(plan)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ones = ones = Ones(MASK_WORD, self._about)
        waiting = word_layout(MASK_WORD, self._about)
        m.submodules.words = words = SyncFIFOBuffered(width=waiting.size, depth=WAITING_WORDS)
        m.d.comb += [
            ones.i.payload.eq(words.r_data),
            ones.i.valid.eq(words.r_rdy),
            words.r_en.eq(ones.i.ready),
        ]
        emitted = self._emit(m, ones)
        walking, stepping = self._walk(m, words)
        running = Signal()
        m.d.comb += self.done.eq(running & ~walking & ~stepping & ~words.r_rdy & ~words.level.any() & emitted)
        m.d.sync += running.eq((running | self.forward | self.gradient) & ~self.done)
        return m

    def _walk(self, m: Module, words: SyncFIFOBuffered) -> tuple[Signal, Value]:
        """A word a cycle into the queue, where it has ones. Returns whether a pass goes on, and words are on their way.

        A forward pass steps over the words of a window's pixels, then the bias; a learning one over the words of a
        channel's rows that meet the kernel's place, or for the bias over all places, then the update.
        """
        p, conv = self._plan, self._plan.conv
        rows, columns, channels = p.input_map
        place_rows, place_columns, _ = p.convolved_map
        place_word = min(MASK_WORD, 1 << (place_columns - 1).bit_length())
        place_words = -(-place_columns // place_word)
        most_words = max(p.column_words, place_words)

        learning, walking, step = Signal(), Signal(), Signal()
        group, group_base = Signal(range(p.groups)), Signal(range(p.weight_rows))
        base = Signal(range(p.weight_rows))
        across, down = Signal(range(conv.kernel)), Signal(range(conv.kernel))
        bias, update = Signal(), Signal()
        part, word = Signal(range(p.channel_words)), Signal(range(most_words))
        channel, place_row = Signal(range(channels)), Signal(range(place_rows))
        place = Signal(place_layout(p))

        # The input that the kernel's place meets, and whether there is one.
        at_row = Mux(learning, place_row, Cat(place.below, place.row))
        at_column = Cat(place.right, place.column)
        row, column = Signal(signed(p.row_bits + 3)), Signal(signed(p.column_bits + 3))
        meets = Signal()
        m.d.comb += [
            row.eq(at_row * conv.stride + down - conv.border),
            column.eq(at_column * conv.stride + across - conv.border),
            meets.eq((row >= 0) & (row < rows) & (learning | ((column >= 0) & (column < columns)))),
            step.eq(walking & (words.level < WAITING_WORDS - _LATENCY - 1)),
        ]

        about, fixed = Signal(self._about), Signal(MASK_WORD)
        mask = Signal(MASK_WORD)
        m.d.comb += [
            about.row.eq(row),
            about.column.eq(Mux(learning, word << (p.column_word - 1).bit_length(), column)),
            about.channel.eq(Mux(learning, channel, part << (p.channel_word - 1).bit_length())),
            about.base.eq(base),
            about.tap.eq(across),
            about.place.eq(place_row),
            about.group.eq(group),
            about.constant.eq(bias),
            about.learn.eq(learning),
            about.update.eq(update),
            mask.eq((1 << p.channel_word) - 1),
        ]
        with m.If(learning):
            m.d.comb += mask.eq(Array(Array(_padded(masks, most_words)) for masks in p.column_masks)[across][word])
        with m.If(bias):
            # The bias's input is at every place.
            ends = [min(place_word, place_columns - n * place_word) for n in range(place_words)]
            with m.If(learning):
                m.d.comb += [
                    fixed.eq(Array(_padded([(1 << end) - 1 for end in ends], most_words))[word]),
                    about.column.eq(word << (place_word - 1).bit_length()),
                ]
            with m.Else():
                m.d.comb += fixed.eq(1)
        with m.If(update):
            m.d.comb += fixed.eq(1)

        # A register on the way to the memory, and its two cycles.
        stages: list[tuple[Signal, Signal, Signal, Signal]] = [
            (about, Signal(MASK_WORD, name="fixed_0"), Signal(MASK_WORD, name="mask_0"), Signal(name="step_0"))
        ]
        m.d.comb += [
            stages[0][1].eq(fixed),
            stages[0][2].eq(mask & (meets & ~bias & ~update).replicate(MASK_WORD)),
            stages[0][3].eq(step),
        ]
        for i in range(1, _LATENCY + 1):
            later = (
                Signal(self._about, name=f"about_{i}"),
                Signal(MASK_WORD, name=f"fixed_{i}"),
                Signal(MASK_WORD, name=f"mask_{i}"),
                Signal(name=f"step_{i}"),
            )
            m.d.sync += [late.eq(early) for early, late in zip(stages[-1], later, strict=True)]
            stages.append(later)
        m.d.sync += [
            *(self.pixel_at.row.eq(row), self.pixel_at.column.eq(column), self.pixel_at.part.eq(part)),
            *(self.columns_at.row.eq(row), self.columns_at.channel.eq(channel), self.columns_at.part.eq(word)),
        ]
        found = Signal(word_layout(MASK_WORD, self._about))
        about, fixed, mask, stepped = stages[-1]
        read = Mux(about.learn, self.columns, self.pixel)
        m.d.comb += [
            found.about.eq(about),
            found.word.eq(fixed | (mask & read)),
            words.w_data.eq(found),
            words.w_en.eq(stepped & found.word.any()),
        ]

        rest = channels - (p.channel_words - 1) * p.channel_word
        with m.If(step & ~learning):
            self._step_forward(m, bias, part, across, down, place, group, group_base, base, walking, rest)
        with m.If(step & learning):
            with m.If(update):
                m.d.sync += [update.eq(0), base.eq(base + 1), channel.eq(channel + 1)]
                with m.If(channel == channels - 1):
                    m.d.sync += [channel.eq(0), across.eq(across + 1)]
                    with m.If(across == conv.kernel - 1):
                        m.d.sync += [across.eq(0), down.eq(down + 1)]
                        with m.If(down == conv.kernel - 1):
                            m.d.sync += [down.eq(0), bias.eq(1)]
                with m.If(bias):
                    m.d.sync += [channel.eq(0), across.eq(0), down.eq(0), bias.eq(0), walking.eq(0)]
            with m.Else():
                last_word = word == Mux(bias, place_words - 1, p.column_words - 1)
                m.d.sync += word.eq(Mux(last_word, 0, word + 1))
                with m.If(last_word):
                    m.d.sync += place_row.eq(Mux(place_row == place_rows - 1, 0, place_row + 1))
                    m.d.sync += update.eq(place_row == place_rows - 1)

        going = Signal()
        with m.FSM(name="pass_"):
            with m.State("Idle"):
                m.d.sync += [group.eq(0), group_base.eq(0), base.eq(0), learning.eq(self.gradient)]
                with m.If(self.forward):
                    m.d.sync += walking.eq(1)
                    m.next = "Walk"
                with m.If(self.gradient):
                    m.next = "Find"
            with m.State("Find"):
                # A group that has something to learn.
                m.d.comb += going.eq(1)
                m.d.sync += base.eq(group_base)
                with m.If(self.live.bit_select(group, 1)):
                    m.d.sync += walking.eq(1)
                    m.next = "Walk"
                with m.Else():
                    m.next = "Skip"
            with m.State("Skip"):
                m.d.comb += going.eq(1)
                m.d.sync += [group.eq(group + 1), group_base.eq(group_base + p.fan_in)]
                m.next = "Find"
                with m.If(group == p.groups - 1):
                    m.d.sync += group.eq(0)
                    m.next = "Idle"
            with m.State("Walk"), m.If(~walking):
                m.next = "Idle"
                with m.If(learning):
                    m.d.comb += going.eq(1)
                    m.next = "Skip"
        steps = Cat(*(stage[3] for stage in stages[1:]))
        busy = Signal()
        m.d.comb += busy.eq(walking | going)
        return busy, steps.any()

    def _step_forward(
        self,
        m: Module,
        bias: Signal,
        part: Signal,
        across: Signal,
        down: Signal,
        place: Any,
        group: Signal,
        group_base: Signal,
        base: Signal,
        walking: Signal,
        rest: int,
    ) -> None:
        """Part, column and row of the kernel, bias; then place of the pool, group, column and row of the output."""
        p, conv = self._plan, self._plan.conv
        out_rows, out_columns, _ = p.output_map
        last_part = part == p.channel_words - 1
        m.d.sync += [part.eq(Mux(last_part, 0, part + 1)), base.eq(base + Mux(last_part, rest, p.channel_word))]
        with m.If(last_part):
            m.d.sync += across.eq(across + 1)
            with m.If(across == conv.kernel - 1):
                m.d.sync += [across.eq(0), down.eq(down + 1)]
                with m.If(down == conv.kernel - 1):
                    m.d.sync += [down.eq(0), bias.eq(1)]
        with m.If(bias):
            ends = Signal()
            m.d.comb += ends.eq(Cat(place.right, place.below).all())
            m.d.sync += [bias.eq(0), part.eq(0), across.eq(0), down.eq(0), base.eq(group_base)]
            m.d.sync += [place.right.eq(~place.right), place.below.eq(place.below ^ place.right)]
            with m.If(ends):
                m.d.sync += [group.eq(group + 1), group_base.eq(group_base + p.fan_in), base.eq(base + 1)]
                with m.If(group == p.groups - 1):
                    m.d.sync += [group.eq(0), group_base.eq(0), base.eq(0), place.column.eq(place.column + 1)]
                    with m.If(place.column == out_columns - 1):
                        m.d.sync += [place.column.eq(0), place.row.eq(place.row + 1)]
                        with m.If(place.row == out_rows - 1):
                            m.d.sync += [place.row.eq(0), walking.eq(0)]

    def _emit(self, m: Module, ones: Ones) -> Value:
        """Ones become tokens. Returns whether there is none."""
        p, conv, one = self._plan, self._plan.conv, ones.o.payload
        about, token, valid, fresh = one.about, self.token, Signal(), Signal(init=1)
        advance = Signal()
        m.d.comb += [
            self.issue.eq(valid & (self.room | ~token.last) & (self.turn | ~token.update)),
            advance.eq(~valid | self.issue),
            ones.o.ready.eq(advance),
        ]
        column = Signal(len(about.column))
        place_column = Signal(range(p.convolved_map[1]))
        ends = Signal()
        m.d.comb += [
            column.eq(about.column | Mux(about.learn, one.bit, 0)),
            place_column.eq(column),
            # A forward sum ends with the bias, one to learn from with the update.
            ends.eq(Mux(about.learn, about.update, about.constant)),
        ]
        with m.If(~about.constant):
            m.d.comb += place_column.eq((column + conv.border - about.tap) >> (conv.stride - 1))
        with m.If(advance):
            m.d.sync += [
                valid.eq(ones.o.valid),
                token.value_at.row.eq(about.row),
                token.value_at.column.eq(column),
                token.value_at.channel.eq(about.channel | Mux(about.learn, 0, one.bit)),
                token.constant.eq(about.constant),
                token.row.eq(about.base + Mux(about.learn, 0, one.bit)),
                token.learn.eq(about.learn & ~about.update),
                token.update.eq(about.update),
                token.empty.eq(fresh),
                token.first.eq(fresh),
                token.last.eq(about.constant & ~about.learn),
                token.group.eq(about.group),
                Cat(token.place.right, token.place.column).eq(place_column),
                Cat(token.place.below, token.place.row).eq(about.place),
            ]
            with m.If(ones.o.valid):
                m.d.sync += fresh.eq(ends)
        idle: Value = ~valid & ~ones.o.valid
        return idle


def _padded(words: Sequence[int], count: int) -> list[Const]:
    return [Const(word, MASK_WORD) for word in (*words, *(0,) * (count - len(words)))]
