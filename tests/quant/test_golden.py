"""The golden model against the naive one: everything that a chip shows or keeps, after every sample."""

import dataclasses
import re
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import GoldenLayer, GoldenNetwork, LayerTrace, quantise_pixels
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec, load_spec, preset_names
from tests.compare import assert_same
from tests.naive import NaiveLayer, NaiveNetwork, NaiveTrace
from tests.strategies import EQUALS_IN_POOLS, EVERY_BYTE_OF_A_MASK, Step, from_whole_range, specs, steps


def assert_same_trace(where: str, plan: LayerPlan, naive: NaiveTrace, golden: LayerTrace) -> None:
    assert_same(f"{where} event index", [index for index, _ in naive.events], golden.event_index)
    assert_same(f"{where} event value", [value for _, value in naive.events], golden.event_value)
    assert_same(f"{where} activation", naive.activations, golden.activations)
    assert_same(f"{where} feature", naive.features, golden.features)
    scores = golden.scores
    if plan.classifier.learns and plan.classifier.loss == "cross-entropy":
        scores = 2 * scores
    elif not plan.signed_scores:
        # S = 2 S' - sum(w) sum(y): the scores of M from those of its half.
        scores = 2 * scores - sum(plan.classifier.matrix_weights) * golden.features.sum()
    assert_same(f"{where} score", naive.scores, scores)
    assert_same(f"{where} prediction", naive.predicted, golden.predicted)
    assert (naive.error is None) == (golden.error is None), f"{where} only one of the two has an error"
    if naive.error is not None and golden.error is not None:
        assert_same(f"{where} error", naive.error, golden.error)


def assert_same_state(where: str, naive: NaiveLayer, golden: GoldenLayer) -> None:
    assert_same(f"{where} weight", naive.weights, golden.memory.weights)
    if golden.plan.classifier.learns:
        assert_same(f"{where} classifier", naive.matrix, golden.matrix)
    assert_same(f"{where} noise register", naive.noise.state, golden.noise.state)
    assert_same(f"{where} matrix's noise register", naive.matrix_noise.state, golden.matrix_noise.state)
    assert_same(f"{where} mask register", naive.mask.state, golden.mask.state)
    for name, count in dataclasses.asdict(golden.counters).items():
        assert_same(f"{where} {name} counter", naive.counters[name], count)


def assert_same_run(naive: NaiveNetwork, golden: GoldenNetwork, work: Iterable[Step]) -> None:
    for number, step in enumerate(work):
        naive.decay = golden.decay = step.decay
        naive.exits = golden.exits = step.exits
        traces = zip(naive.step(step.x.tolist(), step.label), golden.step(step.x, step.label), strict=True)
        for index, (expected, actual) in enumerate(traces):
            assert_same_trace(f"sample {number}, layer {index}:", golden.plan.layers[index], expected, actual)
        for index, layer in enumerate(golden.layers):
            assert_same_state(f"sample {number}, layer {index}:", naive.layers[index], layer)


def random_decay(spec: NetworkSpec, rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(int(rng.integers(spec.max_decay(layer), endpoint=True)) for layer in range(len(spec.layers)))


def random_steps(spec: NetworkSpec, count: int, density: float = 0.5) -> Iterable[Step]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        x = rng.integers(1, spec.input.format.max, spec.input.size, np.uint8, endpoint=True)
        x[rng.random(spec.input.size) > density] = 0
        yield Step(x, int(rng.integers(spec.classes)), random_decay(spec, rng), NetworkPlan(spec).no_exits)


@settings(max_examples=300)
@given(st.data(), specs() | specs(max_classes=100) | specs(max_convs=2))
def test_equals_naive(data: DataObject, spec: NetworkSpec) -> None:
    naive, golden = NaiveNetwork(spec), GoldenNetwork(spec)
    if data.draw(st.booleans(), label="weights from the whole range"):
        rng = np.random.default_rng(spec.training.seed)
        golden.weights = from_whole_range(golden.plan, rng)
        for layer, weights in zip(naive.layers, golden.weights, strict=False):
            layer.weights = weights.tolist()
        for plan, matrix in zip(golden.plan.learned_matrices, golden.weights[len(naive.layers) :], strict=True):
            naive.layers[plan.index].matrix[:] = matrix.tolist()
    assert_same_run(naive, golden, data.draw(steps(spec), label="steps"))
    # For --hypothesis-show-statistics: how many examples reach what.
    for name in ("learned", "skipped", "saturated", "words_written"):
        event(f"{name}: {any(layer.counters[name] for layer in naive.layers)}")


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        pytest.param(
            NetworkSpec("", 3, InputSpec(100), (LayerSpec(40, rate_shift=6),)),
            50,
            id="more noise than a block of the register",
        ),
        pytest.param(
            NetworkSpec("", 10, InputSpec(20), (LayerSpec(140, lanes=70, rate_shift=6),)),
            10,
            id="more lanes than rotations",
        ),
        pytest.param(
            NetworkSpec("", 10, InputSpec(400), (LayerSpec(5, rate_shift=4),), weight=QFormat(16, 12, signed=True)),
            10,
            id="accumulators above 32 bits",
        ),
        pytest.param(EVERY_BYTE_OF_A_MASK, 3, id="every byte of a mask"),
        pytest.param(EQUALS_IN_POOLS, 20, id="equals in many pools"),
    ],
)
def test_equals_naive_beyond_small_sizes(spec: NetworkSpec, count: int) -> None:
    naive, golden = NaiveNetwork(spec), GoldenNetwork(spec)
    assert_same_run(naive, golden, random_steps(spec, count))
    assert golden.layers[0].counters.words_written > 0


