"""The units that judge a layer's scores against the golden ones."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.layer_plan import ERROR_TABLE, LayerPlan
from locallearn.quant.spec import LayerSpec
from locallearn.rtl.error import ErrorUnit
from locallearn.rtl.hinge import HingeUnit
from locallearn.rtl.largest import Largest
from locallearn.rtl.timing import error_cycles
from locallearn.sim.bench import cycle, parameters, ports, start
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer


def any_scores(plan: LayerPlan) -> list[int]:
    """Ties, extremes, scores close enough to share the probability, or anything."""
    largest = plan.score_max
    lowest = -largest if plan.signed_scores else 0
    near = 2 << plan.margin_shift if plan.signed_scores else len(ERROR_TABLE) << plan.score_shift
    some = random.randint(lowest, largest)
    kind = random.choice(("equal", "extreme", "close", "any", "ties"))
    scores = {
        "equal": lambda: some,
        "extreme": lambda: random.choice((lowest, 0, 0, largest)),
        "close": lambda: min(max(some + random.randint(-near, near), lowest), largest),
        "any": lambda: random.randint(lowest, largest),
        "ties": lambda: max(lowest, some - random.choice((0, 0, 1 << plan.score_shift, near))),
    }[kind]
    return [scores() for _ in range(plan.classes)]


async def judge(dut: Any, plan: LayerPlan, scores: list[int], label: int, learn: bool) -> int:
    """Start and wait for `done`, then compare everything. Returns the cycles from start to done."""
    for port, score in zip(ports(dut, "scores", plan.classes), scores, strict=True):
        port.value = score
    learns = plan.classifier.error == "local"
    if learns:
        dut.label.value, dut.learn.value = label, learn
    dut.start.value = 1
    await RisingEdge(dut.clk)
    started = cycle()
    dut.start.value = 0
    while True:
        await RisingEdge(dut.clk)
        if dut.done.value:
            break
        assert cycle() - started < 1000, f"{scores}, label {label}: expected done, actual none in 1000 cycles"
    golden = np.array(scores)
    error = classifier.error(plan, golden, label)
    expected: dict[str, Any] = {"predicted": classifier.classify(golden)}
    actual: dict[str, Any] = {"predicted": int(dut.predicted.value)}
    if learns:
        expected["size"] = classifier.error_size(plan, error) if learn else 0
        actual["size"] = int(dut.size.value)
    if learns and learn:
        expected["errors"] = error.tolist()
        actual["errors"] = [port.value.to_signed() for port in ports(dut, "errors", plan.classes)]
    assert actual == expected, (
        f"cycle {cycle()}, scores {scores}, label {label}, learn {learn}: expected {expected}, actual {actual}"
    )
    return cycle() - started


@cocotb.test()
async def predicts_and_shares_out_the_error(dut: Any) -> None:
    """Random scores, labelled or not, with pauses or none; `done` comes when it is said to and once."""
    plan = parameters()
    await start(dut)
    for _ in range(200):
        learn = random.random() < 0.8
        took = await judge(dut, plan, any_scores(plan), random.randrange(plan.classes), learn)
        stated = error_cycles(plan, learn)
        assert took == stated, f"cycle {cycle()}: expected done {stated} cycles after start, actual {took}"
        for _ in range(random.choice((0, 0, 3))):
            await RisingEdge(dut.clk)
            assert not dut.done.value, f"cycle {cycle()}: expected done for one cycle, actual more"


@cocotb.test()
async def a_certain_winner_leaves_no_error(dut: Any) -> None:
    """With the label: an error of 0 in all classes, after one that was not. Without: all of the error."""
    plan = parameters()
    if plan.classifier != ClassifierSpec():
        return  # a softmax alone has no error then, and 1 at most
    await start(dut)
    largest = plan.neurons * plan.output_format.max
    label = plan.classes - 1
    certain = [0] * label + [largest]
    await judge(dut, plan, [0] * plan.classes, label, True)
    await judge(dut, plan, certain, label, True)
    assert int(dut.size.value) == 0, f"expected no error, actual {int(dut.size.value)}"
    await judge(dut, plan, certain, 0, True)
    assert int(dut.size.value) == 1 << plan.error_bits, f"expected an error of 1, actual {int(dut.size.value)}"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(20, classes=2), id="2 classes"),
        pytest.param(layer(20, classes=3, error_bits=2), id="3 classes"),
        pytest.param(layer(64, classes=10), id="10 classes"),
        pytest.param(layer(layers=(LayerSpec(300, 2, score_shift=0),), classes=100, error_bits=8), id="100 classes"),
    ],
)
def test_error_unit(bench: Bench, plan: LayerPlan) -> None:
    bench(ErrorUnit(plan), plan)


def layers(score_shift: int | None = None, **classifier: Any) -> tuple[LayerSpec, ...]:
    return (LayerSpec(30, score_shift=score_shift, classifier=ClassifierSpec(**classifier)),)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(layers=layers(loss="squared-hinge"), classes=2), id="2 classes"),
        pytest.param(
            layer(layers=layers(0, loss="squared-hinge", bits=3), classes=5, error_bits=8), id="narrow margin"
        ),
        pytest.param(layer(layers=layers(9, loss="squared-hinge"), classes=10, error_bits=2), id="wide margin"),
        pytest.param(layer(layers=layers(loss="squared-hinge"), classes=100), id="100 classes"),
        # Of 8 bits, and all of them: with the margin they need one more.
        pytest.param(
            layer(layers=(LayerSpec(1, classifier=ClassifierSpec(loss="squared-hinge")),), classes=3), id="full scores"
        ),
    ],
)
def test_hinge_unit(bench: Bench, plan: LayerPlan) -> None:
    bench(HingeUnit(plan), plan)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(layers=layers(error="label"), classes=classes), id=f"{classes} classes")
        for classes in (2, 3, 8, 100)
    ],
)
def test_largest(bench: Bench, plan: LayerPlan) -> None:
    bench(Largest(plan), plan)
