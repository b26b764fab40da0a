"""The classifier's scores and projected errors against the golden ones."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.spec import ConvSpec, LayerSpec
from locallearn.rtl.classifier import Classifier
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.target import GENERIC
from locallearn.rtl.timing import group_cycles, score_cycles
from locallearn.sim.bench import cycle, parameters, ports, start
from locallearn.sim.streams import pack
from tests.rtl.conftest import Bench
from tests.rtl.plans import convolution, layer

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


async def restart(dut: Any) -> None:
    """To the first neuron's entries."""
    dut.restart.value = 1
    await RisingEdge(dut.clk)
    dut.restart.value = 0


async def forward(dut: Any, plan: LayerPlan, activations: Ints, active: Bools) -> None:
    """All activations, with pauses in which nothing is to be taken."""
    layout = activation_layout(plan)
    for i, (value, learns) in enumerate(zip(activations.tolist(), active.tolist(), strict=True)):
        while random.random() < 0.2:
            dut.activation.value, dut.take.value = random.getrandbits(len(dut.activation)), 0
            await RisingEdge(dut.clk)
        last = i == plan.features - 1
        fields = {"index": i, "value": value, "active": learns, "first": i == 0, "last": last}
        dut.activation.value = pack(layout, fields)
        dut.take.value = 1
        await RisingEdge(dut.clk)
    dut.take.value = 0


async def backward(dut: Any, plan: LayerPlan, error: Ints) -> tuple[list[list[int]], list[bool], set[int]]:
    """Project an error. Returns the groups, which of them were said to be 0, and the cycles that each took."""
    if plan.classifier.error == "label":
        dut.label.value = int(error.argmin())
    else:
        for port, entry in zip(ports(dut, "errors", plan.classes), error.tolist(), strict=True):
            port.value = entry
    groups, zero, took = [], [], set()
    start = dut.project
    for _ in range(plan.error_groups):
        start.value = 1
        await RisingEdge(dut.clk)
        start.value = 0
        begun = cycle()
        group: list[int] = []
        while True:
            await RisingEdge(dut.clk)
            assert cycle() - begun < 1000, f"cycle {cycle()}: expected {plan.error_groups} groups, actual {len(groups)}"
            if dut.group_ready.value:
                break
            if dut.load_g.value:
                lane = int(dut.g_lane.value) if plan.error_group > 1 else 0
                assert lane == len(group), f"cycle {cycle()}: expected lane {len(group)}, actual {lane}"
                group.append(dut.next_g.value.to_signed())
        took.add(cycle() - begun)
        for _ in range(random.randrange(5)):
            assert not dut.load_g.value, f"cycle {cycle()}: expected no error of a whole group, actual one"
            await RisingEdge(dut.clk)
        assert dut.group_ready.value, f"cycle {cycle()}: expected the group to stay ready, actual gone"
        groups.append(group)
        zero.append(bool(dut.group_zero.value))
        start = dut.next_group
    dut.next_group.value = 1
    await RisingEdge(dut.clk)
    dut.next_group.value = 0
    for _ in range(plan.error_group + 10):
        await RisingEdge(dut.clk)
        assert not dut.group_ready.value, f"cycle {cycle()}: expected no group after the last, actual one"
        assert not dut.load_g.value, f"cycle {cycle()}: expected no error after the last, actual one"
    return groups, zero, took


def any_activations(plan: LayerPlan) -> Ints:
    """Some of them 0, often those of whole groups."""
    limit = plan.output_format.max
    values = np.array([random.choice((0, 1, limit, random.randint(0, limit))) for _ in range(plan.features)])
    for first in range(0, plan.features, plan.error_group):
        if random.random() < 0.3:
            values[first : first + plan.error_group] = 0
    return values


def any_active(plan: LayerPlan, activations: Ints) -> Bools:
    """Which are to learn: of a dense layer what is not 0, of a convolution also an average that was rounded to it."""
    rounded = isinstance(plan, ConvPlan)
    return np.array([value > 0 or (rounded and random.random() < 0.5) for value in activations.tolist()])


