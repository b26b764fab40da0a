"""Derived numbers: every width holds its extremes, and the extremes are reached."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from locallearn.quant import classifier
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.dense import DenseWeights
from locallearn.quant.errors import SpecError
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import ERROR_TABLE, EVENT_MARGIN, LayerPlan, lane_rotation
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec, linear_decay
from tests.compare import assert_same
from tests.naive import NaiveConv, NaiveNetwork, exponential
from tests.strategies import specs


def fits_signed(bits: int, *values: int) -> bool:
    return all(-(1 << (bits - 1)) <= value < 1 << (bits - 1) for value in values)


def plan_of(
    inputs: int = 4, neurons: int = 4, lanes: int = 1, classes: int = 10, weight: QFormat | None = None
) -> LayerPlan:
    weight = weight or QFormat(12, 11, signed=True)
    return LayerPlan(NetworkSpec("", classes, InputSpec(inputs), (LayerSpec(neurons, lanes),), weight=weight), 0)


# -- forward -------------------------------------------------------------------------------------------


# A single input, weights of 16 fraction bits: the half is far above all sums.
@example(NetworkSpec("", 2, InputSpec(1), (LayerSpec(1, rate_shift=12),), weight=QFormat(2, 16, signed=True)))
@given(specs(max_inputs=1 << 16, max_layers=1))
def test_accumulator_holds_the_worst_sums(spec: NetworkSpec) -> None:
    """All weights at one end, all inputs at their largest, on top of half an activation's unit; no bit too many."""
    plan = LayerPlan(spec, 0)
    half = 2**plan.requantise_shift // 2
    # Each weight at the end that makes most of its input, whether that is positive or negative. The bias's is positive.
    form, weight = plan.input_format, plan.weight_format
    low = min(weight.min * form.max, weight.max * form.min) * plan.inputs + weight.min * form.half
    high = max(weight.max * form.max, weight.min * form.min) * plan.inputs + weight.max * form.half
    # The chip begins with the half, the golden model ends with it.
    worst = low, high + half
    assert fits_signed(plan.accumulator_bits, *worst)
    assert not fits_signed(plan.accumulator_bits - 1, *worst)


@settings(max_examples=300)
@given(specs(max_convs=2))
def test_accumulator_of_a_convolution_holds_the_worst_gradient(spec: NetworkSpec) -> None:
    """The largest input met by the largest error, scaled up, in every pool; and the worst sums of a forward pass."""
    for plan in NetworkPlan(spec).layers:
        if isinstance(plan, ConvPlan):
            rows, columns, _ = plan.output_map
            x = max(plan.input_format.max, -plan.input_format.min)
            largest = rows * columns * x * (spec.projection_max(plan.index) << plan.max_decay)
            assert fits_signed(plan.sum_bits, -largest, largest), f"layer {plan.index}: {largest}"
            assert plan.sum_bits >= plan.accumulator_bits


