"""The classifier that learns against the golden one: scores, projected errors, and every entry of its matrix."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.layer_plan import NOISE_LEAP, LayerPlan
from locallearn.quant.lfsr import LeapingLfsr
from locallearn.quant.spec import ConvSpec, LayerSpec
from locallearn.rtl.learned import LearnedClassifier
from locallearn.rtl.target import GENERIC
from locallearn.rtl.timing import group_cycles, score_cycles
from locallearn.sim.bench import cycle, parameters, ports, start
from tests.compare import assert_same
from tests.rtl.conftest import Bench
from tests.rtl.plans import convolution, layer
from tests.rtl.test_classifier import any_activations, any_active, any_error, backward, forward

Ints = NDArray[np.int64]


async def store(dut: Any, plan: LayerPlan, matrix: Ints) -> None:
    """Entry by entry."""
    dut.accessed.value = 1
    for row, entries in enumerate(matrix.tolist()):
        for c, entry in enumerate(entries):
            if plan.features > 1:
                dut.row.value = row
            dut.data.value, dut.store.value = entry, 1 << c
            await RisingEdge(dut.clk)
            dut.store.value = 0
            for _ in range(3):
                await RisingEdge(dut.clk)
    dut.accessed.value = 0


async def load(dut: Any, plan: LayerPlan) -> Ints:
    """Row by row."""
    dut.accessed.value = 1
    rows = []
    for row in range(plan.features):
        if plan.features > 1:
            dut.row.value = row
        for _ in range(3):
            await RisingEdge(dut.clk)
        rows.append([port.value.to_signed() for port in ports(dut, "entries", plan.classes)])
    dut.accessed.value = 0
    return np.array(rows)


def any_matrix(plan: LayerPlan) -> Ints:
    form = plan.classifier.format
    ends = (form.min, form.max, 0)
    rows, columns = range(plan.features), range(plan.classes)
    return np.array([[random.choice((*ends, random.randint(form.min, form.max))) for _ in columns] for _ in rows])


@cocotb.test()
async def scores_projects_and_learns(dut: Any) -> None:
    """Samples one after another, each learned from before the next; now and then from another matrix.

    Some come while the layer's weights are frozen: nothing is brought back to them then.
    """
    plan = parameters()
    await start(dut)
    stated = group_cycles(plan)
    noise = LeapingLfsr(plan.matrix_noise_seed, NOISE_LEAP)
    dut.noise_seed.value, dut.load_noise.value = plan.matrix_noise_seed, 1
    await RisingEdge(dut.clk)
    dut.load_noise.value = 0
    for number in range(12):
        if number % 4 == 0:
            matrix = any_matrix(plan)
            await store(dut, plan, matrix)
        decay = random.randint(0, plan.max_decay)
        if plan.max_decay:
            dut.decay.value = decay

        activations = any_activations(plan)
        active = any_active(plan, activations)
        await forward(dut, plan, activations, active)
        for _ in range(2 + score_cycles(plan)):
            await RisingEdge(dut.clk)
        scores = classifier.scores(plan, matrix, activations)
        actual = [port.value.to_signed() for port in ports(dut, "scores", plan.classes)]
        assert_same(f"cycle {cycle()}: score", scores, actual)

        error, frozen = any_error(plan, scores), random.random() < 0.3
        dut.weights_frozen.value = frozen
        padded = np.zeros(plan.error_groups * plan.error_group, np.int64)
        padded[: plan.features] = (active & (not frozen)) * classifier.back_project(plan, matrix, error)
        expected = (padded << (plan.max_decay - decay)).reshape(plan.error_groups, plan.error_group)
        groups, zero, took = await backward(dut, plan, error)
        assert_same(f"cycle {cycle()}: error of lane", expected, groups)
        assert_same(f"cycle {cycle()}: group without error", ~expected.any(axis=1), zero)
        assert took == {stated}, f"cycle {cycle()}: expected {stated} cycles a group, actual {took}"

        begun = cycle()
        while not dut.idle.value:
            await RisingEdge(dut.clk)
            assert cycle() - begun < plan.features + 20, f"cycle {cycle()}: expected idle, actual busy"
        matrix = classifier.learn(plan, matrix, error << (plan.max_decay - decay), activations, noise)
        assert_same(f"cycle {cycle()}: noise", noise.state, dut.noise.value.to_unsigned())
        assert_same(f"cycle {cycle()}: matrix", matrix, await load(dut, plan))


def learned(neurons: int, lanes: int, classes: int, max_decay: int = 2, **choices: Any) -> LayerPlan:
    choice = ClassifierSpec("learned", **choices)
    return layer(layers=(LayerSpec(neurons, lanes, classifier=choice),), classes=classes, max_decay=max_decay)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(learned(1, 1, 2, max_decay=0), id="1 neuron, 2 classes"),
        pytest.param(learned(8, 3, 10), id="padding, 10 classes"),
        pytest.param(learned(12, 12, 5, loss="squared-hinge", bits=16, rate_shift=6), id="hinge, 16 bits"),
        pytest.param(learned(20, 7, 20, bits=8, rate_shift=0, max_decay=8), id="8 bits, 20 classes"),
        # All products are below an entry's unit, and only with noise do they make changes.
        pytest.param(learned(40, 5, 5, rate_shift=15, max_decay=8), id="next to no rate"),
        pytest.param(
            convolution((1, 4, 4), ConvSpec(5, resolution=2, lanes=3, classifier=ClassifierSpec("learned"))),
            id="convolution",
        ),
    ],
)
def test_learned_classifier(bench: Bench, plan: LayerPlan) -> None:
    bench(LearnedClassifier(plan, GENERIC), plan)
