"""The result encoder: layers' results, each layer later than the one before it, as packets."""

from collections import deque
from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.layer_plan import SAMPLES_HELD
from locallearn.quant.packets import Opcode, pack, record_size, result_fields
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec
from locallearn.rtl.layouts import result_layout
from locallearn.rtl.results import ResultEncoder
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, STALLS, Sink, Source, pace
from tests.rtl.conftest import Bench

SPECS = {
    "one layer": NetworkSpec("", 2, InputSpec(1), (LayerSpec(1),), error_bits=2),
    "six layers": NetworkSpec("", 256, InputSpec(1), (LayerSpec(1),) * 6, error_bits=8),
    "early exit": NetworkSpec("", 3, InputSpec(1), (LayerSpec(1),) * 3, early_exit=True),
}

Result = dict[str, int]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_result_encoder(bench: Bench, spec: NetworkSpec) -> None:
    bench(ResultEncoder(NetworkPlan(spec)), NetworkPlan(spec))


class Board:
    """The encoder behind layers of which each answers a sample only after the one before it has.

    `idle` is the pace of all layers, `last` that of the last one if it has its own.
    """

    def __init__(self, dut: Any, idle: str = "steady", stalls: str = "steady", last: str | None = None) -> None:
        self.dut = dut
        self.plan: NetworkPlan = parameters()
        layout = result_layout(self.plan)
        idles = [*[idle] * (len(self.plan.layers) - 1), last or idle]
        self.layers = [Source(dut, f"i__{n}", layout, pace(kind, n)) for n, kind in enumerate(idles)]
        self.sink = Sink(dut, "o", 8, pace(stalls, 99))
        self.sent: list[int] = []
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.sent.value:
                self.sent.append(cycle())

    def any_results(self, rng: Random, count: int, stop: bool = True) -> list[list[Result]]:
        """Of so many samples, layer by layer; where they can `stop`, down to the one that says so."""
        fields = result_fields(self.plan)
        samples: list[list[Result]] = [[] for _ in range(count)]
        for sample in samples:
            while len(sample) < len(self.layers) and not (sample and sample[-1].get("stopped")):
                sample.append({name: rng.getrandbits(width) for name, width in fields.items()})
                if "stopped" in fields and not (stop and len(sample) < len(self.layers)):
                    sample[-1]["stopped"] = 0
        return samples

    def packet(self, sample: list[Result]) -> bytes:
        fields = result_fields(self.plan)
        size = 1 + len(self.layers) * record_size(fields)
        return (bytes([Opcode.RESULT]) + b"".join(pack(fields, **result) for result in sample)).ljust(size, b"\0")

    async def answer(self, samples: list[list[Result]]) -> None:
        """Give all results, none before the layer above has given its own."""
        waiting = [
            deque((number, sample[index]) for number, sample in enumerate(samples) if index < len(sample))
            for index in range(len(self.layers))
        ]
        given: list[list[int]] = [[] for _ in self.layers]
        while any(waiting):
            passed = len(samples)
            for results, numbers, source in zip(waiting, given, self.layers, strict=True):
                while results and results[0][0] < passed:
                    number, result = results.popleft()
                    source.send([result])
                    numbers.append(number)
                taken = numbers[: len(numbers) - source.pending]
                passed = 1 + max(taken, default=-1)
            await RisingEdge(self.dut.clk)

    async def check(self, samples: list[list[Result]]) -> None:
        cocotb.start_soon(self.answer(samples))
        packets = [self.packet(sample) for sample in samples]
        await self.sink.expect(b"".join(packets))
        for _ in range(20):
            await RisingEdge(self.dut.clk)
        self.sink.expect_nothing_more()
        ends = range(len(packets[0]) - 1, len(self.sink.received), len(packets[0]))
        assert self.sent == [self.sink.received[end].cycle for end in ends]


@cocotb.test
@cocotb.parametrize(idle=IDLE, stalls=STALLS)
async def any_results_at_any_pace(dut: Any, idle: str, stalls: str) -> None:
    await start(dut)
    board = Board(dut, idle, stalls)
    await board.check(board.any_results(Random(f"{idle} {stalls}"), 20))


@cocotb.test
@cocotb.parametrize(slow=IDLE)
async def first_layers_far_ahead(dut: Any, slow: str) -> None:
    """The last layer is the slow one: all the others have filled what waits for it."""
    await start(dut)
    board = Board(dut, last=slow)
    await board.check(board.any_results(Random(slow), 50))


@cocotb.test
@cocotb.parametrize(slow=IDLE)
async def last_layer_ahead(dut: Any, slow: str) -> None:
    """As it is behind a convolution, which judges when it has passed everything on."""
    await start(dut)
    board = Board(dut, slow, last="steady")
    samples = board.any_results(Random(slow), 50)
    for index, source in enumerate(board.layers):
        source.send(sample[index] for sample in samples if index < len(sample))
    await board.sink.expect(b"".join(board.packet(sample) for sample in samples))


@cocotb.test
async def room_for_a_layer_ahead(dut: Any) -> None:
    """While the last layer is silent, each takes as many results as samples can lie between it and the last."""
    await start(dut)
    board = Board(dut)
    samples = board.any_results(Random(1), 100, stop=False)
    for index, source in enumerate(board.layers[:-1]):
        source.send(sample[index] for sample in samples)
    for _ in range(200):
        await RisingEdge(dut.clk)
    board.sink.expect_nothing_more()
    for index, source in enumerate(board.layers[:-1]):
        assert len(samples) - source.pending >= (SAMPLES_HELD + 1) * (len(board.layers) - index)
    board.layers[-1].send(sample[-1] for sample in samples)
    await board.sink.expect(b"".join(board.packet(sample) for sample in samples))


@cocotb.test
async def one_byte_a_cycle(dut: Any) -> None:
    """Within a packet, and from packet to packet."""
    await start(dut)
    board = Board(dut)
    samples = board.any_results(Random(1), 20)
    for index, source in enumerate(board.layers):
        source.send(sample[index] for sample in samples if index < len(sample))
    await board.sink.expect(b"".join(board.packet(sample) for sample in samples))
    cycles = [received.cycle for received in board.sink.received]
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))
    assert len(cycles) == len(samples) * (1 + len(board.layers) * record_size(result_fields(board.plan)))