@pytest.mark.parametrize("inputs", [127, 128, 129, 256, 257, 258, 514, 515, 65536])
@pytest.mark.parametrize("fraction", [8, 15])
def test_accumulator_never_wraps(inputs: int, fraction: int) -> None:
    """Sizes around 31, 32 and 33 bits: a sum that wrapped would come out as the other clamp."""
    plan = plan_of(inputs, neurons=3, weight=QFormat(16, fraction, signed=True))
    index = np.arange(plan.fan_in)
    value = np.full(plan.fan_in, plan.input_format.max)
    value[-1] = plan.input_format.half
    layer = DenseWeights(plan)
    weights = np.empty((3, plan.fan_in), np.int32)
    weights[0] = plan.weight_format.max
    weights[1] = plan.weight_format.min
    # Up to the largest sum and down again to the smallest.
    weights[2, : inputs // 2], weights[2, inputs // 2 :] = plan.weight_format.max, plan.weight_format.min
    layer.weights = weights
    expected = []
    for row in weights.tolist():
        total = sum(w * x for w, x in zip(row, value.tolist(), strict=True))
        nearest = (2 * total + 2**plan.requantise_shift) // 2 ** (plan.requantise_shift + 1)
        expected.append(min(max(nearest, 0), 255))
    assert_same("activation", expected, layer.forward(index, value))


@given(specs())
def test_requantise_keeps_the_value(spec: NetworkSpec) -> None:
    for plan in NetworkPlan(spec).layers:
        assert plan.requantise_shift >= 0
        unit = plan.weight_format.fraction + plan.input_format.fraction
        assert unit - plan.requantise_shift == plan.output_format.fraction


# -- classifier and error ------------------------------------------------------------------------------


def test_error_table() -> None:
    """Every entry is the nearest whole number; the first that would be 0 is beyond the end."""
    assert_same("entry", [exponential(units) for units in range(len(ERROR_TABLE))], ERROR_TABLE)
    assert min(ERROR_TABLE) == 1
    assert exponential(len(ERROR_TABLE)) == 0


@given(st.integers(1, 1 << 12), st.integers(2, 256))
def test_score_bits(neurons: int, classes: int) -> None:
    plan = plan_of(neurons=neurons, classes=classes)
    largest = neurons * plan.output_format.max
    assert largest.bit_length() == plan.score_bits


@given(st.integers(2, 256))
def test_normaliser_bits(classes: int) -> None:
    """Equal scores make the largest sum."""
    largest = classes * ERROR_TABLE[0]
    assert (largest - 1).bit_length() == 8 + plan_of(classes=classes).normaliser_bits


@st.composite
def scored(draw: st.DrawFn) -> tuple[LayerPlan, np.ndarray, int]:
    """A layer, scores that it could have, and a label."""
    spec = draw(specs(max_neurons=40, usual=True) | specs(max_neurons=40, max_classes=256, usual=True))
    plan = LayerPlan(spec, draw(st.integers(0, len(spec.layers) - 1)))
    largest = draw(st.integers(0, plan.neurons * plan.output_format.max))
    scores = draw(st.lists(st.integers(0, largest), min_size=plan.classes, max_size=plan.classes))
    return plan, np.array(scores, np.int64), draw(st.integers(0, plan.classes - 1))


@settings(max_examples=300)
@given(scored())
def test_error_is_bounded_and_sums_to_zero(case: tuple[LayerPlan, np.ndarray, int]) -> None:
    plan, scores, label = case
    error = classifier.error(plan, scores, label)
    one = 1 << plan.error_bits
    assert error.sum() == 0
    assert -one <= error[label] <= 0
    others = np.delete(error, label)
    assert (others >= 0).all()
    assert (others <= one).all()
    # The whole range of h: all the positive errors, or all the negative ones.
    h = [int(error[error > 0].sum()), int(error[error < 0].sum())]
    assert fits_signed(plan.error_width, *error.tolist(), *h)
    assert fits_signed(plan.scaled_error_width, *(value << plan.max_decay for value in h))


@given(scored())
def test_larger_scores_have_larger_errors(case: tuple[LayerPlan, np.ndarray, int]) -> None:
    plan, scores, label = case
    error = np.delete(classifier.error(plan, scores, label), label)
    ascending = np.argsort(np.delete(scores, label), kind="stable")
    assert (np.diff(error[ascending]) >= 0).all()


@given(specs(max_classes=256, usual=True), st.data())
def test_error_reaches_its_bounds(spec: NetworkSpec, data: DataObject) -> None:
    """A wrong class beyond all doubt: +1 there, -1 at the label; h reaches both, and no narrower width holds it."""
    plan = LayerPlan(spec, 0)
    label, winner = data.draw(st.lists(st.integers(0, plan.classes - 1), min_size=2, max_size=2, unique=True))
    scores = np.zeros(plan.classes, np.int64)
    scores[winner] = len(ERROR_TABLE) << plan.score_shift
    error = classifier.error(plan, scores, label)
    one = 1 << plan.error_bits
    expected = np.zeros(plan.classes, np.int64)
    expected[winner], expected[label] = one, -one
    assert_same("error", expected, error)
    signs = np.zeros((2, plan.classes), np.int64)
    signs[0, winner] = signs[1, label] = 1
    assert_same("h", [one, -one], classifier.back_project(plan, signs, error))
    assert not fits_signed(plan.error_width - 1, one)
    assert not fits_signed(plan.scaled_error_width - 1, one << plan.max_decay)


@given(specs(usual=True))
def test_no_error_when_right_beyond_doubt(spec: NetworkSpec) -> None:
    plan = LayerPlan(spec, 0)
    scores = np.zeros(plan.classes, np.int64)
    scores[1] = len(ERROR_TABLE) << plan.score_shift
    assert not classifier.error(plan, scores, 1).any()


@pytest.mark.parametrize("kind", [ClassifierSpec(), ClassifierSpec(bits=3), ClassifierSpec("learned")])
def test_leads_of_odds_are_those_of_a_softmax(kind: ClassifierSpec) -> None:
    """Scores count in quarters of an octave, after their shift; on the chip halves of the classifier's own."""
    layers = (LayerSpec(100, score_shift=4, classifier=kind), LayerSpec(5, score_shift=0), LayerSpec(5))
    plan = NetworkPlan(NetworkSpec("", 10, InputSpec(5), layers, early_exit=True))
    quarter = 2 ** (4 + (2 if kind.bits == 3 else 0))
    for odds in (1, 1.5, 2, 8, 100):
        fine, coarse = plan.exits(odds=odds)
        assert 2 ** (fine / quarter / 4) == pytest.approx(odds, rel=0.01)
        assert 2 ** (coarse / 4) == pytest.approx(odds, rel=0.1)
    assert plan.exits(odds=2) == (4 * quarter, 4)


def test_exits() -> None:
    plan = NetworkPlan(NetworkSpec("net", 3, InputSpec(5), (LayerSpec(5, score_shift=0),) * 3, early_exit=True))
    never = plan.layers[0].no_exit
    # 255 x 5 neurons; one bit more than a lead.
    assert never == 2**12 - 1 > plan.layers[0].score_max
    assert plan.exits() == plan.no_exits == (never, never)
    assert plan.exits(0) == (0, never)
    assert plan.exits(1) == (never, 0)
    assert plan.exits(2) == (never, never)
    assert plan.exits(1, 4) == (8, 0)
    assert plan.exits(odds=1e300) == (3986, 3986)
    assert plan.exits(odds=float("inf")) == (never, never)
    with pytest.raises(SpecError, match=r"^exit layer 3: net has layers 0 to 2$"):
        plan.exits(3)
    with pytest.raises(SpecError, match=r"^exit odds 0\.9: must be at least 1$"):
        plan.exits(odds=0.9)


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ((1,), "exits (1,): of every layer but the last, at least 0 and at most (4095, 4095)"),
        ((1, 4096), "exits (1, 4096): of every layer but the last, at least 0 and at most (4095, 4095)"),
        ((-1, 1), "exits (-1, 1): of every layer but the last, at least 0 and at most (4095, 4095)"),
        ((4095, 1), "exits (4095, 1): net has no early_exit"),
    ],
)
def test_exits_that_cannot_be(exits: tuple[int, ...], message: str) -> None:
    network = GoldenNetwork(NetworkSpec("net", 3, InputSpec(5), (LayerSpec(5),) * 3))
    network.exits = exits
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        network.step(np.zeros(5, np.uint8))


