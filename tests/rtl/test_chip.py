"""The whole chip from bytes to bytes against the golden model, at any pace of both streams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from unittest.mock import ANY

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge
from numpy.typing import ArrayLike, NDArray

from locallearn.quant.formats import QFormat
from locallearn.quant.network import GoldenNetwork, LayerTrace, quantise_pixels
from locallearn.quant.packets import ACCESS, Opcode, encode_samples, pack, result_fields
from locallearn.quant.registers import CHIP, CHIP_COUNTERS, LAYER_COUNTERS, Kind, interface_fingerprint, regions
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.chip import Chip
from locallearn.rtl.target import GENERIC, SINGLE_PORT, Target
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, STALLS, Sink, Source, pace
from tests.rtl.conftest import Bench

PAIRS = [(idle, stalls) for i, idle in enumerate(IDLE) for j, stalls in enumerate(STALLS) if (i + j) % 5 == 0]
"""Each with another one; the blocks' own benches have them all."""

TRAINING = TrainingSpec(rate_shift=5, decay=(0, 2))
CASES = {
    "one lane": (NetworkSpec("", 3, InputSpec(6), (LayerSpec(5),), training=TRAINING), SINGLE_PORT),
    "three layers": (
        NetworkSpec(
            "",
            2,
            InputSpec(10, bits=6, fraction=5),
            (LayerSpec(7, lanes=3), LayerSpec(5, lanes=2), LayerSpec(6, lanes=4)),
            activation=QFormat(6, 3),
            weight=QFormat(9, 7, signed=True),
            training=TRAINING,
        ),
        GENERIC,
    ),
    "100 classes": (
        NetworkSpec("", 100, InputSpec(20), (LayerSpec(9, lanes=4),), error_bits=8, training=TRAINING),
        GENERIC,
    ),
    "banks of lanes": (
        NetworkSpec("", 10, InputSpec(8), (LayerSpec(10, lanes=9), LayerSpec(17, lanes=17)), training=TRAINING),
        SINGLE_PORT,
    ),
}


@pytest.mark.parametrize(("spec", "target"), CASES.values(), ids=CASES)
def test_chip(bench: Bench, spec: NetworkSpec, target: Target) -> None:
    bench(Chip(spec, target), spec)


# -- what is said --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What the chip must say next, byte by byte; ANY where timing decides, and what must be true of it then."""

    what: str
    expected: Sequence[Any]
    check: Callable[[bytes], None] = lambda said: None


