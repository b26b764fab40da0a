"""A layer of any kind and its golden model in the same state, in a bench: streams at any pace, the host's access."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import GoldenConv, GoldenDense, GoldenLayer, LayerTrace
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.registers import LAYER_COUNTERS, Kind, regions
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from locallearn.rtl.layouts import event_layout, result_layout
from locallearn.rtl.target import GENERIC, Target
from locallearn.sim.bench import cycle
from locallearn.sim.streams import Sink, Source, pace
from tests.compare import assert_same

__all__ = ["PACES", "Case", "LayerBench", "any_decay", "network"]

Payload = dict[str, int]


PACES = (
    ("steady", "steady"),
    ("steady", "rare"),
    ("rare", "steady"),
    ("alternate", "random"),
    ("random", "bursts"),
    ("bursts", "reluctant"),
)
"""Paces of the input, and of what takes results and events."""


@dataclass(frozen=True)
class Case:
    """A layer of a network, and what it is made for."""

    spec: NetworkSpec
    index: int
    target: Target = GENERIC


class Host:
    """Reads and writes the layer's regions, lane by lane and row by row; in between, its wires say anything."""

    def __init__(self, dut: Any, network: NetworkPlan, plan: LayerPlan) -> None:
        self._dut = dut
        self._regions = {kind: region for (layer, kind), region in regions(network).items() if layer == plan.index}

    async def _access(self, kind: Kind, row: int, lane: int, write: int | None = None) -> int:
        dut = self._dut
        self._say(kind, row, lane, write is not None, random.getrandbits(64) if write is None else write)
        dut.access__request.value = 1
        await RisingEdge(dut.clk)
        dut.access__request.value = 0
        begun = cycle()
        while not dut.access__done.value:
            await RisingEdge(dut.clk)
            assert cycle() - begun < 40, f"{kind.name}[{row}][{lane}]: expected done, actual none in 40 cycles"
        actual = int(dut.access__read.value)
        self._say(random.choice(list(Kind)), *(random.getrandbits(64) for _ in range(4)))
        for _ in range(random.choice((0, 0, 3))):
            await RisingEdge(dut.clk)
        return actual

    def _say(self, kind: Kind, *fields: int) -> None:
        self._dut.access__kind.value = kind
        for name, value in zip(("row", "lane", "write", "data"), fields, strict=True):
            # Where no layer has more than one lane there is no port for it.
            port = getattr(self._dut, f"access__{name}", None)
            if port is not None:
                port.value = value & (1 << len(port)) - 1

    async def read(self, kind: Kind, rows: Iterable[int] | None = None) -> NDArray[Any]:
        """Rows of a region, all by default; shape (rows, lanes), unsigned 64-bit elements as such."""
        region = self._regions[kind]
        table = []
        for row in range(region.rows) if rows is None else rows:
            elements = [await self._access(kind, row, lane) & (1 << region.bits) - 1 for lane in range(region.lanes)]
            negative = [region.signed and element >> region.bits - 1 for element in elements]
            table.append([e - (1 << region.bits) if n else e for e, n in zip(elements, negative, strict=True)])
        return np.array(table, np.uint64 if region.bits == 64 else np.int64)

    async def write(self, kind: Kind, table: Any) -> None:
        """A region's rows."""
        for row, lanes in enumerate(table):
            for lane, element in enumerate(lanes):
                await self._access(kind, row, lane, int(element))