def test_of_equal_scores_the_first_wins() -> None:
    assert classifier.classify(np.array([3, 7, 7, 0])) == 1


# -- update --------------------------------------------------------------------------------------------


@given(specs())
def test_noise_has_a_mean_of_one_half(spec: NetworkSpec) -> None:
    """Over all words; where no bit is left below them, half a unit less, so that floor(x + noise) has no bias."""
    for plan in NetworkPlan(spec).layers:
        assume(plan.noise_bits < plan.update_shift or plan.noise_bits <= 12)
        words = np.arange(1 << plan.noise_bits)
        noise = plan.noise_value(words)
        assert 0 <= noise.min() <= noise.max() < 1 << plan.update_shift
        assert len(np.unique(noise)) == len(words)
        missing = 1 if plan.noise_bits == plan.update_shift else 0
        assert 2 * int(noise.sum()) == len(words) * ((1 << plan.update_shift) - missing)


@pytest.mark.parametrize("update_shift", range(1, 9))
def test_rounding_has_no_bias(update_shift: int) -> None:
    """With as many random bits as are shifted away, the mean of what is rounded is exactly what was there."""
    # 1 + 6 + rate_shift + 0 - 6 - 1: the update shift is the rate's.
    spec = NetworkSpec(
        "",
        2,
        InputSpec(1, bits=1, fraction=1),
        (LayerSpec(1),),
        weight=QFormat(12, 6, signed=True),
        training=TrainingSpec(rate_shift=update_shift, decay=(0,)),
    )
    plan = LayerPlan(spec, 0)
    assert plan.update_shift == plan.noise_bits == update_shift
    noise = plan.noise_value(np.arange(1 << update_shift))
    for product in range(-600, 600):
        assert ((product + noise) >> update_shift).sum() == product


