"""The event buffer against a list of samples."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.layer_plan import EVENT_MARGIN, SAMPLES_HELD, LayerPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.events import EventBuffer
from locallearn.rtl.layouts import event_layout, sample_layout
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import cycle, parameters, ports, start
from locallearn.sim.streams import IDLE, Source, pace, unpack
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer

Event = dict[str, int]

DENSE, SPARSE = 1.0, 0.1
"""Shares of inputs that are not zero."""


def any_sample(plan: LayerPlan, share: float, whole: bool = False) -> list[Event]:
    """A sample's events; label and learn of all but the last are anything, and so is `void`, where there is one, unless
    the sample is to come `whole`."""
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
        | ({"void": not whole and random.getrandbits(1)} if plan.can_be_void else {})
        for index, value in events
    ]


@dataclass
class Held:
    """A sample in the buffer: the addresses of its first event and of its last, and its label."""

    start: int
    end: int
    label: int
    learn: int


def below_an_exit(inputs: int) -> LayerPlan:
    """Samples can have stopped at the layer before."""
    return LayerPlan(NetworkSpec("", 3, InputSpec(4), (LayerSpec(inputs), LayerSpec(2)), early_exit=True), 1)


class Model:
    """What the buffer should hold, and the comparison with what it shows, cycle by cycle."""

    def __init__(self, dut: Any, plan: LayerPlan) -> None:
        self._dut, self._plan = dut, plan
        self._word = EventBuffer(plan, GENERIC).event.shape()
        self.held: deque[Held] = deque()
        self.taken = self.released = self.voided = 0
        self._start = self._begin = self._tail = 0
        self._arriving: Held | None = None
        self.used = 0
        self._memory: dict[int, Event] = {}
        self._asked = deque[Event | None]([None, None], 2)
        # The cycle after reset is not ready yet: the space was not known in it.
        self._ready, self._space = False, plan.event_depth - 1

    async def step(self, release: bool) -> None:
        """One cycle: reads any event of a held sample, and releases the oldest sample if there is one."""
        dut, plan = self._dut, self._plan
        release = release and bool(self.held)
        dut.release.value = release
        address = random.choice(self._addresses()) if self.held else random.randrange(plan.event_depth)
        dut.address.value = address
        await RisingEdge(dut.clk)
        self._compare()
        self._asked.append(self._memory[address] if self.held else None)
        enough, self._space = self._space >= EVENT_MARGIN, plan.event_depth - 1 - self.used
        arrived, self._arriving = self._arriving, None
        if dut.i__valid.value and dut.i__ready.value:
            self._take(unpack(event_layout(plan), int(dut.i__payload.value)))
        if release:
            self._start = self._after(self.held[0].end)
            self.used -= self._size(self.held.popleft())
            self.released += 1
        if arrived is not None:
            self.held.append(arrived)
        # What is behind a sample's last event waits until it is known how many are held then.
        self._ready = enough and self._arriving is None and len(self.held) < SAMPLES_HELD

    def _after(self, address: int) -> int:
        return (address + 1) % self._plan.event_depth

    def _size(self, sample: Held) -> int:
        return (sample.end - sample.start) % self._plan.event_depth + 1

    def _addresses(self) -> list[int]:
        return [(s.start + i) % self._plan.event_depth for s in self.held for i in range(self._size(s))]

    def _take(self, event: Event) -> None:
        self._memory[self._tail] = {"index": event["index"], "value": event["value"]}
        self.used += 1
        assert self.used < self._plan.event_depth, f"cycle {cycle()}: expected a free word, actual none"
        if event["last"] and event.get("void"):
            self.used -= (self._tail - self._begin) % self._plan.event_depth + 1
            self._tail = self._begin
            self.voided += 1
            self.taken += 1
            return
        if event["last"]:
            self._arriving = Held(self._begin, self._tail, event["label"], event["learn"])
            self._begin = self._after(self._tail)
        self._tail = self._after(self._tail)
        self.taken += 1

    def _compare(self) -> None:
        dut = self._dut
        expected = {
            "held": len(self.held),
            "start": self._start,
            "ready": self._ready,
            "taken": self._ready and bool(dut.i__valid.value),
        }
        actual = {
            "held": int(dut.held.value),
            "start": int(dut.start.value),
            "ready": bool(dut.i__ready.value),
            "taken": bool(dut.taken.value),
        }
        samples = [unpack(sample_layout(self._plan), int(port.value)) for port in ports(dut, "samples", 2)]
        for number, held in enumerate(list(self.held)[:2]):
            before = (held.end - 1) % self._plan.event_depth
            alone = held.start == held.end
            expected[f"sample {number}"] = {
                "before": before,
                "alone": alone,
                "label": held.label,
                "learn": held.learn,
            }
            actual[f"sample {number}"] = samples[number]
        if self._asked[0] is not None:
            expected["event"], actual["event"] = self._asked[0], unpack(self._word, int(dut.event.value))
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
    while model.released + model.voided < len(samples):
        await model.step(random.random() < release)
    count = sum(map(len, samples))
    assert model.taken == count, f"expected {count} events taken, actual {model.taken}"


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(share=(DENSE, 0.0))
async def waits_when_full_until_a_release(dut: Any, share: float) -> None:
    """Without releases it fills up to its margin or to its last sample; it goes on when the margin is free again."""
    plan = parameters()
    await start(dut)
    model = Model(dut, plan)
    source = Source(dut, "i", event_layout(plan), pace("steady", 0))
    samples = [any_sample(plan, share, whole=True) for _ in range(20)]
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
        full = plan.event_depth - 1 - model.used < EVENT_MARGIN or len(model.held) == SAMPLES_HELD
        assert full, f"cycle {cycle()}: expected it full, actual {len(model.held)} samples, {model.used} events"
        await model.step(True)
        while plan.event_depth - 1 - model.used < EVENT_MARGIN:
            await model.step(True)
        for _ in range(5):
            await model.step(False)
        assert source.pending < pending, f"cycle {cycle()}: expected releases to make room, actual none"


@pytest.mark.parametrize(
    "plan",
    [
        # Most of the words are the margin.
        pytest.param(layer(inputs=1, classes=2), id="1 input"),
        # Two samples without a zero take one word more than there are.
        pytest.param(layer(inputs=7), id="7 inputs"),
        pytest.param(layer(inputs=12, classes=100), id="12 inputs"),
        pytest.param(below_an_exit(inputs=1), id="below an exit"),
        pytest.param(below_an_exit(inputs=9), id="9 inputs below an exit"),
    ],
)
def test_event_buffer(bench: Bench, plan: LayerPlan) -> None:
    bench(EventBuffer(plan, GENERIC), plan)