def test_errors_that_cancel_out_take_noise() -> None:
    """All windows are the same: where the errors of a channel's places sum to 0, no weight of it has a gradient, but
    its group is learned from all the same, and moves the noise on."""
    spec = NetworkSpec("", 2, InputSpec(4, shape=(1, 2, 2)), (ConvSpec(16, 1, resolution=0, rate_shift=6),))
    images = [Step(np.full(4, grey, np.uint8), grey % 2, (0,), ()) for grey in range(100, 256, 20)]
    golden = GoldenNetwork(spec)
    assert_same_run(NaiveNetwork(spec), golden, images)
    assert golden.layers[0].counters.words_written > 0


SLOW_PRESETS = {"cifar10-conv-large"}


@pytest.mark.parametrize(
    "preset",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_PRESETS)) for name in preset_names()],
)
def test_presets_equal_naive(preset: str) -> None:
    spec = load_spec(preset)
    golden = GoldenNetwork(spec)
    assert_same_run(NaiveNetwork(spec), golden, random_steps(spec, 5, density=0.2))
    assert all(layer.counters.learned for layer in golden.layers)


def test_weights_are_copied_out_and_in() -> None:
    spec = NetworkSpec("", 2, InputSpec(3), (LayerSpec(5, lanes=2), LayerSpec(3, lanes=3)))
    golden = GoldenNetwork(spec)
    wanted = [np.arange(20, dtype=np.int32).reshape(5, 4), -np.arange(18, dtype=np.int32).reshape(3, 6)]
    golden.weights = wanted
    golden.weights[0][:] = 99  # a copy: the network keeps its own
    for index, weights in enumerate(golden.weights):
        assert_same(f"layer {index}: weight", wanted[index], weights)


def test_learns_which_half_is_larger() -> None:
    """Not equal to something but right: a wrong sign anywhere leaves a layer at 250 of 500."""
    layer = LayerSpec(16, lanes=4)
    golden = GoldenNetwork(NetworkSpec("", 2, InputSpec(16), (layer, layer), training=TrainingSpec(rate_shift=6)))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3000, 16), np.uint8)
    labels = (pixels[:, :8].sum(1) < pixels[:, 8:].sum(1)).astype(int)
    for x, label in zip(pixels[:2500], labels[:2500], strict=True):
        golden.step(x, int(label))
    predicted = [[trace.predicted for trace in golden.step(x)] for x in pixels[2500:]]
    right = (np.array(predicted) == labels[2500:, None]).sum(0)
    # Seeds and rates nearby give 460 to 480.
    assert min(right) >= 450, f"{right} of 500 right, layer by layer"


def test_pixels_lose_their_low_bits() -> None:
    spec = NetworkSpec("", 2, InputSpec(4, bits=3, fraction=3), (LayerSpec(2),))
    assert_same("pixel", [0, 0, 1, 7], quantise_pixels(spec, np.array([0, 31, 32, 255], np.uint8)))


@pytest.mark.parametrize(
    ("x", "label", "decay", "message"),
    [
        (np.zeros(63, np.uint8), 0, (0, 0), "a sample is 64 numbers of 8 bits"),
        (np.zeros((1, 64), np.uint8), 0, (0, 0), "a sample is 64 numbers of 8 bits"),
        (np.full(64, 256), 0, (0, 0), "a sample is 64 numbers of 8 bits"),
        (np.zeros(64, np.uint8), -1, (0, 0), "label -1: must be between 0 and 9"),
        (np.zeros(64, np.uint8), 10, (0, 0), "label 10: must be between 0 and 9"),
        (np.zeros(64, np.uint8), 0, (4, 0), "decay (4, 0): of every layer, at least 0 and at most (3, 3)"),
        (np.zeros(64, np.uint8), 0, (0,), "decay (0,): of every layer, at least 0 and at most (3, 3)"),
    ],
)
def test_step_refuses_what_does_not_fit(x: np.ndarray, label: int, decay: tuple[int, ...], message: str) -> None:
    golden = GoldenNetwork(load_spec("digits"))
    golden.decay = decay
    with pytest.raises(ValueError, match=re.escape(message)):
        golden.step(x, label)


def test_quantise_takes_the_middle_grey_and_puts_channels_last() -> None:
    spec = NetworkSpec("", 2, InputSpec(12, 8, 7, signed=True, shape=(3, 2, 2)), (LayerSpec(1),))
    # Red, green and blue of four pixels, channel by channel as data sets have them.
    image = np.array([[0, 1, 2, 3, 128, 129, 130, 131, 252, 253, 254, 255]], np.uint8)
    expected = [[-128, 0, 124, -127, 1, 125, -126, 2, 126, -125, 3, 127]]
    assert_same("pixel", expected, quantise_pixels(spec, image))


@pytest.mark.parametrize(("signed", "expected"), [(False, [0, 1, 15]), (True, [-8, -7, 7])])
def test_quantise_drops_low_bits(signed: bool, expected: list[int]) -> None:
    spec = NetworkSpec("", 2, InputSpec(3, 4, 3, signed=signed), (LayerSpec(1),))
    assert_same("pixel", [expected], quantise_pixels(spec, np.array([[15, 16, 255]], np.uint8)))
