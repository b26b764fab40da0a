"""A whole convolutional layer against the golden one: answers, what it passes on, and all that it knows afterwards."""

import random
from typing import Any

import cocotb
import pytest

from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, TrainingSpec
from locallearn.rtl.conv import ConvLayer
from locallearn.rtl.target import SINGLE_PORT
from locallearn.sim.bench import parameters, start
from tests.rtl.conftest import Bench
from tests.rtl.layer_bench import PACES, Case, LayerBench, any_decay, network


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize((("idle", "stall"), (PACES[1], *PACES[::2])))
async def learns_like_the_golden_model(dut: Any, idle: str, stall: str) -> None:
    """Samples with and without labels, at two rates, then everything compared."""
    case = parameters()
    await start(dut)
    layer = LayerBench(dut, case, idle, stall)
    plan = layer.plan
    await layer.load()
    for _ in range(2):
        labels = [random.choice((None, *[random.randrange(plan.classes)] * 3)) for _ in range(5)]
        await layer.work([(layer.any_sample(), label) for label in labels], any_decay(plan))
    await layer.compare()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Case(
                network(
                    ConvSpec(5, pool=2, resolution=1, lanes=3, classifier=ClassifierSpec("learned", rate_shift=4)),
                    LayerSpec(2),
                    input=InputSpec(32, fraction=7, signed=True, shape=(2, 4, 4)),
                    classes=3,
                ),
                0,
            ),
            id="learned classifier, passes on",
        ),
        pytest.param(
            Case(
                network(
                    ConvSpec(2, 1, resolution=0),
                    ConvSpec(10, 2, stride=2, resolution=0, lanes=10),
                    input=InputSpec(18, shape=(2, 3, 3)),
                    training=TrainingSpec(5, (0, 1.5)),
                ),
                1,
                SINGLE_PORT,
            ),
            id="all pixels, 2 banks, single-port",
        ),
        pytest.param(
            Case(
                network(
                    ConvSpec(5, resolution=2, lanes=2, classifier=ClassifierSpec("learned"), frozen="weights"),
                    input=InputSpec(16, shape=(1, 4, 4)),
                    classes=3,
                ),
                0,
            ),
            id="only its classifier learns",
        ),
        # Where the layer above stalls, outputs of the one channel wait, and then come faster than cells can add. Cells
        # are small, so that each output is to be seen in the error, and not square.
        pytest.param(
            Case(network(ConvSpec(1, 1, resolution=3), LayerSpec(2), input=InputSpec(18, shape=(1, 3, 6))), 0),
            id="a single channel, passes on",
        ),
    ],
)
def test_conv_layer(bench: Bench, case: Case) -> None:
    bench(ConvLayer(NetworkPlan(case.spec), case.index, case.target), case)
