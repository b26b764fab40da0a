"""The compiled model against the NumPy one: every activation, prediction, error, weight, noise register and counter."""

import dataclasses
import sys
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from sklearn.datasets import load_digits

from locallearn.host.connect import connect
from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.fast import FastNetwork
from locallearn.quant.formats import QFormat
from locallearn.quant.network import GoldenNetwork, quantise_pixels
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, load_spec, preset_names
from tests.compare import assert_same
from tests.strategies import EQUALS_IN_POOLS, EVERY_BYTE_OF_A_MASK, Step, from_whole_range, specs, steps

# Update shifts beyond 30 take a way of their own. Few weights move at such rates, some do.
SLOW_RATE = NetworkSpec(
    "",
    3,
    InputSpec(20),
    (LayerSpec(7, lanes=3, rate_shift=19), LayerSpec(7, lanes=7, rate_shift=24)),
    weight=QFormat(16, 4, signed=True),
    noise_bits=16,
)
LARGE = [
    pytest.param(NetworkSpec("", 3, InputSpec(100), (LayerSpec(40, rate_shift=6),)), id="one lane"),
    pytest.param(NetworkSpec("", 10, InputSpec(20), (LayerSpec(140, lanes=70, rate_shift=6),)), id="many lanes"),
    pytest.param(
        NetworkSpec("", 10, InputSpec(400), (LayerSpec(5, rate_shift=4),), weight=QFormat(16, 12, signed=True)),
        id="sums above 32 bits",
    ),
    pytest.param(NetworkSpec("", 256, InputSpec(50), (LayerSpec(70, lanes=9),) * 2), id="most classes"),
    pytest.param(EVERY_BYTE_OF_A_MASK, id="every byte of a mask"),
    pytest.param(EQUALS_IN_POOLS, id="equals in many pools"),
    pytest.param(SLOW_RATE, id="update shifts above 30"),
    pytest.param(
        NetworkSpec(
            "",
            10,
            InputSpec(432, 8, 7, True, (3, 12, 12)),
            (ConvSpec(20, pool=2, resolution=3), ConvSpec(9, resolution=2)),
        ),
        id="convolutions, sums in 32 bits",
    ),
    pytest.param(
        NetworkSpec(
            "", 10, InputSpec(576, shape=(4, 12, 12)), (ConvSpec(6, 5, lanes=4),), weight=QFormat(16, 12, signed=True)
        ),
        id="convolution, sums in 64 bits",
    ),
]


