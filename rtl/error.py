"""The error unit: e = softmax(scores) - onehot(label) in integers, one class a cycle."""

from amaranth import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.plan import ERROR_TABLE, LayerPlan

__all__ = ["ErrorUnit"]

_TABLE_BITS = 9
_TABLE_ONE = ERROR_TABLE[0].bit_length() - 1


class ErrorUnit(wiring.Component):
    """Three walks over the scores: the largest, the softmax's sum, the errors. See `quant/classifier.py`, error().

    start      with `scores`, `label` and `learn` stable until `done`
    done       high for a cycle, 3 classes + 12 cycles after start, classes + 4 without `learn`
    predicted  the first class with the largest score, from `done` on
    errors     e, from `done` on where `learn`; the sum is exactly 0
    size       the error at the label, negated, from `done` on; 0 means that there is no error at all
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        super().__init__(
            {
                "start": In(1),
                "scores": In(plan.score_bits).array(plan.classes),
                "label": In(range(plan.classes)),
                "learn": In(1),
                "done": Out(1),
                "predicted": Out(range(plan.classes)),
                "errors": Out(signed(plan.error_width)).array(plan.classes),
                "size": Out(plan.error_bits + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan

        # The walk: stage 0 chooses a class, stage 1 has its score, stage 2 its distance from the largest,
        # stage 3 its weight.
        running = Signal()
        walk = [Signal(range(p.classes), name=f"class_{i}") for i in range(4)]
        valid = [running, *(Signal(name=f"valid_{i}") for i in range(1, 4))]
        score = Signal(p.score_bits, reset_less=True)
        largest = Signal(p.score_bits, reset_less=True)
        distance = Signal(range(len(ERROR_TABLE) + 1), reset_less=True)
        weight = Signal(_TABLE_BITS, reset_less=True)
        table = Array(Const(entry, _TABLE_BITS) for entry in (*ERROR_TABLE, 0))
        exact = (largest - score)[: p.score_bits] >> p.score_shift
        for i in range(1, 4):
            m.d.sync += [walk[i].eq(walk[i - 1]), valid[i].eq(valid[i - 1])]
        m.d.sync += [
            score.eq(Array(self.scores)[walk[0]]),
            distance.eq(Mux(exact > len(ERROR_TABLE), len(ERROR_TABLE), exact)),
            weight.eq(table[distance]),
        ]
        with m.If(running):
            m.d.sync += walk[0].eq(walk[0] + 1)
            with m.If(walk[0] == p.classes - 1):
                m.d.sync += [walk[0].eq(0), running.eq(0)]

        total = Signal(range(p.classes * ERROR_TABLE[0] + 1), reset_less=True)
        others = Signal(p.error_bits + 1, reset_less=True)
        # The sum is at least 2^8, as the largest score weighs 2^8: count the powers of two above that.
        excess = Signal(range(p.normaliser_bits + 1), reset_less=True)
        share = Signal(p.error_bits + 1)
        m.d.comb += share.eq(((weight << p.error_bits) >> _TABLE_ONE) >> excess)

        with m.FSM(name="pass"):
            with m.State("Idle"), m.If(self.start):
                m.d.sync += [running.eq(1), self.size.eq(0), largest.eq(0), self.predicted.eq(0)]
                m.next = "Largest"
            with m.State("Largest"):
                with m.If(valid[1] & (score > largest)):
                    m.d.sync += [largest.eq(score), self.predicted.eq(walk[1])]
                with m.If(valid[3] & (walk[3] == p.classes - 1)):
                    with m.If(self.learn):
                        m.d.sync += [running.eq(1), total.eq(0)]
                        m.next = "Sum"
                    with m.Else():
                        m.next = "Done"
            with m.State("Sum"), m.If(valid[3]):
                m.d.sync += total.eq(total + weight)
                with m.If(walk[3] == p.classes - 1):
                    m.next = "Normalise"
            with m.State("Normalise"):
                for power in range(p.normaliser_bits + 1):
                    with m.If(total > (ERROR_TABLE[0] << power >> 1)):
                        m.d.sync += excess.eq(power)
                m.d.sync += [running.eq(1), others.eq(0)]
                m.next = "Errors"
            with m.State("Errors"), m.If(valid[3]):
                with m.If(walk[3] != self.label):
                    m.d.sync += others.eq(others + share)
                for c in range(p.classes):
                    with m.If((walk[3] == c) & (self.label != c)):
                        m.d.sync += self.errors[c].eq(share)
                with m.If(walk[3] == p.classes - 1):
                    m.next = "Label"
            with m.State("Label"):
                for c in range(p.classes):
                    with m.If(self.label == c):
                        m.d.sync += self.errors[c].eq(-others)
                m.d.sync += self.size.eq(others)
                m.next = "Done"
            with m.State("Done"):
                m.d.comb += self.done.eq(1)
                m.next = "Idle"
        return m
