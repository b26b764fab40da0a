"""The map buffer: two samples of a convolution's input, and which of their numbers are not 0."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.conv_plan import ConvPlan
from locallearn.rtl.layouts import event_layout
from locallearn.rtl.memory import BlockMemory, small_memory
from locallearn.rtl.target import Target

__all__ = ["MapBuffer"]


class MapBuffer(wiring.Component):
    """Takes an event in 3 cycles, and beside events one cycle for each word of the masks; a reader has the oldest
    sample at any address, in any order.

    i        events in ascending order; a sample counts as held when all behind its last event is known to be 0
    held     samples held whole, 0 to 2
    label, learn
             the oldest sample's
    release  drop it; only where one is held
    taken    an event has come
    value_at, value
             an input of the oldest sample, 2 cycles later; undefined where it is 0
    pixel_at, pixel
             which channels of a pixel are not 0, 2 cycles later; the first in bit 0
    columns_at, columns
             in which columns of a row a channel is not 0, 2 cycles later

    Values are never cleared: the masks alone say what is 0. Those of pixels are written as events pass them; those of
    channels are gathered for the columns of a word, and written when events have passed these.
    """

    def __init__(self, plan: ConvPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        super().__init__(
            {
                "i": In(stream.Signature(event_layout(plan))),
                "held": Out(range(3)),
                "label": Out(plan.class_bits),
                "learn": Out(1),
                "release": In(1),
                "taken": Out(1),
                "value_at": In(data.StructLayout(plan.value_address)),
                "value": Out(plan.input_format.bits),
                "pixel_at": In(data.StructLayout(plan.pixel_address)),
                "pixel": Out(plan.channel_word),
                "columns_at": In(data.StructLayout(plan.columns_address)),
                "columns": Out(plan.column_word),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, event = self._plan, self.i.payload
        rows, columns, channels = p.input_map
        oldest, arriving = Signal(), Signal()
        values, pixels, masks = (self._memory(m, name, oldest) for name in ("value", "pixel", "columns"))

        # Where events are: the word of a pixel, and how far behind its first input the next event is.
        part, column, row = Signal(range(p.channel_words)), Signal(range(columns)), Signal(range(rows))
        base, offset = Signal(range(p.inputs + p.channel_word)), Signal(range(p.inputs + 1))
        word, size = Signal(p.channel_word), Signal(range(p.channel_word + 1))
        pixel_ends, row_ends, map_ends, columns_end = Signal(), Signal(), Signal(), Signal()
        in_word, in_columns = ((width - 1).bit_length() for width in (p.channel_word, p.column_word))
        m.d.comb += [
            pixel_ends.eq(part == p.channel_words - 1),
            row_ends.eq(pixel_ends & (column == columns - 1)),
            columns_end.eq(row_ends | (pixel_ends & column[:in_columns].all())),
            map_ends.eq(row_ends & (row == rows - 1)),
            size.eq(Mux(pixel_ends, channels - (p.channel_words - 1) * p.channel_word, p.channel_word)),
        ]
        # The masks of the columns that events are in, channel by channel.
        m.submodules.gathered = gathered = small_memory(self._target, p.column_word, channels)
        recall, remember = gathered.read_port(), gathered.write_port()
        channel, flushed = Signal(range(channels)), Signal(range(channels + 1))
        written, row_written, part_written = Signal(), Signal(range(rows)), Signal(range(p.column_words))
        m.d.comb += [
            channel.eq(Cat(offset[:in_word], part)),
            values.write_address.eq(Cat(channel, column, row, arriving)),
            values.write_data.eq(event.value),
            pixels.write_address.eq(Cat(part, column, row, arriving)),
            pixels.write_data.eq(word),
            masks.write_address.eq(Cat(part_written, row_written, (flushed - 1)[: p.channel_bits], arriving)),
            masks.write_data.eq(recall.data),
            recall.addr.eq(channel),
            remember.addr.eq(channel),
            remember.data.eq(recall.data | (1 << column[:in_columns])),
            self.taken.eq(self.i.valid & self.i.ready),
        ]

        complete = Signal()
        # It begins with a flush: after a reset there may be masks of a sample that was never whole.
        with m.FSM(name="arrival", init="Flush"):
            with m.State("Look"), m.If(self.i.valid & (self.held != 2)):
                m.d.sync += offset.eq(event.index - base)
                m.next = "Pass"
            with m.State("Pass"):
                with m.If(event.last | (offset >= size)):
                    m.d.comb += pixels.write.eq(1)
                    m.d.sync += [
                        *(word.eq(0), base.eq(base + size), offset.eq(offset - size)),
                        *(part.eq(Mux(pixel_ends, 0, part + 1)), written.eq(map_ends)),
                        *(row_written.eq(row), part_written.eq(column >> in_columns)),
                    ]
                    with m.If(pixel_ends):
                        m.d.sync += column.eq(Mux(row_ends, 0, column + 1))
                    with m.If(row_ends):
                        m.d.sync += row.eq(Mux(map_ends, 0, row + 1))
                    with m.If(columns_end):
                        m.d.sync += flushed.eq(0)
                        m.next = "Flush"
                with m.Else():
                    m.d.comb += values.write.eq(1)
                    m.d.sync += word.eq(word | (1 << offset[:in_word]))
                    m.next = "Mark"
            with m.State("Mark"):
                m.d.comb += [remember.en.eq(1), self.i.ready.eq(1)]
                m.next = "Look"
            with m.State("Flush"):
                m.d.comb += [
                    recall.addr.eq(flushed),
                    remember.addr.eq(flushed - 1),
                    remember.data.eq(0),
                    remember.en.eq(flushed != 0),
                    masks.write.eq(flushed != 0),
                ]
                m.d.sync += flushed.eq(flushed + 1)
                with m.If(flushed == channels):
                    m.next = "Look"
                    with m.If(written):
                        m.next = "Complete"
            with m.State("Complete"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [base.eq(0), written.eq(0)]
                m.d.comb += complete.eq(~event.void if p.can_be_void else 1)
                m.next = "Look"

        labels = [Signal(p.class_bits + 1, name=f"label_{slot}") for slot in range(2)]
        m.d.sync += [
            self.held.eq(self.held + complete - self.release),
            arriving.eq(arriving ^ complete),
            oldest.eq(oldest ^ self.release),
        ]
        for slot, label in enumerate(labels):
            with m.If(complete & (arriving == slot)):
                m.d.sync += label.eq(Cat(event.label, event.learn))
        m.d.comb += Cat(self.label, self.learn).eq(Mux(oldest, labels[1], labels[0]))
        return m

    def _memory(self, m: Module, name: str, oldest: Signal) -> BlockMemory:
        """For both samples, which the reader has by `name`."""
        at, out = getattr(self, f"{name}_at").as_value(), getattr(self, name)
        m.submodules[name] = memory = BlockMemory(self._target, len(out), 2 << len(at))
        m.d.comb += [memory.address.eq(Cat(at, oldest)), out.eq(memory.data)]
        return memory