def any_error(plan: LayerPlan, scores: Ints) -> Ints:
    """As the error unit makes it, or of two classes only."""
    if random.random() < 0.5 or plan.classifier.error == "label":
        return classifier.error(plan, scores, random.randrange(plan.classes))
    error = np.zeros(plan.classes, np.int64)
    one, other = random.sample(range(plan.classes), 2)
    error[one] = random.choice((1, 1 << plan.error_bits))
    error[other] = -error[one]
    return error


@cocotb.test()
async def scores_and_projects(dut: Any) -> None:
    """Samples one after another; the matrices are the same in every pass, from any seeds."""
    plan = parameters()
    await start(dut)
    stated = group_cycles(plan)
    for _ in range(12):
        seed, decay = random.getrandbits(64) | 1, random.randint(0, plan.max_decay)
        feedback_seed = random.getrandbits(64) | 1
        matrix, feedback = classifier.matrices(plan, seed, feedback_seed)
        dut.seed.value = seed
        if plan.feedback_bits:
            dut.feedback_seed.value = feedback_seed
        if plan.max_decay:
            dut.decay.value = decay
        await restart(dut)

        activations = any_activations(plan)
        active = any_active(plan, activations)
        await forward(dut, plan, activations, active)
        await restart(dut)
        for _ in range(1 + score_cycles(plan)):
            await RisingEdge(dut.clk)
        scores = classifier.scores(plan, matrix, activations)
        values = [port.value for port in ports(dut, "scores", plan.classes)]
        actual_scores = [value.to_signed() if plan.signed_scores else int(value) for value in values]
        assert actual_scores == scores.tolist(), (
            f"cycle {cycle()}, seed {seed}, activations {activations}: expected {scores}, actual {actual_scores}"
        )

        error = any_error(plan, scores)
        padded = np.zeros(plan.error_groups * plan.error_group, np.int64)
        padded[: plan.features] = active * classifier.back_project(plan, feedback, error) << (plan.max_decay - decay)
        expected = padded.reshape(plan.error_groups, plan.error_group)
        groups, zero, took = await backward(dut, plan, error)
        assert groups == expected.tolist(), (
            f"cycle {cycle()}, seed {seed}, activations {activations}, error {error}, decay {decay}: "
            f"expected {expected.tolist()}, actual {groups}"
        )
        nothing = (~expected.any(axis=1)).tolist()
        assert zero == nothing, f"cycle {cycle()}: expected groups of zeros {nothing}, actual {zero}"
        assert took == {stated}, f"cycle {cycle()}: expected {stated} cycles a group, actual {took}"


def with_classifier(**choices: Any) -> LayerPlan:
    return layer(layers=(LayerSpec(7, 3, classifier=ClassifierSpec(**choices)),), classes=5)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(1, 1, classes=2, max_decay=0), id="1 neuron, 2 classes"),
        pytest.param(layer(5, 1, classes=4, max_decay=1), id="1 lane, 4 classes"),
        # Padding would reuse what is known of the first neurons, were it not told apart.
        pytest.param(layer(8, 3, classes=10, max_decay=3), id="padding, 10 classes"),
        pytest.param(layer(12, 6, classes=100, max_decay=8, error_bits=8), id="100 classes"),
        pytest.param(with_classifier(bits=3, feedback="sign-concordant", feedback_bits=2), id="sign-concordant"),
        pytest.param(with_classifier(bits=8, feedback="random", feedback_bits=8), id="random feedback"),
        pytest.param(with_classifier(matrix="ternary", loss="squared-hinge"), id="ternary, hinge"),
        pytest.param(with_classifier(feedback="sign-concordant", loss="squared-hinge"), id="sign-concordant, hinge"),
        pytest.param(with_classifier(bits=2, error="label"), id="label"),
        pytest.param(convolution((2, 6, 6), ConvSpec(5, pool=2, resolution=3, lanes=2)), id="convolution"),
        pytest.param(with_classifier(feedback="random", error="label"), id="label, random feedback"),
    ],
)
def test_classifier(bench: Bench, plan: LayerPlan) -> None:
    bench(Classifier(plan, GENERIC), plan)