class LayerBench:
    """The layer, its golden model in the same state, and streams at any pace."""

    def __init__(self, dut: Any, case: Case, idle: str, stall: str) -> None:
        network = NetworkPlan(case.spec)
        self.plan = plan = network.layers[case.index]
        self._dut = dut
        self.golden: GoldenLayer = GoldenConv(plan) if isinstance(plan, ConvPlan) else GoldenDense(plan)
        self._host = Host(dut, network, plan)
        self._next = network.layers[case.index + 1] if case.index + 1 < len(network.layers) else None
        paces = [pace(kind, random.getrandbits(32)) for kind in (idle, stall, stall)]
        self._input = Source(dut, "i", event_layout(plan), paces[0])
        self.results = Sink(dut, "result", result_layout(network), paces[1])
        self._output = Sink(dut, "o", event_layout(self._next), paces[2]) if self._next else None
        self._expected_results: list[Payload] = []
        self._expected_output: list[Payload] = []
        self._begun = self._busy_cycles = 0
        self._decay = 0.0
        self._last: LayerTrace | None = None
        self._last_error: NDArray[np.int64] | None = None

    async def load(self) -> None:
        """The golden model's weights, any of the format, and its registers; counters to 0."""
        plan, golden, form = self.plan, self.golden, self.plan.weight_format
        rng = np.random.default_rng(random.getrandbits(64))
        weights = rng.integers(form.min, form.max, (plan.neurons, plan.fan_in), np.int32, endpoint=True)
        golden.memory.weights = np.where(rng.random(weights.shape) < 0.2, form.max, weights)
        await self._host.write(Kind.WEIGHTS, plan.to_rows(golden.memory.weights))
        if plan.classifier.learns:
            own = plan.classifier.format
            golden.matrix[:] = rng.integers(own.min, own.max, golden.matrix.shape, np.int32, endpoint=True)
            await self._host.write(Kind.CLASSIFIER, golden.matrix)
            await self._host.write(Kind.MATRIX_NOISE_STATE, [[plan.matrix_noise_seed]])
        else:
            await self._host.write(Kind.CLASSIFIER_SEED, [[plan.classifier_seed]])
        await self._host.write(Kind.NOISE_STATE, [[plan.noise_seed]])
        await self._host.write(Kind.FROZEN, [[plan.frozen_flags]])
        await self._host.write(Kind.COUNTERS, [[0]])

    def any_sample(self) -> NDArray[np.int64]:
        """Few, some or all inputs are not zero."""
        share = random.choice((0, 0.2, 0.5, 1))
        return np.array([self._any_input() if random.random() < share else 0 for _ in range(self.plan.inputs)])

    def _any_input(self) -> int:
        form = self.plan.input_format
        return random.choice((1, form.max, form.min or 1, random.randint(1, form.max)))

    def send(self, x: NDArray[np.int64], label: int | None) -> None:
        """Offer a sample, and let the golden model answer it."""
        plan = self.plan
        trace = self.golden.infer(x, drop=label is not None)
        if label is not None:
            trace = self.golden.learn(trace, self.golden.error(trace, label), self._decay)
            self._last_error = trace.error
        self._last = trace
        shown = random.randrange(plan.classes) if label is None else label
        values = trace.event_value & (1 << plan.input_format.bits) - 1
        events = list(zip(trace.event_index.tolist(), values.tolist(), strict=True))
        self._input.send(_stream(events, shown, label is not None, plan, scramble=True))
        self._expected_results.append({"predicted": trace.predicted, "error": trace.error_size})
        if self._next is not None:
            active = [(i, y) for i, y in enumerate(trace.activations.tolist()) if y]
            bias = (self._next.inputs, self._next.input_format.half)
            self._expected_output += _stream([*active, bias], shown, label is not None, plan)

    def begin(self, decay: float) -> None:
        """Samples may be sent from now on, to be learned at this rate."""
        self._decay = decay
        if self.plan.max_decay:
            self._dut.decay.value = int(decay * 2**self.plan.decay_fraction)
        self._dut.busy.value = 1
        self._begun = cycle()

    async def finish(self) -> None:
        """Compare all answers, and wait until the layer is at rest."""
        dut = self._dut
        await self.results.expect(self._expected_results)
        if self._output is not None:
            await self._output.expect(self._expected_output)
        self._expected_results, self._expected_output = [], []
        while dut.working.value:
            await RisingEdge(dut.clk)
            assert cycle() - self.results.received[-1].cycle < 5000, f"cycle {cycle()}: expected rest, actual work"
        dut.busy.value = 0
        self._busy_cycles += cycle() - self._begun
        for _ in range(20):
            await RisingEdge(dut.clk)
        self.results.expect_nothing_more()
        if self._output is not None:
            self._output.expect_nothing_more()

    async def work(self, samples: Iterable[tuple[NDArray[np.int64], int | None]], decay: float) -> None:
        """Begin, send all of these, finish."""
        self.begin(decay)
        for x, label in samples:
            self.send(x, label)
        await self.finish()

    async def compare(self) -> None:
        """Every weight, register and counter with the golden model's."""
        plan, golden, host = self.plan, self.golden, self._host
        assert self._last is not None
        where = f"after cycle {cycle()}: "
        assert_same(f"{where}weights", plan.to_rows(golden.memory.weights), await host.read(Kind.WEIGHTS))
        noise = (await host.read(Kind.NOISE_STATE)).item()
        assert noise == golden.noise.state, f"{where}expected noise {golden.noise.state:#x}, actual {noise:#x}"
        if plan.classifier.learns:
            assert_same(f"{where}classifier", golden.matrix, await host.read(Kind.CLASSIFIER))
            noise, state = (await host.read(Kind.MATRIX_NOISE_STATE)).item(), golden.matrix_noise.state
            assert noise == state, f"{where}expected the classifier's noise {state:#x}, actual {noise:#x}"
        else:
            seed = (await host.read(Kind.CLASSIFIER_SEED)).item()
            assert seed == plan.classifier_seed, f"{where}expected seed {plan.classifier_seed:#x}, actual {seed:#x}"
        assert_same(f"{where}frozen", [[plan.frozen_flags]], await host.read(Kind.FROZEN))
        assert_same(f"{where}scores", self._last.scores, (await host.read(Kind.SCORES))[:, 0])
        if self._last_error is not None:
            assert_same(f"{where}errors", self._last_error, (await host.read(Kind.ERRORS))[:, 0])

        if not isinstance(plan, ConvPlan):
            begin, end = (await host.read(Kind.EVENT_SPAN))[:, 0].tolist()
            addresses = [(begin + i) % plan.event_depth for i in range((end - begin) % plan.event_depth)]
            events = self._last.event_index << plan.input_format.bits | self._last.event_value
            assert_same(f"{where}events", events, (await host.read(Kind.EVENTS, addresses))[:, 0])

        counts = dict(zip(LAYER_COUNTERS, (await host.read(Kind.COUNTERS))[:, 0].tolist(), strict=True))
        expected = golden.counters
        assert_same(f"{where}events counted", expected.events, counts["events"])
        assert_same(f"{where}rows updated", expected.words_written, counts["updates"])
        forward = expected.words_read - expected.words_written
        assert_same(f"{where}rows forward", forward, counts["forward"] - counts["discarded"])
        for name in ("gradients", "learned", "skipped", "saturated"):
            assert_same(f"{where}{name}", getattr(expected, name), counts[name])
        cycles = sum(counts[name] for name in ("forward", "gradients", "updates", "starved", "waiting"))
        assert_same(f"{where}cycles accounted for", self._busy_cycles, cycles)


def _stream(
    events: list[tuple[int, int]], label: int, learn: bool, plan: LayerPlan, scramble: bool = False
) -> list[Payload]:
    """A sample's payloads; scrambled, only the last one has the true label, as that is what counts."""
    payloads = [
        {"index": index, "value": value, "last": False, "label": label, "learn": learn} for index, value in events
    ]
    if scramble:
        for payload in payloads:
            payload |= {"label": random.randrange(plan.classes), "learn": random.getrandbits(1)}
    payloads[-1] |= {"last": True, "label": label, "learn": learn}
    return payloads


def any_decay(plan: LayerPlan) -> float:
    """As fine as the layer's decay is."""
    return random.randint(0, plan.max_decay << plan.decay_fraction) / 2**plan.decay_fraction


def network(*layers: LayerSpec | ConvSpec, inputs: int = 20, rate_shift: int = 3, **changes: Any) -> NetworkSpec:
    given = {"classes": 10, "input": InputSpec(inputs), "training": TrainingSpec(rate_shift, decay=(0, 2))}
    return NetworkSpec("bench", layers=layers, **(given | changes))