def test_lane_rotations() -> None:
    """64 lanes all see the noise word differently, neighbours without a common bit of the usual 8."""
    rotations = [lane_rotation(lane) for lane in range(64)]
    assert sorted(rotations) == list(range(64))
    for here, there in pairwise(rotations):
        assert not {(here + bit) % 64 for bit in range(8)} & {(there + bit) % 64 for bit in range(8)}


# -- memories ------------------------------------------------------------------------------------------


@given(specs())
def test_rows_are_weights(spec: NetworkSpec) -> None:
    """Lane p of row g * fan_in + i holds weight i of neuron g * lanes + p; lanes without a neuron hold 0."""
    for plan in NetworkPlan(spec).layers:
        weights = np.arange(1, plan.neurons * plan.fan_in + 1, dtype=np.int32).reshape(plan.neurons, plan.fan_in)
        rows = plan.to_rows(weights)
        expected = np.zeros((plan.weight_rows, plan.lanes), np.int32)
        for neuron in range(plan.neurons):
            group, lane = divmod(neuron, plan.lanes)
            for i in range(plan.fan_in):
                expected[group * plan.fan_in + i, lane] = weights[neuron, i]
        assert_same("row, lane", expected, rows)
        assert_same("neuron, weight", weights, plan.from_rows(rows))


@given(st.integers(1, 1 << 16))
def test_event_depth(inputs: int) -> None:
    """Room for two whole samples, and for one beside the margin: a power of two, the smallest but for 4."""
    depth = plan_of(inputs).event_depth
    assert depth.bit_count() == 1
    assert 2 * (inputs + 1) <= depth
    assert inputs + 1 + EVENT_MARGIN <= depth - 1
    assert depth == 8 or depth // 2 < 2 * (inputs + 1)


@given(specs())
def test_totals(spec: NetworkSpec) -> None:
    plan = NetworkPlan(spec)
    rows = [p.to_rows(p.initial_weights()) for p in plan.layers]
    assert plan.weight_bits == sum(r.size for r in rows) * spec.weight.bits
    assert plan.dense_cycles == max(len(r) for r in rows)
    # A word of the buffer for every event, which is an input's number, the bias's above all, and its value.
    events = [(p.event_depth, p.inputs.bit_length() + p.input_format.bits) for p in plan.layers]
    assert plan.event_bits == sum(depth * bits for depth, bits in events)


@settings(max_examples=200)
@given(specs(max_convs=3))
def test_window_numbers(spec: NetworkSpec) -> None:
    """An image without a zero, as the naive model meets it window by window, the biases' constants included."""
    for plan in NetworkPlan(spec).layers:
        if isinstance(plan, ConvPlan):
            naive = NaiveNetwork(spec).layers[plan.index]
            naive.forward([1] * plan.inputs, [])
            assert isinstance(naive, NaiveConv)
            assert plan.window_numbers == naive.seen, f"layer {plan.index}"


@given(specs())
def test_registers_hold_every_decay(spec: NetworkSpec) -> None:
    """As a whole number of the steps that it is made for, up to the largest entry rounded up."""
    for plan in NetworkPlan(spec).layers:
        allowed = [decay[plan.index] for decay in map(spec.decay_at, range(8))]
        for decay in (*allowed, plan.max_decay):
            steps = decay * 2**plan.decay_fraction
            assert steps == int(steps) < 1 << plan.decay_bits, f"layer {plan.index}: {plan.decay_bits} bits for {steps}"


# -- seeds and first weights ---------------------------------------------------------------------------


