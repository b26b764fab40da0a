"""A whole layer against the golden one: answers, what it passes on, and all that it knows afterwards."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.formats import QFormat
from locallearn.quant.network import GoldenDense
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import LayerSpec, TrainingSpec
from locallearn.rtl.dense import DenseLayer
from locallearn.rtl.target import SINGLE_PORT
from locallearn.rtl.timing import READOUT, SUM, error_cycles
from locallearn.sim.bench import cycle, parameters, start
from tests.rtl.conftest import Bench
from tests.rtl.layer_bench import PACES, Case, LayerBench, any_decay, network


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("idle", "stall"), PACES))
async def learns_like_the_golden_model(dut: Any, idle: str, stall: str) -> None:
    """Samples with and without labels, at four rates, then everything compared."""
    case = parameters()
    await start(dut)
    layer = LayerBench(dut, case, idle, stall)
    plan = layer.plan
    await layer.load()
    for _ in range(4):
        labels = [random.choice((None, *[random.randrange(plan.classes)] * 4)) for _ in range(8)]
        await layer.work([(layer.any_sample(), label) for label in labels], any_decay(plan))
    await layer.compare()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def learns_at_any_moment_of_the_next_sample(dut: Any) -> None:
    """A sample with an error, and another one that arrives a little sooner or later before that error is known."""
    case = parameters()
    await start(dut)
    layer = LayerBench(dut, case, "steady", "steady")
    await layer.load()
    x = np.full(layer.plan.inputs, layer.plan.input_format.max)
    layer.begin(0)
    layer.send(x, wrong_label(layer, x))
    sent = cycle()
    await layer.finish()
    known = layer.results.received[0].cycle - sent
    for gap in range(max(0, known - 25 - 2 * layer.plan.groups), known + 5):
        layer.begin(0)
        layer.send(x, wrong_label(layer, x))
        for _ in range(gap):
            await RisingEdge(dut.clk)
        few = np.zeros_like(x)
        few[: random.randrange(3)] = 1
        layer.send(few, wrong_label(layer, few))
        await layer.finish()
    await layer.compare()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def infers_in_the_stated_time(dut: Any) -> None:
    """A sample after another without a zero: rows are read in every cycle, unless the answers take longer."""
    case = parameters()
    await start(dut)
    layer = LayerBench(dut, case, "steady", "steady")
    await layer.load()
    await layer.work([(np.full(layer.plan.inputs, layer.plan.input_format.max), None)] * 8, 0)
    await layer.compare()
    cycles = [received.cycle for received in layer.results.received]
    # Before the first ones events were still arriving.
    intervals = np.diff(cycles)[3:].tolist()
    plan = layer.plan
    # Two cycles after a group's last activation was begun there is room for another group, whose last row is read then.
    group = max(plan.fan_in, SUM + plan.lanes + 2)
    # A cycle goes before a sample's first row.
    rows = 1 + plan.fan_in + (plan.groups - 1) * group
    activations = plan.neurons + (plan.groups - 1) * (SUM + 2) + READOUT
    answer = activations + error_cycles(plan, learn=False) + 2
    expected = max(rows, answer)
    assert intervals == [expected] * 4, f"expected {expected} cycles a sample, actual {intervals}"


def wrong_label(layer: LayerBench, x: NDArray[np.int64]) -> int:
    """Any label but the one that the layer would predict: there is an error to learn from."""
    plan, golden = layer.plan, layer.golden
    assert isinstance(golden, GoldenDense)
    (index,) = x.nonzero()
    index, value = np.append(index, plan.inputs), np.append(x[index], plan.input_format.half)
    predicted = classifier.classify(classifier.scores(plan, golden.matrix, golden.memory.forward(index, value)))
    return (predicted + random.randrange(1, plan.classes)) % plan.classes


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(network(LayerSpec(10, 4), LayerSpec(3)), 0), id="padding, passes on"),
        pytest.param(
            Case(network(LayerSpec(6, 2), LayerSpec(5, 1), activation=QFormat(4, 2)), 1, SINGLE_PORT),
            id="1 lane, single-port",
        ),
        pytest.param(
            Case(network(LayerSpec(1), LayerSpec(1), inputs=1, classes=5, training=TrainingSpec(3, (0,))), 0),
            id="1 input, 1 neuron",
        ),
        pytest.param(
            Case(
                network(LayerSpec(8, 8), inputs=40, classes=100, error_bits=8, weight=QFormat(16, 14, signed=True)), 0
            ),
            id="100 classes",
        ),
        pytest.param(
            Case(network(LayerSpec(20, 9), LayerSpec(3), training=TrainingSpec(3, (0, 1.5))), 0, SINGLE_PORT),
            id="2 banks, single-port, a decay of fractions",
        ),
        pytest.param(Case(network(LayerSpec(30, 21)), 0), id="3 banks"),
        pytest.param(Case(network(LayerSpec(10, 4, frozen="all"), LayerSpec(3)), 0), id="frozen"),
        pytest.param(
            Case(network(LayerSpec(10, 4, classifier=ClassifierSpec("learned"), frozen="weights"), inputs=40), 0),
            id="only its classifier learns",
        ),
        # An empty sample comes through the lanes sooner than the classifier has learned all its rows.
        pytest.param(
            Case(
                network(LayerSpec(40, 8, classifier=ClassifierSpec("learned"), frozen="weights"), inputs=40, classes=3),
                0,
            ),
            id="many rows of the classifier",
        ),
    ],
)
def test_dense_layer(bench: Bench, case: Case) -> None:
    bench(DenseLayer(NetworkPlan(case.spec), case.index, case.target), case)
