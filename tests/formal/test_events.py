"""The event buffer: what goes in comes out, in order, at the addresses that it tells."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from amaranth import Const, Mux, Signal, Value

from locallearn.quant.layer_plan import EVENT_MARGIN, SAMPLES_HELD, LayerPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.events import EventBuffer
from locallearn.rtl.target import GENERIC
from tests.formal.prove import Claims, prove
from tests.rtl.plans import layer

_TIGHTEST = layer(inputs=3)
"""Eight words, of which a sample may need four, and three stay free."""

_BELOW_AN_EXIT = LayerPlan(NetworkSpec("", 10, InputSpec(4), (LayerSpec(3), LayerSpec(2)), early_exit=True), 1)
"""As tight; samples may be void."""

_plans = pytest.mark.parametrize(
    "plan", [pytest.param(_TIGHTEST, id="tightest"), pytest.param(_BELOW_AN_EXIT, id="below an exit")]
)

_DEPTH = 4
"""Cycles that induction looks back: what the memory holds is seen 2 cycles after the reader asks for it."""


class Queue:
    """What a buffer holds, by its description. Events are counted from the oldest sample's first.

    held   whole samples, each from 2 cycles after its last event
    ends   how many events there are up to the end of each sample held, the oldest first
    tags   label above `learn` of each
    total  events, with those of samples that are not held yet
    end    how many of them belong to whole samples
    void   an event ends its sample, which is forgotten
    """

    def __init__(self, claims: Claims, plan: LayerPlan) -> None:
        self._buffer, self._plan = claims.dut, plan
        m, buffer, event = claims.m, claims.dut, claims.dut.i.payload
        count = range(plan.event_depth)
        self.void = event.last & (event.void if plan.can_be_void else Const(0))
        self.held, self.total = Signal(range(SAMPLES_HELD + 1)), Signal(count)
        self.ends = [Signal(count, name=f"end_{i}") for i in range(SAMPLES_HELD)]
        self.tags = [Signal(plan.class_bits + 1, name=f"tag_{i}") for i in range(SAMPLES_HELD)]
        # The sample that is whole and not held yet, if there is one; the end of the last whole one; the next's events.
        self.late, self.end, self._tag = Signal(), Signal(count), Signal(plan.class_bits + 1)
        self._coming = Signal(range(plan.fan_in))

        self.released = Mux(buffer.release, self.ends[0], 0)
        left = self.held - buffer.release
        m.d.sync += [
            self.held.eq(left + self.late),
            self.total.eq(self.total + buffer.taken - self.released),
            self.late.eq(buffer.taken & event.last & ~self.void),
            self.end.eq(self.end - self.released),
        ]
        with m.If(buffer.release):
            for queue, gone in ((self.ends, self.released), (self.tags, 0)):
                m.d.sync += [now.eq(after - gone) for now, after in pairwise(queue)]
        for i in range(SAMPLES_HELD):
            with m.If(self.late & (left == i)):
                m.d.sync += [self.ends[i].eq(self.end - self.released), self.tags[i].eq(self._tag)]
        with m.If(buffer.taken):
            m.d.sync += [self._tag.eq(event.label << 1 | event.learn), self._coming.eq(self._coming + 1)]
            with m.If(event.last):
                m.d.sync += [self.end.eq(self.total + 1 - self.released), self._coming.eq(0)]
            with m.If(self.void):
                m.d.sync += [self.end.eq(self.end - self.released), self.total.eq(self.end - self.released)]

        # Only what is held is released, and no sample has more events than inputs and a bias.
        claims.assume(~buffer.release | (buffer.held != 0))
        claims.assume(event.last | (self._coming < plan.fan_in - 1))
        self._look_inside(claims)

    def address(self, count: Value) -> Value:
        return (self._buffer.start + count)[: self._plan.event_address_bits]

    def is_sample(self, i: int, sample: Any) -> Value:
        """Whether a sample is what the buffer should say of sample i, if it is held."""
        before = self.ends[i - 1] if i else Const(0)
        alone = self.ends[i] == before + 1
        same = (sample.before == self.address(self.ends[i] - 2)) & (sample.alone == alone)
        return (self.held <= i) | (same & ((sample.label << 1 | sample.learn) == self.tags[i]))

    def _look_inside(self, claims: Claims) -> None:
        """What is true in all states that the buffer can come to; the proofs by induction begin with any of these."""
        ready = claims.dut.i.ready
        free = self._plan.event_depth - 1 - self.total
        tail = claims.part(claims.dut, "memory").write_address
        claims.require("held", (claims.dut.held == self.held) & (self.held <= SAMPLES_HELD))
        claims.require("tail", tail == self.address(self.total))
        claims.require("before_tail", claims.local(claims.dut, "before") == self.address(self.total - 1))
        if self._plan.can_be_void:
            claims.require("begin", claims.local(claims.dut, "begin") == self.address(self.end))
        claims.require("first", claims.local(claims.dut, "first") == (self._coming == 0))
        before: Value = Const(0)
        for i, end in enumerate(self.ends):
            claims.require(f"sample_{i}", self.is_sample(i, claims.local(claims.dut, "queue")[i]))
            claims.require(f"length_{i}", (self.held <= i) | ((before < end) & (end - before <= self._plan.fan_in)))
            before = Mux(self.held <= i, before, end)
        claims.require(
            "whole", Mux(self.late, (before < self.end) & (self.end - before <= self._plan.fan_in), before == self.end)
        )
        claims.require("total", (self.end + self._coming == self.total) & (self._coming < self._plan.fan_in))
        claims.require("margin", ~ready | (claims.past(claims.past(free)) >= EVENT_MARGIN))
        claims.require("one_a_cycle", free + 1 >= claims.past(free))
        claims.require("place", ~(ready | self.late) | (self.held != SAMPLES_HELD))
        claims.require("place_for_the_next", ~(ready & self.late) | (self.held + 1 < SAMPLES_HELD))


@_plans
def test_samples(tmp_path: Path, plan: LayerPlan) -> None:
    """The samples shown are the oldest, none is overwritten, and a full buffer waits for releases only; unbounded."""

    def state(claims: Claims) -> None:
        buffer, queue = claims.dut, Queue(claims, plan)
        for i in range(2):
            claims.require(f"shown_{i}", queue.is_sample(i, buffer.samples[i]))
        start, behind = claims.past(buffer.start), claims.past(queue.address(queue.ends[0]))
        claims.require("start", buffer.start == Mux(claims.past(buffer.release), behind, start))
        claims.require("not_overwritten", ~buffer.taken | (queue.total < plan.event_depth - 1))
        empty = (buffer.held == 0) & ~queue.late
        for _ in range(2):
            empty = empty & claims.past(empty)
        claims.require("not_stuck", ~empty | buffer.i.ready)
        claims.reach("samples_full", queue.held == SAMPLES_HELD)
        claims.reach("words_full", queue.total == plan.event_depth - 1)
        claims.reach("round", queue.held.bool() & (queue.address(queue.ends[0]) < buffer.start))

    prove(EventBuffer(plan, GENERIC), state, tmp_path, _DEPTH)


@_plans
def test_words(tmp_path: Path, plan: LayerPlan) -> None:
    """Every event is at its address from the cycle after it came until its sample is released; unbounded.

    Any one event is marked when it comes. As it may be any, what is true of it is true of all. From then on the reader
    asks for its address in every cycle: that it does not ask for others loses nothing, as asking changes nothing.
    """

    def state(claims: Claims) -> None:
        m, buffer, queue = claims.m, claims.dut, Queue(claims, plan)
        event = buffer.i.payload
        void = buffer.taken & queue.void
        marked, mark = Signal(), buffer.taken & ~void & claims.anything(1)
        # How many events come before it, where it is, and what.
        count, where = Signal(range(plan.event_depth)), Signal(plan.event_address_bits)
        word = Signal.like(buffer.event.as_value())
        with m.If(marked):
            m.d.sync += [count.eq(count - queue.released), marked.eq(count >= queue.released)]
            with m.If(void & (count >= queue.end)):
                m.d.sync += marked.eq(0)
        with m.Elif(mark):
            m.d.sync += [marked.eq(1), count.eq(queue.total - queue.released), where.eq(queue.address(queue.total))]
            m.d.sync += word.eq(event.index << len(event.value) | event.value)
        claims.assume(~marked | (buffer.address == where))
        claims.require("in_order", ~marked | ((count < queue.total) & (where == queue.address(count))))
        asked = marked & claims.past(marked) & claims.past(claims.past(marked))
        claims.require("read_back", ~asked | (buffer.event.as_value() == word))
        claims.reach("release_while_read", asked & claims.past(buffer.release))

    prove(EventBuffer(plan, GENERIC), state, tmp_path, _DEPTH)