@given(specs(), st.integers(0, (1 << 64) - 1))
def test_seeds_differ(spec: NetworkSpec, other: int) -> None:
    """Of 64 bits, never 0, and another one for every register, layer and seed of the training."""
    assume(other != spec.training.seed)
    again = replace(spec, training=replace(spec.training, seed=other))
    seeds = [
        seed
        for plan in (*NetworkPlan(spec).layers, *NetworkPlan(again).layers)
        for seed in (
            *(plan.classifier_seed, plan.noise_seed, plan.feedback_seed),
            *(plan.mask_seed, plan.matrix_noise_seed),
        )
    ]
    assert all(0 < seed < 1 << 64 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_seeds_stay() -> None:
    """A seed means the same network tomorrow and with another NumPy, else runs cannot be repeated."""
    plan = plan_of()
    assert (plan.classifier_seed, plan.noise_seed) == (0x672D8EE56D6791FF, 0x8AE19CA14EB1072C)
    assert plan.feedback_seed == 0x4915796D1322FC4A
    assert (plan.mask_seed, plan.matrix_noise_seed) == (0xD0CC2BDCABA049BD, 0xBA254E0D6E408E78)
    assert_same("weight", [-55, 24, 523, 923, 0], plan.initial_weights()[0])
    learned = replace(plan.spec, layers=(LayerSpec(4, classifier=ClassifierSpec("learned")),))
    assert_same(
        "classifier", [488, 197, 278, -284, 267, 317, 170, -318, -313, -179], LayerPlan(learned, 0).initial_matrix()[0]
    )


@given(specs())
def test_initial_weights(spec: NetworkSpec) -> None:
    """Within +-2^-init_shift and the format, biases 0, the same every time."""
    for plan in NetworkPlan(spec).layers:
        weights = plan.initial_weights()
        assert weights.shape == (plan.neurons, plan.fan_in)
        assert not weights[:, -1].any()
        largest = 2 ** (spec.weight.fraction - spec.init_shift(plan.index))
        assert -largest <= weights.min() <= weights.max() <= largest
        assert fits_signed(spec.weight.bits, int(weights.min()), int(weights.max()))
        assert_same("weight", weights, LayerPlan(spec, plan.index).initial_weights())


def test_initial_weights_are_uniform() -> None:
    weights = plan_of(inputs=4000, neurons=20).initial_weights()[:, :-1]
    largest = 2 ** (11 - 5)  # sqrt(4000) is between 2^5 and 2^6
    counts = np.bincount(weights.ravel() + largest, minlength=2 * largest + 1)
    # 80 000 / 129 = 620 each, give or take 25: five times that does not happen.
    assert 495 < counts.min() <= counts.max() < 745


def test_first_learned_matrix() -> None:
    """Of a dense layer uniform in +-1, another one for every layer and seed; of a convolution 0."""
    learned = ClassifierSpec("learned", bits=8)  # 1.0 is 32
    layers = (ConvSpec(5, classifier=learned), *[LayerSpec(800, classifier=learned)] * 2)
    spec = NetworkSpec("", 100, InputSpec(16, shape=(1, 4, 4)), layers)
    conv, *drawn = (plan.initial_matrix() for plan in NetworkPlan(spec).layers)
    assert_same("classifier of a convolution", np.zeros((80, 100)), conv)
    again = replace(spec, training=replace(spec.training, seed=spec.training.seed + 1))
    drawn += [plan.initial_matrix() for plan in NetworkPlan(again).layers[1:]]
    for matrix in drawn:
        counts = np.bincount(matrix.ravel() + 32, minlength=65)
        # 80 000 / 65 = 1231 each, give or take 35: five times that does not happen.
        assert 1056 < counts.min() <= counts.max() < 1406
    for one, other in combinations(drawn, 2):
        # Of two independent matrices 1 / 65 of the entries are equal: 1231 again.
        assert 1056 < (one == other).sum() < 1406


@pytest.mark.parametrize("decay", [0, 2, 0.5, 1.25, 2 + 1 / 256, 3 - 1 / 256])
def test_decays_of_fractions_make_the_rate_in_the_mean(decay: float) -> None:
    """Over all bytes that the noise can end with, the mean of 2^-shift lies as far between two powers as the decay."""
    plan = LayerPlan(NetworkSpec("", 2, InputSpec(1), (LayerSpec(1),), training=TrainingSpec(decay=(0, 3))), 0)
    shifts = [plan.decay_shift(decay, byte << 56 | 12345) for byte in range(256)]
    below, above = math.floor(decay), math.ceil(decay)
    assert set(shifts) <= {below, above}
    mean = sum(Fraction(1, 2**shift) for shift in shifts) / 256
    share = Fraction(above) - Fraction(decay)
    assert mean == share * Fraction(1, 2**below) + (1 - share) * Fraction(1, 2**above)


@pytest.mark.parametrize(("epochs", "to"), [(1, 1.0), (4, 0.5), (20, 0.02), (7, 1 / 256)])
def test_linear_decay(epochs: int, to: float) -> None:
    """The mean rate of every epoch is on the line from 1 to `to`, at the epoch's middle."""
    for epoch, decay in enumerate(linear_decay(epochs, to)):
        below, above = math.floor(decay), math.ceil(decay)
        rate = 2.0**-below if below == above else (above - decay) * 2.0**-below + (decay - below) * 2.0**-above
        assert rate == pytest.approx(1 - (1 - to) * (epoch + 0.5) / epochs, abs=2**-above / 256)
