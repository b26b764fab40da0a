"""Matrices, losses and ways back: their ranges, and what each choice promises."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec
from tests.compare import assert_same
from tests.strategies import specs


def plan_of(spec: ClassifierSpec, neurons: int = 500, classes: int = 10) -> LayerPlan:
    layer = LayerSpec(neurons, score_shift=2, classifier=spec)
    return LayerPlan(NetworkSpec("", classes, InputSpec(4), (layer,)), 0)


def matrices(spec: ClassifierSpec) -> tuple[np.ndarray, np.ndarray]:
    """M and K as numbers around 0."""
    plan = plan_of(spec)
    matrix, feedback = classifier.matrices(plan, plan.classifier_seed, plan.feedback_seed)
    if not plan.signed_scores:
        matrix = 2 * matrix - sum(spec.matrix_weights)
    if not plan.signed_feedback:
        feedback = 2 * feedback - sum(spec.feedback_weights)
    return matrix, feedback


def assert_shares(expected: dict[int, float], values: np.ndarray) -> None:
    """Of 5,000 values, as many of each as there should be, give or take five deviations."""
    assert set(np.unique(values)) == set(expected)
    for value, share in expected.items():
        count, deviation = (values == value).sum(), np.sqrt(values.size * share * (1 - share))
        assert abs(count - share * values.size) < 5 * deviation, f"{value}: {count} of {values.size}"


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-hinge"])
def test_entries(loss: str) -> None:
    """Whatever a loss needs of it, the matrix is the same."""
    assert_shares({-1: 0.5, 1: 0.5}, matrices(ClassifierSpec(loss=loss))[0])
    assert_shares({-2: 0.25, 0: 0.5, 2: 0.25}, matrices(ClassifierSpec("ternary", loss=loss))[0])
    assert_shares(dict.fromkeys(range(-7, 8, 2), 1 / 8), matrices(ClassifierSpec(bits=3, loss=loss))[0])


@pytest.mark.parametrize("bits", [1, 4])
def test_feedback(bits: int) -> None:
    matrix, feedback = matrices(ClassifierSpec(bits=bits))
    assert_same("feedback", matrix, feedback)
    matrix, feedback = matrices(ClassifierSpec(bits=bits, feedback="sign-concordant", feedback_bits=3))
    assert_same("sign", np.sign(matrix), np.sign(feedback))
    for size in np.unique(np.abs(matrix)):
        assert_shares(dict.fromkeys((1, 3, 5, 7), 1 / 4), np.abs(feedback[np.abs(matrix) == size]))
    matrix, feedback = matrices(ClassifierSpec(bits=bits, feedback="random", feedback_bits=3))
    for sign in (-1, 1):
        assert_shares(dict.fromkeys(range(-7, 8, 2), 1 / 8), feedback[np.sign(matrix) == sign])


@settings(max_examples=300)
@given(specs(max_classes=100), st.data())
def test_widths_hold_every_error(spec: NetworkSpec, data: DataObject) -> None:
    """Of any scores that a layer can have, brought back by any feedback that it can have."""
    plan = LayerPlan(spec, data.draw(st.integers(0, len(spec.layers) - 1)))
    source = LayerPlan(spec, len(spec.layers) - 1) if plan.classifier.error == "top" else plan
    low = -source.score_max if source.signed_scores else 0
    limit = data.draw(st.integers(0, source.score_max))
    some = st.integers(max(low, -limit), limit)
    scores = np.array(data.draw(st.lists(some, min_size=plan.classes, max_size=plan.classes)))
    error = classifier.error(source, scores, data.draw(st.integers(0, plan.classes - 1)))
    assert np.abs(error).max() <= spec.error_max(plan.index) < 1 << (plan.error_width - 1)
    size = classifier.error_size(plan, error)
    assert 0 <= size <= spec.error_size_max(plan.index) < 1 << plan.error_size_bits
    assert (size == 0) == (not error.any())
    assert plan.signed_feedback or error.sum() == 0

    largest = sum(plan.classifier.feedback_weights)
    lowest = -largest if plan.signed_feedback else 0
    if plan.classifier.learns:
        lowest, largest = plan.classifier.format.min, plan.classifier.format.max
    for feedback in (np.where(error > 0, largest, lowest), np.where(error > 0, lowest, largest)):
        (projected,) = classifier.back_project(plan, feedback[np.newaxis], error)
        assert abs(projected) <= spec.projection_max(plan.index) < 1 << (plan.scaled_error_width - plan.max_decay - 1)


def test_hinge_asks_for_a_margin() -> None:
    """On the right side of 1 there is no error; on the wrong side as much as is missing, up to 2."""
    plan = plan_of(ClassifierSpec(loss="squared-hinge"), classes=4)
    one = 1 << plan.margin_shift
    unit = 1 << plan.error_bits
    cases = [
        ([one, -one, -one, -one], [0, 0, 0, 0]),
        ([one // 2, -one, -one, -one], [-unit // 2, 0, 0, 0]),
        ([0, 0, one // 4, -2 * one], [-unit, unit, unit * 5 // 4, 0]),
        ([-9 * one, 9 * one, one - 1, -one], [1 - 2 * unit, 2 * unit - 1, 2 * unit - 1, 0]),
    ]
    for scores, expected in cases:
        error = classifier.error(plan, np.array(scores), 0)
        assert_same("error", expected, error)
        assert classifier.error_size(plan, error) == np.abs(expected).sum()


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_hinge_can_be_wrong_about_all_classes(classes: int) -> None:
    """As much as can be about each: that is the largest size, and a neuron can get all of it back."""
    plan = plan_of(ClassifierSpec(loss="squared-hinge"), classes=classes)
    scores = np.full(classes, plan.score_max)
    scores[0] = -plan.score_max
    error = classifier.error(plan, scores, 0)
    size = classes * (2 ** (plan.error_bits + 1) - 1)
    assert classifier.error_size(plan, error) == size < 1 << plan.error_size_bits
    assert size == plan.spec.error_size_max(0)
    assert_same("error brought back", [size], classifier.back_project(plan, np.sign(error)[np.newaxis], error))
    assert size == plan.spec.projection_max(0) < 1 << (plan.scaled_error_width - plan.max_decay - 1)


def test_projected_labels_need_no_scores() -> None:
    plan = plan_of(ClassifierSpec(error="label"), classes=4)
    for scores in ([0, 0, 0, 0], [1, 2, 3, 4]):
        error = classifier.error(plan, np.array(scores), 2)
        assert_same("error", [0, 0, -(1 << plan.error_bits), 0], error)
        assert classifier.error_size(plan, error) == 1 << plan.error_bits


def test_larger_entries_change_the_scale_of_nothing_else() -> None:
    """A matrix that is about 2^n as large has its scores shifted by n more, and so have updates its feedback."""
    usual = plan_of(ClassifierSpec()).spec
    for bits, gain in ((1, 0), (2, 1), (3, 2), (8, 7)):
        layer = LayerSpec(500, classifier=ClassifierSpec(bits=bits))
        spec = replace(usual, layers=(layer,))
        assert spec.score_shift(0) == replace(usual, layers=(LayerSpec(500),)).score_shift(0) + gain
        assert plan_of(ClassifierSpec(bits=bits)).score_shift == 2 + gain
        assert spec.update_shift(0) == usual.update_shift(0) + gain
    ternary = replace(usual, layers=(LayerSpec(500, classifier=ClassifierSpec("ternary")),))
    assert ternary.update_shift(0) == usual.update_shift(0)


@settings(max_examples=200)
@given(specs(max_classes=100))
def test_multipliers_of_a_learned_matrix_hold_their_operands(spec: NetworkSpec) -> None:
    """Activations and errors' sizes on one side, entries and errors scaled up by the whole decay on the other."""
    for plan in NetworkPlan(spec).learned_matrices:
        narrow, wide = plan.matrix_operand_bits
        largest = plan.spec.error_max(plan.index)
        assert max(largest, plan.output_format.max) < 1 << narrow
        for value in (-largest << plan.max_decay, largest << plan.max_decay):
            assert -1 << (plan.matrix_error_width - 1) <= value < 1 << (plan.matrix_error_width - 1)
        form = plan.classifier.format
        for value in (form.min, form.max, -largest << plan.max_decay, largest << plan.max_decay):
            assert -1 << (wide - 1) <= value < 1 << (wide - 1), f"{value} in {wide} bits"