class Dialogue:
    """What the host says, and what the chip must answer: the golden model learns while it is written."""

    def __init__(self, spec: NetworkSpec, rng: Random) -> None:
        self.spec = spec
        self.golden = GoldenNetwork(spec)
        self.requests = bytearray()
        self.answers: list[Answer] = []
        self._rng = rng
        self._regions = regions(self.golden.plan)
        self._samples = self._errors = self._cycles = 0
        # Of each layer: its last trace, its last error, and the events since the chip's reset.
        self._last: list[LayerTrace] = []
        self._last_errors: list[NDArray[np.int64] | None] = [None] * len(spec.layers)
        self._events = [0] * len(spec.layers)

    # -- regions

    def _access(self, opcode: Opcode, layer: int, kind: Kind, row: int, rows: int) -> None:
        self.requests += bytes([opcode]) + pack(ACCESS, layer=layer, kind=kind, row=row, rows=rows)

    def _raw(self, layer: int, kind: Kind, elements: ArrayLike) -> bytes:
        size = self._regions[layer, kind].size
        flat = (int(element) for element in np.asarray(elements).ravel())
        return b"".join((element % (1 << 8 * size)).to_bytes(size, "little") for element in flat)

    def write(self, layer: int, kind: Kind, elements: ArrayLike) -> None:
        """A whole region, in parts of a few rows."""
        region = self._regions[layer, kind]
        table = np.asarray(elements).reshape(region.rows, region.lanes)
        part = max(1, 20 // region.lanes)
        for row in range(0, region.rows, part):
            rows = table[row : row + part]
            self._access(Opcode.WRITE, layer, kind, row, len(rows))
            self.requests += self._raw(layer, kind, rows)
            self.answers.append(Answer(f"layer {layer}: {kind.name} written", bytes([Opcode.DONE])))

    def read(self, layer: int, kind: Kind, expected: ArrayLike, row: int = 0) -> None:
        """As many rows as are expected."""
        elements = np.asarray(expected)
        self._access(Opcode.READ, layer, kind, row, elements.size // self._regions[layer, kind].lanes)
        said = bytes([Opcode.DATA]) + self._raw(layer, kind, elements)
        self.answers.append(Answer(f"layer {layer}: {kind.name}", said))

    def reset(self) -> None:
        for layer in self.golden.layers:
            plan = layer.plan
            self.write(plan.index, Kind.CLASSIFIER_SEED, plan.classifier_seed)
            self.write(plan.index, Kind.NOISE_STATE, plan.noise_seed)
            self.write(plan.index, Kind.WEIGHTS, plan.to_rows(plan.initial_weights()))
            self.write(plan.index, Kind.COUNTERS, [0] * len(LAYER_COUNTERS))
        self.write(CHIP, Kind.COUNTERS, [0] * len(CHIP_COUNTERS))
        self.set_decay(0)

    def set_decay(self, shift: int) -> None:
        self.golden.decay = (shift,) * len(self.golden.layers)
        self.write(CHIP, Kind.DECAY, shift)

    # -- samples

    def samples(self, count: int) -> None:
        """Most of them labelled, with few, some and many zeros."""
        size = self.spec.input.size
        for _ in range(count):
            share = self._rng.choice([0, 0.2, 0.5, 1])
            pixels = [self._rng.randint(1, 255) if self._rng.random() < share else 0 for _ in range(size)]
            x = quantise_pixels(self.spec, np.array(pixels, np.uint8))
            label = self._rng.choice([None, *[self._rng.randrange(self.spec.classes)] * 3])
            self.requests += encode_samples(x[None], None if label is None else np.array([label]))[0]
            self._expect_result(x, label)

    def damaged_sample(self) -> None:
        """Of no class, and with a run beyond its end: two errors, and all its pixels are 0."""
        self.requests += bytes([Opcode.TRAIN, self.spec.classes, 0, self.spec.input.size])
        self._errors += 2
        self._expect_result(np.zeros(self.spec.input.size, np.uint8), None)

    def _expect_result(self, x: NDArray[np.uint8], label: int | None) -> None:
        self._last = self.golden.step(x, label)
        said = bytes([Opcode.RESULT])
        for index, trace in enumerate(self._last):
            said += pack(result_fields(self.golden.plan), predicted=trace.predicted, error=trace.error_size)
            self._events[index] += len(trace.event_index)
            if trace.error is not None:
                self._last_errors[index] = trace.error
        self.answers.append(Answer(f"sample {self._samples}", said))
        self._samples += 1

    def half_sample(self) -> None:
        """Given up at any byte: a sample that nobody learns from, and whose result is not for the next session."""
        size = self.spec.input.size
        pixels = np.array([self._rng.choice([0, self._rng.randint(1, 255)]) for _ in range(size)], np.uint8)
        packet = encode_samples(quantise_pixels(self.spec, pixels)[None], np.array([0]))[0]
        end = self._rng.randrange(1, len(packet))
        self.requests += packet[:end]
        # It ends as if zeros followed.
        read, rest = np.zeros(size, np.uint8), iter(packet[2:end])
        position = 0
        for byte in rest:
            if byte:
                read[position] = byte
                position += 1
            else:
                position += next(rest, -1) + 1
        self._expect_result(read, None)

    def half_access(self) -> None:
        """Of all weights: reads them, or writes what is there."""
        plan = self.golden.layers[-1].plan
        rows = plan.to_rows(self.golden.layers[-1].memory.weights)
        begin = len(self.requests)
        self._access(self._rng.choice([Opcode.READ, Opcode.WRITE]), plan.index, Kind.WEIGHTS, 0, len(rows))
        if self.requests[begin] == Opcode.WRITE:
            self.requests += self._raw(plan.index, Kind.WEIGHTS, rows)[:-1]
        # A READ whose header is whole is given up while it says its rows.
        end = self._rng.randint(1, len(self.requests) - begin)
        del self.requests[begin + end :]

    def garbage(self) -> None:
        """Bytes that are no opcode."""
        self.requests += b"\x00\x7f\xff"
        self._errors += 3

    # -- state

    def read_state(self) -> None:
        """Everything that can be read; nothing waits for the samples before but the chip itself."""
        self.read(CHIP, Kind.FINGERPRINT, [self.spec.fingerprint, interface_fingerprint(self.golden.plan)])
        self.read(CHIP, Kind.DECAY, self.golden.decay)
        self._read_counters(CHIP, CHIP_COUNTERS, self._chip_check())
        for index, layer in enumerate(self.golden.layers):
            plan, trace = layer.plan, self._last[index]
            self.read(index, Kind.WEIGHTS, plan.to_rows(layer.memory.weights))
            self.read(index, Kind.NOISE_STATE, layer.noise.state)
            self.read(index, Kind.CLASSIFIER_SEED, plan.classifier_seed)
            self.read(index, Kind.SCORES, trace.scores)
            errors = self._last_errors[index]
            if errors is not None:
                self.read(index, Kind.ERRORS, errors)
            end, depth = self._events[index], plan.event_depth
            begin = end - len(trace.event_index)
            self.read(index, Kind.EVENT_SPAN, [begin % depth, end % depth])
            for number, (i, value) in enumerate(zip(trace.event_index, trace.event_value, strict=True)):
                event = i << plan.input_format.bits | value
                self.read(index, Kind.EVENTS, event, row=(begin + number) % depth)
            self._read_counters(index, LAYER_COUNTERS, self._layer_check(index))

    def _read_counters(self, layer: int, names: tuple[str, ...], check: Callable[[dict[str, int]], None]) -> None:
        size = self._regions[layer, Kind.COUNTERS].size

        def decode(said: bytes) -> None:
            values = (int.from_bytes(said[at : at + size], "little") for at in range(1, len(said), size))
            check(dict(zip(names, values, strict=True)))

        self._access(Opcode.READ, layer, Kind.COUNTERS, 0, len(names))
        said = [Opcode.DATA, *[ANY] * len(names) * size]
        self.answers.append(Answer(f"layer {layer}: {Kind.COUNTERS.name}", said, decode))

    def _chip_check(self) -> Callable[[dict[str, int]], None]:
        """For the counters as the samples up to now define them."""
        expected = {"samples": self._samples, "link_errors": self._errors, "bad_frames": 0, "missed_frames": 0}

        def check(counters: dict[str, int]) -> None:
            self._cycles = counters.pop("cycles")
            assert counters == expected

        return check

    def _layer_check(self, index: int) -> Callable[[dict[str, int]], None]:
        """For those that the samples up to now define; and every cycle of the chip's is accounted for."""
        golden = replace(self.golden.layers[index].counters)

        def check(counters: dict[str, int]) -> None:
            for name in ("events", "learned", "skipped", "saturated"):
                assert counters[name] == getattr(golden, name), name
            assert counters["updates"] == golden.words_written
            assert counters["forward"] - counters["discarded"] == golden.words_read - golden.words_written
            accounted = sum(counters[name] for name in ("forward", "updates", "starved", "waiting"))
            assert accounted == self._cycles, f"{accounted} of {self._cycles} cycles"

        return check


# -- the bench -----------------------------------------------------------------------------------------


async def rest(dut: Any) -> None:
    """Until nothing is in flight."""
    since = cycle()
    while not dut.idle.value:
        assert cycle() - since < 1000, f"not at rest since cycle {since}"
        await RisingEdge(dut.clk)


async def hold(dut: Any, sink: Sink, dialogue: Dialogue) -> None:
    """The answers, in their order and nothing else; then the chip is at rest."""
    begin = 0
    for answer in dialogue.answers:
        end = begin + len(answer.expected)
        try:
            await sink.expect(answer.expected)
            answer.check(bytes(received.payload for received in sink.received[begin:end]))
        except AssertionError as error:
            raise AssertionError(f"{answer.what}: {error}") from None
        begin = end
    await rest(dut)
    for _ in range(50):
        await RisingEdge(dut.clk)
        assert dut.idle.value
    sink.expect_nothing_more()


@cocotb.test
@cocotb.parametrize((("idle", "stalls"), PAIRS))
async def answers_as_the_golden_model_at_any_pace(dut: Any, idle: str, stalls: str) -> None:
    """Reads and writes right behind samples, errors in between, all of it sent ahead."""
    await start(dut)
    dialogue = Dialogue(parameters(), Random(f"{idle} {stalls}"))
    dialogue.reset()
    dialogue.samples(8)
    dialogue.read_state()
    dialogue.garbage()
    dialogue.samples(3)
    dialogue.damaged_sample()
    dialogue.set_decay(2)
    dialogue.samples(8)
    dialogue.read_state()
    source, sink = Source(dut, "i", 8, pace(idle, 1)), Sink(dut, "o", 8, pace(stalls, 2))
    source.send(dialogue.requests)
    await hold(dut, sink, dialogue)


@cocotb.test
async def nothing_is_lost_while_the_host_is_silent(dut: Any) -> None:
    """The host takes no byte until all that has room in the chip is full."""
    await start(dut)
    dialogue = Dialogue(parameters(), Random(1))
    dialogue.reset()
    source, sink = Source(dut, "i", 8, pace("steady", 1)), Sink(dut, "o", 8, lambda waiting: not silent)
    silent = False
    source.send(dialogue.requests)
    await source.drained()
    await rest(dut)
    silent = True
    sent = len(dialogue.requests)
    dialogue.samples(80)
    dialogue.read_state()
    source.send(dialogue.requests[sent:])
    left, since = 0, cycle()
    while cycle() - since < 5000:
        if source.pending != left:
            left, since = source.pending, cycle()
        await RisingEdge(dut.clk)
    assert left, "the chip cannot hold 80 samples"
    assert not dut.idle.value
    silent = False
    await hold(dut, sink, dialogue)


@cocotb.test
async def at_rest_when_learned(dut: Any) -> None:
    """`idle` means that learning is over, not only said: what comes next need not wait."""
    await start(dut)
    dialogue = Dialogue(parameters(), Random(2))
    source, sink = Source(dut, "i", 8, pace("steady", 1)), Sink(dut, "o", 8, pace("steady", 2))
    said = 0

    async def speak() -> int:
        """What is new in the dialogue, once the chip is at rest. Returns the cycles until its first answer."""
        nonlocal said
        await rest(dut)
        source.send(dialogue.requests[said:])
        said, begin, answered = len(dialogue.requests), cycle(), len(sink.received)
        await source.drained()
        while len(sink.received) == answered:
            await RisingEdge(dut.clk)
        return sink.received[answered].cycle - begin

    dialogue.reset()
    await speak()
    dialogue.read(CHIP, Kind.DECAY, 0)
    undisturbed = await speak()
    for _ in range(10):
        dialogue.samples(1)
        await speak()
        dialogue.read(CHIP, Kind.DECAY, 0)
        assert await speak() == undisturbed
    await hold(dut, sink, dialogue)


@cocotb.test
@cocotb.parametrize(idle=IDLE)
async def gives_up_what_is_under_way(dut: Any, idle: str) -> None:
    """In the middle of packets, with samples in flight: it learns from all that were whole, and from no half one."""
    await start(dut)
    rng = Random(idle)
    dialogue = Dialogue(parameters(), rng)
    source, sink = Source(dut, "i", 8, pace(idle, 1)), Sink(dut, "o", 8, pace("steady", 2))
    said = 0

    def speak() -> None:
        nonlocal said
        source.send(dialogue.requests[said:])
        said = len(dialogue.requests)

    dialogue.reset()
    speak()
    await hold(dut, sink, dialogue)
    for number in range(12):
        dialogue.samples(rng.randint(0, 4))
        rng.choice([dialogue.half_sample, dialogue.half_access])()
        speak()
        await source.drained()
        for _ in range(rng.choice([0, 5, 50, 500])):
            await RisingEdge(dut.clk)
        dut.abort.value = 1
        await RisingEdge(dut.clk)
        await at_rest(dut, f"session {number}")
        dut.abort.value = 0
        # What was said is dropped by the link.
        dialogue.answers.clear()
        sink.received.clear()
        sink._compared = 0
        dialogue.samples(2)
        dialogue.read_state()
        speak()
        await hold(dut, sink, dialogue)


async def at_rest(dut: Any, what: str) -> None:
    """For as long as the link waits for it."""
    since, still = cycle(), 0
    while still < 16:
        await RisingEdge(dut.clk)
        still = still + 1 if dut.idle.value else 0
        assert cycle() - since < 3000, f"{what}: not at rest since cycle {since}"
