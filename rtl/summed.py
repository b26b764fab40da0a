"""The answer of two layers together: the class with the largest sum of scores."""

from amaranth import Cat, Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import SCORE_SLOTS, LayerPlan
from locallearn.rtl.memory import small_memory
from locallearn.rtl.target import Target
from locallearn.rtl.timing import SCORE

__all__ = ["Summed", "walk_layout"]


def walk_layout(plan: LayerPlan) -> data.StructLayout:
    """A layer's walk over its scores, for the layer behind it.

    start   of the walk
    score   class by class, the first `timing.SCORE` cycles after start
    passes  for a cycle, after the walk: the sample goes on to the next layer
    """
    return data.StructLayout({"start": 1, "score": Shape(plan.score_bits, plan.signed_scores), "passes": 1})


class Summed(wiring.Component):
    """Keeps the scores of samples that pass the layer `below`, until the layer of `plan` walks over its own.

    below      see `walk_layout`
    ready      a sample's scores from below are here: the walk may start
    start, score
               of the own walk, as those of `walk_layout`
    predicted  the first class with the largest sum, from `classes` + 4 cycles after start until the next
    """

    def __init__(self, plan: LayerPlan, below: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._below = below
        self._target = target
        super().__init__(
            {
                "below": In(walk_layout(below)),
                "ready": Out(1),
                "start": In(1),
                "score": In(Shape(plan.score_bits, plan.signed_scores)),
                "predicted": Out(range(plan.classes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, below = self._plan, self._below
        m.submodules.scores = scores = small_memory(self._target, len(self.below.score), SCORE_SLOTS << p.class_bits)
        read, write = scores.read_port(), scores.write_port()
        coming, going, waiting = Signal(range(SCORE_SLOTS)), Signal(range(SCORE_SLOTS)), Signal(range(SCORE_SLOTS + 1))
        arriving, arrived = self._walk(m, self.below.start, SCORE, "arrived")
        # A word is there in the cycle after its address.
        asking, asked = self._walk(m, self.start, SCORE - 1, "asked")
        ends = asking & (asked == p.classes - 1)
        m.d.comb += [
            write.addr.eq(Cat(arrived, coming)),
            write.data.eq(self.below.score),
            write.en.eq(arriving),
            read.addr.eq(Cat(asked, going)),
            self.ready.eq(waiting != 0),
        ]
        m.d.sync += [
            coming.eq(coming + self.below.passes),
            going.eq(going + ends),
            waiting.eq(waiting + self.below.passes - ends),
        ]

        unit = max(p.score_unit, below.score_unit)
        kept = Signal.like(self.below.score)
        m.d.comb += kept.eq(read.data)
        exact = (self.score << (unit - p.score_unit)) + (kept << (unit - below.score_unit))
        total, largest = Signal(exact.shape(), reset_less=True), Signal(exact.shape(), reset_less=True)
        valid, number = Signal(2), [Signal(range(p.classes), name=f"number_{i}") for i in range(2)]
        m.d.sync += [valid.eq(Cat(asking, valid)), number[0].eq(asked), number[1].eq(number[0]), total.eq(exact)]
        with m.If(valid[-1] & ((number[-1] == 0) | (total > largest))):
            m.d.sync += [largest.eq(total), self.predicted.eq(number[-1])]
        return m

    def _walk(self, m: Module, start: Value, latency: int, name: str) -> tuple[Signal, Signal]:
        """The classes, one a cycle, the first so many cycles after `start`. Returns whether there is one, and which."""
        begun, going = Signal(latency, name=f"{name}_begun"), Signal(name=f"{name}_going")
        number = Signal(range(self._plan.classes), name=name)
        m.d.sync += begun.eq(Cat(start, begun))
        with m.If(going):
            m.d.sync += [number.eq(number + 1), going.eq(number != self._plan.classes - 1)]
        # It goes on from the next cycle: the last of these is the cycle before the first class.
        with m.If(begun[latency - 2] if latency > 1 else start):
            m.d.sync += [number.eq(0), going.eq(1)]
        return going, number