@settings(max_examples=200)
@given(specs(max_classes=100))
def test_scores_reach_their_bounds(spec: NetworkSpec) -> None:
    """Those of all activations at their largest, with all entries at their ends."""
    for plan in NetworkPlan(spec).layers:
        weights, form = sum(plan.classifier.matrix_weights), plan.classifier.format
        ends = (form.min, form.max) if plan.classifier.learns else (-weights if plan.signed_scores else 0, weights)
        activations = np.full(plan.neurons, plan.output_format.max)
        for end in ends:
            scores = classifier.scores(plan, np.full((plan.neurons, plan.classes), end), activations)
            assert np.abs(scores).max() <= plan.score_max < 1 << (plan.score_bits - plan.signed_scores)


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-hinge"])
def test_learned_matrix_beats_the_random_one_that_it_begins_as(loss: str) -> None:
    """Not equal to something but right: a wrong sign in its learning leaves the classifier at chance."""
    learned = LayerSpec(64, lanes=4, classifier=ClassifierSpec("learned", loss=loss))
    # With next to no rate, the neurons stay what they are.
    spec = NetworkSpec("", 2, InputSpec(16), (learned,), training=TrainingSpec(20, decay=(0,)))
    golden, rng = GoldenNetwork(spec), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2500, 16), np.uint8)
    labels = (pixels[:, :8].sum(1) < pixels[:, 8:].sum(1)).astype(int)
    before = np.mean(golden.run(pixels[2000:]).predicted[:, 0] == labels[2000:])
    golden.run(pixels[:2000], labels[:2000])
    after = np.mean(golden.run(pixels[2000:]).predicted[:, 0] == labels[2000:])
    assert after > before + 0.15, f"{before} before, {after} after"
