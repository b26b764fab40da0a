"""The event buffer against a list of samples."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.plan import SAMPLES_HELD, LayerPlan
from locallearn.rtl.events import EventBuffer
from locallearn.rtl.layouts import event_layout
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, Source, pace, unpack
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer

Event = dict[str, int]

DENSE, SPARSE = 1.0, 0.1
"""Shares of inputs that are not zero."""


def any_sample(plan: LayerPlan, share: float) -> list[Event]:
    """A sample's events; label and learn of all but the last are anything."""
    size = plan.input_format.max
    inputs = [i for i in range(plan.inputs) if random.random() < share]
    events = [(i, random.randint(1, size)) for i in inputs] + [(plan.inputs, plan.input_format.half)]
    return [
        {
            "index": index,
            "value": value,
            "last": index == plan.inputs,
            "label": random.randrange(plan.classes),
            "learn": random.getrandbits(1),
        }
        for index, value in events
    ]


@dataclass
class Held:
    """A sample in the buffer: the address of its first event, the one after its last, and its label."""

    start: int
    end: int
    label: int
    learn: int


class Model:
    """What the buffer should hold, and the comparison with what it shows, cycle by cycle."""

    def __init__(self, dut: Any, plan: LayerPlan) -> None:
        self._dut, self._plan = dut, plan
        self._word = EventBuffer(plan).event.shape()
        self._samples = EventBuffer(plan).samples.shape()
        self.held: deque[Held] = deque()
        self.most_held = self.taken = self.released = 0
        self._start = self._tail = 0
        self._memory: dict[int, Event] = {}
        self._asked: Event | None = None

    async def step(self, release: bool) -> None:
        """One cycle: reads any event of a held sample, and releases the oldest sample if there is one."""
        dut, plan = self._dut, self._plan
        release = release and bool(self.held)
        dut.release.value = release
        address = random.choice(self._addresses()) if self.held else random.randrange(plan.event_depth)
        dut.address.value = address
        await RisingEdge(dut.clk)
        self._compare()
        self._asked = self._memory[address] if self.held else None
        if dut.i__valid.value and dut.i__ready.value:
            self._take(unpack(event_layout(plan), int(dut.i__payload.value)))
        if release:
            self._start = self.held.popleft().end
            self.released += 1

    def _addresses(self) -> list[int]:
        depth = self._plan.event_depth
        return [(self._start + i) % depth for i in range((self.held[-1].end - self._start) % depth)]

    def _take(self, event: Event) -> None:
        self._memory[self._tail] = {"index": event["index"], "value": event["value"]}
        begin = self.held[-1].end if self.held else self._start
        self._tail = (self._tail + 1) % self._plan.event_depth
        if event["last"]:
            self.held.append(Held(begin, self._tail, event["label"], event["learn"]))
            self.most_held = max(self.most_held, len(self.held))
        self.taken += 1

    def _compare(self) -> None:
        dut = self._dut
        full = (self._tail + 1) % self._plan.event_depth == self._start or len(self.held) == SAMPLES_HELD
        expected = {
            "held": len(self.held),
            "start": self._start,
            "ready": not full,
            "taken": not full and bool(dut.i__valid.value),
        }
        actual = {
            "held": int(dut.held.value),
            "start": int(dut.start.value),
            "ready": bool(dut.i__ready.value),
            "taken": bool(dut.taken.value),
        }
        samples = unpack(self._samples, int(dut.samples.value))
        for number, held in enumerate(list(self.held)[:2]):
            expected[f"sample {number}"] = {"end": held.end, "label": held.label, "learn": held.learn}
            actual[f"sample {number}"] = samples[number]
        if self._asked is not None:
            expected["event"], actual["event"] = self._asked, unpack(self._word, int(dut.event.value))
        assert actual == expected, f"cycle {cycle()}: expected {expected}, actual {actual}"


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(idle=IDLE, share=(DENSE, SPARSE, 0.0), release=(0.02, 0.5))
async def holds_whole_samples_in_order(dut: Any, idle: str, share: float, release: float) -> None:
    """Events and releases at any pace, any event of the samples held read as often as one likes."""
    plan = parameters()
    await start(dut)
    model = Model(dut, plan)
    source = Source(dut, "i", event_layout(plan), pace(idle, random.getrandbits(32)))
    samples = [any_sample(plan, share) for _ in range(16)]
    source.send([event for sample in samples for event in sample])
    while model.released < len(samples):
        await model.step(random.random() < release)
    count = sum(map(len, samples))
    assert model.taken == count, f"expected {count} events taken, actual {model.taken}"


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(share=(DENSE, 0.0))
async def waits_when_full_until_a_release(dut: Any, share: float) -> None:
    """Without releases it fills up to its last free word, or to its last sample; one release lets it go on."""
    plan = parameters()
    await start(dut)
    model = Model(dut, plan)
    source = Source(dut, "i", event_layout(plan), pace("steady", 0))
    samples = [any_sample(plan, share) for _ in range(8)]
    source.send([event for sample in samples for event in sample])
    for _ in range(3):
        for _ in range(plan.event_depth + 10):
            await model.step(False)
        pending = source.pending
        for _ in range(20):
            await model.step(False)
        assert pending and source.pending == pending, (
            f"cycle {cycle()}: expected the full buffer to take nothing, actual {pending - source.pending} events"
        )
        held = min(SAMPLES_HELD, plan.event_depth - 1) if share == 0 else 1
        assert len(model.held) >= held, f"cycle {cycle()}: expected {held} samples held, actual {len(model.held)}"
        await model.step(True)
        for _ in range(5):
            await model.step(False)
        assert source.pending < pending, f"cycle {cycle()}: expected a release to make room, actual none"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(inputs=1, classes=2), id="1 input"),
        # Two samples without a zero take one word more than there are.
        pytest.param(layer(inputs=7), id="7 inputs"),
        pytest.param(layer(inputs=12, classes=100), id="12 inputs"),
    ],
)
def test_event_buffer(bench: Bench, plan: LayerPlan) -> None:
    bench(EventBuffer(plan), plan)