def random_batch(spec: NetworkSpec, count: int, density: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng, form = np.random.default_rng(0), spec.input.format
    kind = np.int8 if form.signed else np.uint8
    x = rng.integers(form.min or 1, form.max, (count, spec.input.size), kind, endpoint=True)
    x[rng.random(x.shape) > density] = 0
    return x, rng.integers(0, spec.classes, count)


def assert_same_state(where: str, golden: GoldenNetwork, fast: FastNetwork) -> None:
    for name, expected, actual in zip(golden.plan.arrays, golden.weights, fast.weights, strict=True):
        assert_same(f"{where} {name}", expected, actual)
    for index, plan in enumerate(golden.plan.layers):
        assert_same(f"{where} layer {plan.index} noise register", golden.noise_states[index], fast.noise_states[index])
        expected, actual = golden.matrix_noise_states[index], fast.matrix_noise_states[index]
        assert_same(f"{where} layer {plan.index} matrix's noise register", expected, actual)
        assert_same(f"{where} layer {plan.index} mask register", golden.mask_states[index], fast.mask_states[index])
        for name, count in dataclasses.asdict(golden.counters[index]).items():
            assert_same(f"{where} layer {plan.index} {name}", count, getattr(fast.counters[index], name))


def assert_same_batch(
    where: str, golden: GoldenNetwork, fast: FastNetwork, x: np.ndarray, labels: np.ndarray | None
) -> None:
    expected, actual = golden.run(x, labels), fast.run(x, labels)
    for index in range(len(golden.layers)):
        assert_same(f"{where} layer {index} activation", expected.activations[index], actual.activations[index])
    assert_same(f"{where} prediction", expected.predicted, actual.predicted)
    assert_same(f"{where} error", expected.error_size, actual.error_size)
    assert_same(f"{where} answered", expected.answered, actual.answered)
    assert_same_state(where, golden, fast)


@settings(max_examples=300)
@given(st.data(), specs() | specs(max_neurons=70, max_classes=100) | specs(max_convs=2))
def test_equals_golden(data: DataObject, spec: NetworkSpec) -> None:
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    if data.draw(st.booleans(), label="weights from the whole range"):
        golden.weights = fast.weights = from_whole_range(golden.plan, np.random.default_rng(0))
    work: Iterable[Step] = data.draw(steps(spec), label="steps")
    for number, step in enumerate(work):
        golden.decay = fast.decay = step.decay
        golden.exits = fast.exits = step.exits
        labels = None if step.label is None else np.array([step.label])
        assert_same_batch(f"sample {number}", golden, fast, step.x[np.newaxis], labels)
    for name in ("learned", "skipped", "saturated", "words_written"):
        event(f"{name}: {any(getattr(counters, name) for counters in golden.counters)}")


@pytest.mark.parametrize("spec", LARGE)
def test_equals_golden_beyond_small_sizes(spec: NetworkSpec) -> None:
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    assert_same_batch("initial weights", golden, fast, *random_batch(spec, 40))
    golden.weights = fast.weights = from_whole_range(golden.plan, np.random.default_rng(0))
    assert_same_batch("any weights", golden, fast, *random_batch(spec, 40))
    assert golden.counters[0].words_written > 0


SUM = (150 << 17) + (1 << 16) - 1
"""More than 2^24, where 32-bit floating point knows even numbers alone; requantised by 17 bits it is 150, by one unit
more 151."""


def of_large_weights() -> tuple[np.ndarray, np.ndarray]:
    """-1 times 1, and 128 times others."""
    x, weights = np.full(486, 128), np.zeros(487, int)
    x[0], weights[0] = 1, -1
    weights[1:101], weights[-1] = 1500, (SUM + 1) // 128 - 150_000
    return x, weights


def of_a_large_bias() -> tuple[np.ndarray, np.ndarray]:
    """128 times its weight; the inputs are 1."""
    x, weights = np.ones(486, int), np.full(487, 32_240)
    weights[0], weights[-1] = -1, 32_000
    weights[1] = SUM + 1 - 484 * 32_240 - 128 * 32_000
    return x, weights


def of_weights_that_cancel_out() -> tuple[np.ndarray, np.ndarray]:
    """Those below zero belong to inputs that are 0."""
    x, weights = of_large_weights()
    x[201:301], weights[201:301] = 0, -1500
    return x, weights


@pytest.mark.parametrize("of", [of_large_weights, of_a_large_bias, of_weights_that_cancel_out])
def test_sums_beyond_32_bit_floating_point(of: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
    """In whatever order its products are added up, and rounded to such numbers, SUM comes out one too large."""
    spec = NetworkSpec(
        "",
        2,
        InputSpec(486, shape=(54, 3, 3)),
        (ConvSpec(1, padding=0, resolution=0),),
        weight=QFormat(16, 15, signed=True),
        activation=QFormat(8, 6),
    )
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    x, weights = of()
    assert x @ weights[:-1] + 128 * weights[-1] == SUM and abs(weights).max() < 1 << 15
    golden.weights = fast.weights = [weights[np.newaxis], *golden.weights[1:]]
    assert golden.run(x[np.newaxis].astype(np.uint8)).activations[0] == 150
    assert fast.run(x[np.newaxis].astype(np.uint8)).activations[0] == 150


def test_errors_that_cancel_out_take_noise() -> None:
    """All windows are the same: where the errors of a channel's places sum to 0, it is learned from all the same."""
    spec = NetworkSpec("", 2, InputSpec(4, shape=(1, 2, 2)), (ConvSpec(16, 1, resolution=0, rate_shift=6),))
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    x = np.arange(100, 256, 20, np.uint8)[:, np.newaxis].repeat(4, axis=1)
    assert_same_batch("grey images", golden, fast, x, np.arange(len(x)) % 2)
    assert golden.counters[0].words_written > 0


def test_update_shifts_above_30_are_reached() -> None:
    golden, fast = GoldenNetwork(SLOW_RATE), FastNetwork(SLOW_RATE)
    assert [plan.update_shift for plan in golden.plan.layers] == [31, 32]
    golden.weights = fast.weights = from_whole_range(golden.plan, np.random.default_rng(0))
    before = golden.weights
    assert_same_batch("many samples", golden, fast, *random_batch(SLOW_RATE, 5000))
    assert (before[0] != golden.weights[0]).any()


@pytest.mark.parametrize("preset", preset_names())
def test_presets_equal_golden(preset: str) -> None:
    spec = load_spec(preset)
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    # NumPy takes its time with a convolution.
    count = 3 if spec.input.shape else 50
    for epoch in (0, spec.training.epochs // 2, spec.training.epochs - 1):
        golden.decay = fast.decay = spec.decay_at(epoch)
        assert_same_batch(f"epoch {epoch}", golden, fast, *random_batch(spec, count, density=0.2))
    assert_same_batch("without labels", golden, fast, random_batch(spec, count, density=0.2)[0], None)
    assert all(counters.learned for counters in golden.counters)


@pytest.mark.parametrize("last", ["local", "top"])
def test_some_samples_of_a_batch_stop(last: str) -> None:
    """With a layer that learns from the last one's error, samples pass one by one."""
    layers = (LayerSpec(20, lanes=5), LayerSpec(16, lanes=4, classifier=ClassifierSpec(error=last)), LayerSpec(12))
    spec = NetworkSpec("", 10, InputSpec(64), layers, early_exit=True)
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    digits = load_digits()
    x, labels = quantise_pixels(spec, (15 * digits.data).astype(np.uint8)), digits.target.astype(np.int64)
    assert_same_batch("learning", golden, fast, x[:600], labels[:600])
    for _ in range(3):
        golden.run(x[:600], labels[:600])
        fast.run(x[:600], labels[:600])
    reached = set()
    for exits in (golden.plan.exits(1), (0, 0), golden.plan.exits(odds=2), (40, 10)):
        golden.exits = fast.exits = exits
        assert_same_batch(f"exits {exits}", golden, fast, x[600:800], None)
        reached.add(tuple(np.unique(fast.run(x[600:800]).answered).tolist()))
        golden.run(x[600:800])
    assert {(1,), (0,), (0, 1, 2)} <= reached
    # What is said beyond the exit is what the exit said; what is said at it does not depend on it.
    fast.exits = golden.plan.exits(0)
    stopped = fast.run(x[600:800])
    fast.exits = golden.plan.no_exits
    assert_same("all stop", np.repeat(fast.run(x[600:800]).predicted[:, :1], 3, axis=1), stopped.predicted)
    assert not stopped.activations[1].any()


@pytest.mark.parametrize("model", [GoldenNetwork, FastNetwork])
def test_the_lead_that_is_asked_for_is_enough(model: type[GoldenNetwork | FastNetwork]) -> None:
    spec = NetworkSpec("", 4, InputSpec(9), (LayerSpec(5), LayerSpec(5)), early_exit=True)
    x, _ = random_batch(spec, 1)
    lead = classifier.lead(GoldenNetwork(spec).step(x[0])[0].scores)
    network = model(spec)
    for exits, answered in (((lead,), 0), ((lead + 1,), 1)):
        network.exits = exits
        assert network.run(x).answered == answered


def test_counters_are_cleared() -> None:
    spec = load_spec("digits")
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    for model in (golden, fast):
        model.run(*random_batch(spec, 20))
        assert model.counters[0].events > 0
        model.clear_counters()
        assert model.counters[0].events == 0
    assert_same_batch("after clearing", golden, fast, *random_batch(spec, 20))


def test_an_empty_batch_changes_nothing() -> None:
    spec = load_spec("digits")
    golden, fast = GoldenNetwork(spec), FastNetwork(spec)
    assert_same_batch("empty", golden, fast, np.zeros((0, 64), np.uint8), np.zeros(0, np.int64))


@pytest.mark.parametrize("model", [GoldenNetwork, FastNetwork])
@pytest.mark.parametrize(
    ("x", "labels", "decay", "message"),
    [
        (np.zeros((2, 63), np.uint8), None, (0, 0), "a sample is 64 numbers of 8 bits"),
        (np.zeros(64, np.uint8), None, (0, 0), "a sample is 64 numbers of 8 bits"),
        (np.zeros((2, 64), np.uint8), [0], (0, 0), r"2 samples, but labels of shape \(1,\): one a sample is needed"),
        (np.zeros((2, 64), np.uint8), [0, -1], (0, 0), "label -1: must be between 0 and 9"),
        (np.zeros((2, 64), np.uint8), [10, 0], (0, 0), "label 10: must be between 0 and 9"),
        (
            np.zeros((2, 64), np.uint8),
            [0, 0],
            (4, 0),
            r"decay \(4, 0\): of every layer, at least 0 and at most \(3, 3\)",
        ),
    ],
)
def test_refuses_what_does_not_fit(
    model: type[GoldenNetwork | FastNetwork],
    x: np.ndarray,
    labels: list[int] | None,
    decay: tuple[int, ...],
    message: str,
) -> None:
    network = model(load_spec("digits"))
    network.decay = decay
    with pytest.raises(ValueError, match=message):
        network.run(x, None if labels is None else np.array(labels))


def test_model_is_compiled_unless_numba_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec("digits")
    with connect(spec, "model") as model, connect(spec, "numpy") as numpy:
        assert (model.name, numpy.name) == ("model", "numpy")
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("fast", "fast_dense", "fast_conv", "fast_layer", "fast_kernels"):
        monkeypatch.delitem(sys.modules, f"locallearn.quant.{name}")
    with connect(spec, "model") as model:
        assert model.name == "numpy"
