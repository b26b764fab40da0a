"""The sequencer against a walk over samples, between a buffer, a pipeline and a classifier that take any time."""

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.layer_plan import SAMPLES_HELD, LayerPlan
from locallearn.rtl.layouts import sample_layout
from locallearn.rtl.sequencer import Sequencer, token_layout
from locallearn.rtl.target import GENERIC, SINGLE_PORT, Target
from locallearn.rtl.timing import OPERANDS, ROW, WRITTEN
from locallearn.sim.bench import cycle, parameters, ports, start
from locallearn.sim.streams import pack, unpack
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer

AHEAD = 2
"""Samples that may be forwarded and not released."""

TAKEN = OPERANDS - 2
"""Cycles from a group's first row to the copy of its errors."""

READ = ROW + 1
"""Cycles until the memory is asked for a row."""


@dataclass
class Sample:
    """Where its events lie in the ring."""

    start: int
    events: int


@dataclass(frozen=True)
class Row:
    """A row under way: of which group and event, and whether it is learned."""

    group: int
    event: int
    learn: bool


class Surroundings:
    """What the sequencer's neighbours drive in a cycle, and what it is to answer.

    arriving  probability that a sample arrives in a cycle, if there is room
    leaving   probability that a group leaves the readout in a cycle
    learning  probability that a sample has an error
    """

    def __init__(self, plan: LayerPlan, target: Target, arriving: float, leaving: float, learning: float) -> None:
        self._plan = plan
        self._single_port = target.single_port_weights
        self._arriving, self._leaving, self._learning = arriving, leaving, learning
        self.samples: deque[Sample] = deque()
        self.start = 0
        self._tail = 0
        self.forwarded = 0
        self._walking = False
        self.learn = self.release = False
        self.room = True
        self.discarded = 0
        self._judge = self._judging()
        next(self._judge)
        self._row = (0, 0)
        # Those issued 1, 2, ... cycles ago.
        self._pipeline = deque[Row | None]([None] * WRITTEN, WRITTEN)
        # The groups still to learn from: whether all errors are 0. None: forward.
        self.groups: deque[bool] | None = None
        self._ready_in = 0
        self._learning_for = 0
        self.done = Counter[str]()
        self.learned = False

    # -- inputs --------------------------------------------------------------------------------------------

    @property
    def group_ready(self) -> bool:
        return bool(self.groups) and self._ready_in == 0

    @property
    def group_taken(self) -> bool:
        row = self._pipeline[TAKEN - 1]
        return row is not None and row.learn and row.event == 0

    @property
    def empty(self) -> bool:
        return not any(self._pipeline)

    def _shown(self, sample: Sample) -> dict[str, int]:
        before = (sample.start + sample.events - 2) % self._plan.event_depth
        return {"before": before, "alone": sample.events == 1, "label": 0, "learn": random.getrandbits(1)}

    def drive(self, dut: Any) -> None:
        layout = sample_layout(self._plan)
        dut.held.value, dut.start.value = len(self.samples), self.start
        # What is not held is anything.
        shown = [pack(layout, self._shown(s)) for s in self.samples] + [random.getrandbits(layout.size)] * 2
        for port, sample in zip(ports(dut, "samples", 2), shown, strict=False):
            port.value = sample
        dut.release.value, dut.learn.value, dut.room.value = self.release, self.learn, self.room
        dut.group_ready.value = self.group_ready
        dut.group_zero.value = self.groups[0] if self.group_ready and self.groups else random.getrandbits(1)
        dut.group_taken.value, dut.empty.value = self.group_taken, self.empty

    # -- expected outputs ----------------------------------------------------------------------------------

    def expected(self) -> dict[str, Any]:
        """Outputs for the inputs of this cycle; token and address only where a row is read."""
        plan = self._plan
        group, event = self._row
        sample = None
        issue = next_group = learned = starved = False
        if self.groups is None:
            starved = not self._walking and len(self.samples) <= self.forwarded
            if self._walking:
                sample = self.samples[self.forwarded]
                issue = self.room or event < sample.events - 1
        else:
            sample = self.samples[0]
            fresh = self._fresh()
            learned = group == plan.groups and self.empty
            # Where a cycle allows one of both, rows are read in the first after `learn`, the third, and so on.
            may_read = not self._single_port or self._learning_for % 2 == 0
            issue = self._walking and may_read
            next_group = self.group_taken or (not self._walking and fresh and self.groups[0])
        expected = {
            "issue": issue,
            "starved": starved,
            "waiting": not issue and not starved,
            "next_group": next_group,
            "learned": learned,
        }
        if self.groups is None:
            expected["discarded"] = self.discarded
        if issue and sample is not None:
            expected["token"] = {
                "learn": self.groups is not None,
                "first": event == 0,
                "last": event == sample.events - 1,
                "base": group * plan.fan_in,
            }
            expected["address"] = (sample.start + event) % plan.event_depth
        return expected

    def advance(self, expected: dict[str, Any]) -> None:
        """To the next cycle, after these outputs."""
        issue = expected["issue"]
        last = issue and expected["token"]["last"]
        learning = self.groups is not None
        self.done["learned rows" if learning else "forward rows"] += issue
        if issue and not learning and self.forwarded:
            self.discarded += 1
        if self.learn:
            self.done["discarded rows"] += self.discarded
        if self.release or self.learn:
            self.discarded = 0

        self._check_memory()
        self._pipeline.appendleft(Row(*self._row, learning) if issue else None)
        self._walking = self._walks_on(last)
        if issue:
            self._row = (self._row[0] + 1, 0) if last else (self._row[0], self._row[1] + 1)
        if self.learn:
            self._pipeline.extend([None] * len(self._pipeline))
            self._row, self._walking = (0, 0), False
            self.groups = deque(random.random() < 0.4 for _ in range(self._plan.groups))
            self._ready_in = random.randint(1, 12)
            self._learning_for = 0
        elif learning:
            self._learning_for += 1
            if expected["next_group"] and self.groups:
                if self.groups[0]:
                    self._row = (self._row[0] + 1, 0)
                    self.done["skipped groups"] += 1
                self.groups.popleft()
                self._ready_in = random.randint(1, 12)
            elif self._ready_in:
                self._ready_in -= 1
            if expected["learned"]:
                self.groups = None
                self.forwarded, self._row = 1, (0, 0)
        elif self._row[0] == self._plan.groups:
            self.forwarded, self._row = self.forwarded + 1, (0, 0)

        if self.release:
            self.samples.popleft()
            self.start = self.samples[0].start if self.samples else self._tail
            self.forwarded -= 1
        self.room = (self.room and not (last and not learning)) or self.learn or random.random() < self._leaving
        self.learned = expected["learned"]
        next(self._judge)
        self._arrive()

    def _fresh(self) -> bool:
        """There is a group to learn from; the classifier still shows the one before until that has been taken."""
        return self.group_ready and self.groups is not None and len(self.groups) == self._plan.groups - self._row[0]

    def _walks_on(self, last: bool) -> bool:
        """Whether the next cycle is part of a walk: over a whole sample forward, over a single group to learn."""
        if self.groups is None:
            if self._walking:
                return not (last and self._row[0] == self._plan.groups - 1)
            return self.forwarded < min(len(self.samples), AHEAD)
        return not last if self._walking else self._fresh() and not self.groups[0]

    def _check_memory(self) -> None:
        """No row is read in the cycle in which it is written, and none at all where a cycle allows one of both."""
        read, written = self._pipeline[READ - 1], self._pipeline[-1]
        if read and written and written.learn:
            where = f"cycle {cycle()}: {read} is read while {written} is written"
            assert not self._single_port, where
            assert (read.group, read.event) != (written.group, written.event), where

    def _arrive(self) -> None:
        events = random.choice((1, 2, self._plan.fan_in, random.randint(1, self._plan.fan_in)))
        used = sum(sample.events for sample in self.samples)
        fits = len(self.samples) < SAMPLES_HELD and used + events < self._plan.event_depth
        if fits and random.random() < self._arriving:
            self.samples.append(Sample(self._tail, events))
            self._tail = (self._tail + events) % self._plan.event_depth

    def _judging(self) -> Iterator[None]:
        """The layer's verdicts on the oldest sample, one cycle after another."""
        while True:
            self.learn = self.release = False
            yield
            if not self.forwarded:
                continue
            for _ in range(len(self._pipeline) + random.randint(1, 30)):
                yield
            if random.random() < self._learning:
                self.learn = True
                self.done["learned"] += 1
                yield
                self.learn = False
                while not self.learned:
                    yield
            else:
                self.done["skipped"] += 1
            for _ in range(random.choice((0, 0, 8))):
                yield
            self.release = True
            yield


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(arriving=(1.0, 0.02), leaving=(1.0, 0.1), learning=(0.0, 0.5, 1.0))
async def reads_every_row_it_should(dut: Any, arriving: float, leaving: float, learning: float) -> None:
    """In order, when it may and not later, and every cycle counts as exactly one of issue, waiting, starved."""
    plan, target = parameters()
    await start(dut)
    around = Surroundings(plan, target, arriving, leaving, learning)
    while around.done["learned"] + around.done["skipped"] < 25:
        around.drive(dut)
        await RisingEdge(dut.clk)
        expected = around.expected()
        actual: dict[str, Any] = {
            name: int(getattr(dut, name).value) for name in expected if name not in ("token", "address")
        }
        if "token" in expected:
            actual["token"] = unpack(token_layout(plan), int(dut.token.value))
            actual["address"] = int(dut.address.value)
        assert actual == expected, f"cycle {cycle()}: expected {expected}, actual {actual}"
        counted = [name for name in ("issue", "waiting", "starved") if actual[name]]
        assert len(counted) == 1, f"cycle {cycle()}: expected one of issue, waiting, starved, actual {counted}"
        around.advance(expected)
    assert (around.done["learned"] > 0) == (learning > 0), f"expected to have learned, actual {around.done}"
    if learning and arriving == leaving == 1:
        # Otherwise nothing was begun too early, and that would not have been tried.
        assert around.done["discarded rows"], f"expected rows to be thrown away, actual {around.done}"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(3, 3, inputs=5), id="1 group"),
        pytest.param(layer(10, 4, inputs=7), id="3 groups"),
        pytest.param(layer(2, 1, inputs=1), id="1 input"),
    ],
)
@pytest.mark.parametrize("target", [GENERIC, SINGLE_PORT], ids=lambda target: target.name)
def test_sequencer(bench: Bench, plan: LayerPlan, target: Target) -> None:
    bench(Sequencer(plan, target), (plan, target))
