"""A float network as one for the chip: formats, units and learning rates by what its layers make of samples.

A layer's activations a become integers n = a / u. Its unit u is folded into its own weights and the next layer's, so
that all have the formats of the description. The scores of a classifier M are S = sum(n M) / 2 in quarters of an
octave, see `classifier.py`: logits of sum(n w) need M = w 8 / ln(2) 2^score_shift.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from locallearn.host.connect import fastest_model
from locallearn.host.float_network import FloatLayer, FloatNetwork
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.conv import average
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.errors import ModelError
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.layer_spec import MAX_SHIFT, ConvSpec, LayerSpec
from locallearn.quant.network import quantise_pixels
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import InputSpec, NetworkSpec, TrainingSpec, linear_decay

__all__ = ["LayerReport", "Quantised", "quantise", "real_inputs"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ACTIVATION = QFormat(8, 8)
"""Below 1, beside a bias of 0.5: so biases need no larger weights than the rest."""

_MAX_FRACTION = 16
_MAX_LANES = 16
"""Of a layer: about what the presets have; what `--set` changes later needs no other weights."""

_CELLS = 5
"""Rows and columns of cells that the classifier of an inner convolution sees, or the next that divide its output."""

_CLASSIFIER_STEP, _WEIGHT_STEP = 1 / 8, 2
"""What a sample's logits change by, of its error, by a step of the classifier and by one of the weights; by trial.
The second is beyond 1, since errors are far below it for most samples."""

_UNIT = math.log(2) / 8
"""The logit that n M = 1 adds at a score shift of 0."""

_EPOCHS, _LAST_RATE = 20, 0.05
"""For few samples; the rate falls to this share."""


@dataclass(frozen=True)
class LayerReport:
    """What became of a layer.

    name            of the node that it comes from
    weights         how many, biases included
    unit            of its activations, as the model has them
    weight_snr      signal to noise of the rounded weights, in dB; the last layer's classifier is not among them. None
                    where there is no signal or no noise
    clipped         activations above the largest, in per cent
    activation_snr  signal to noise of the activations, in dB, all layers before rounded too
    """

    name: str
    weights: int
    unit: float
    weight_snr: float | None
    clipped: float
    activation_snr: float | None


@dataclass(frozen=True)
class Quantised:
    """The description, what a chip of it begins with as `NetworkPlan.arrays` lists it, and what it cost.

    temperature  the model's scores are so many times the chip's, whose classifier cannot be larger
    score_snr    signal to noise of the scores' differences, in dB, as that of activations
    """

    spec: NetworkSpec
    arrays: list[NDArray[np.int32]]
    layers: list[LayerReport]
    temperature: float
    score_snr: float | None


def quantise(
    network: FloatNetwork, name: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64], weight_bits: int
) -> Quantised:
    """The network as integers, by calibration with samples pixels (n, size), labels (n,).

    Units are chosen by the activations; learning rates too; and the classifiers of all layers but the last, of which
    the model knows nothing, are fitted. Where the last map has biases, the last layer has one more neuron, or channel,
    that is always the same, for the classifier to take them from.

    Raises SpecError where no description is of such a network, ModelError where its numbers are beyond all.
    """
    floats = _activations(network, pixels)
    units = [_unit(layer, values) for layer, values in zip(network.layers, floats, strict=True)]
    below = [2.0**-_ACTIVATION.fraction, *units]
    scaled = [_scaled(*known) for known in zip(network.layers, below, units, strict=False)]
    form = _weight_format(scaled, weight_bits, _ACTIVATION.fraction - _input(network).fraction)
    spec = _describe(network, name, form)
    weights = [_rounded(values, form) for values in scaled]
    if network.biases.any():
        weights[-1] = _with_constant(NetworkPlan(spec).layers[-1], weights[-1])

    plan, model, integers = NetworkPlan(spec), fastest_model()(spec), quantise_pixels(spec, pixels)
    model.weights = [*weights, *(np.zeros((layer.features, layer.classes), np.int32) for layer in plan.layers)]
    activations = model.run(integers).activations
    features = [_features(layer, values) for layer, values in zip(plan.layers, activations, strict=True)]
    logits = [_fitted(seen, labels, network.classes) for seen in features[:-1]]
    last, temperature = _fitting(plan.layers[-1], _last(network, plan.layers[-1], units[-1], features[-1]))
    logits.append(last)
    inputs = [integers, *activations]
    fitted = [_classifier(*known) for known in zip(plan.layers, inputs, features, logits, strict=False)]

    reports = []
    for number, (layer, exact, unit, wanted) in enumerate(zip(network.layers, scaled, units, floats, strict=True)):
        ints = weights[number][: layer.neurons]
        clipped = float((wanted > unit * (_ACTIVATION.max + 0.5)).mean())
        given = _without_constant(network, number, activations[number]) * unit
        weight_snr = _snr(exact, ints / 2.0**form.fraction)
        reports.append(
            LayerReport(layer.name, ints.size, unit, weight_snr, round(100 * clipped, 4), _snr(wanted, given))
        )
    spec = replace(spec, layers=tuple(layer for layer, _ in fitted))
    wanted = network.scores(floats[-1])
    given = features[-1] @ _logits(NetworkPlan(spec).layers[-1], fitted[-1][1]) * temperature
    score_snr = _snr(wanted - wanted.mean(axis=1, keepdims=True), given - given.mean(axis=1, keepdims=True))
    return Quantised(spec, [*weights, *(matrix for _, matrix in fitted)], reports, temperature, score_snr)


def _activations(network: FloatNetwork, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Of all layers, checked."""
    with np.errstate(all="ignore"):
        found = network.activations(real_inputs(network, pixels))
    for layer, values in zip(network.layers, found, strict=True):
        if not np.isfinite(values).all():
            raise ModelError(f"{layer.name}: its activations of the calibration's samples are not finite")
    return found


def real_inputs(network: FloatNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels (n, size) of images, channels first, as the first layer takes them."""
    input_spec = _input(network)
    integers = quantise_pixels(NetworkSpec("", 2, input_spec, (LayerSpec(1),)), pixels)
    return integers.astype(np.float32) / np.float32(2**input_spec.fraction)


def _input(network: FloatNetwork) -> InputSpec:
    return InputSpec(network.size, 8, 8 - network.signed, network.signed, network.shape)


# -- units and weights ------------------------------------------------------------------------------------


def _unit(layer: FloatLayer, activations: NDArray[np.float32]) -> float:
    """The power of two that costs the activations least; or where the model clamps them, perhaps that over 255."""
    largest = float(activations.max(initial=0))
    if not largest:
        return 1.0
    # Below, numbers are lost to float32.
    top = max(math.ceil(math.log2(largest / _ACTIVATION.max)), -100)
    units = [2.0**power for power in range(top - 5, top + 1)]
    if layer.limit is not None:
        # What is above would not be clamped.
        units = [unit for unit in units if unit * _ACTIVATION.max <= layer.limit] + [layer.limit / _ACTIVATION.max]

    def cost(unit: float) -> float:
        rounded = np.clip(np.round(activations / np.float32(unit)), 0, _ACTIVATION.max) * np.float32(unit)
        return float(np.square(rounded - activations, dtype=np.float64).mean())

    return min(units, key=cost)


def _scaled(layer: FloatLayer, below: float, unit: float) -> Floats:
    """The weights, as of inputs and outputs in the chip's units, biases last by the constant 0.5."""
    own = unit * 2.0**_ACTIVATION.fraction
    biases = 2 * layer.biases / own
    return np.column_stack([layer.weights * (below * 2.0**_ACTIVATION.fraction / own), biases])


def _weight_format(scaled: Sequence[Floats], bits: int, least: int) -> QFormat:
    """With the most fraction bits that leave room for the largest, and `least` of them."""
    largest = max(float(np.abs(values).max()) for values in scaled)
    room = math.floor(math.log2((2 ** (bits - 1) - 1) / largest)) if largest else _MAX_FRACTION
    return QFormat(bits, min(max(room, least), _MAX_FRACTION), signed=True)


def _rounded(values: Floats, form: QFormat) -> NDArray[np.int32]:
    return np.clip(np.round(values * 2.0**form.fraction), form.min, form.max).astype(np.int32)


def _snr(wanted: NDArray[np.floating], given: NDArray[np.floating]) -> float | None:
    """In dB; None where there is no signal, or no noise."""
    signal, noise = (float(np.square(values, dtype=np.float64).sum()) for values in (wanted, wanted - given))
    return round(10 * math.log10(signal / noise), 2) if signal and noise else None


# -- the description --------------------------------------------------------------------------------------


def _describe(network: FloatNetwork, name: str, form: QFormat) -> NetworkSpec:
    layers: list[LayerSpec | ConvSpec] = []
    for number, (layer, shape) in enumerate(zip(network.layers, network.maps()[1:], strict=True)):
        is_last = number == len(network.layers) - 1
        neurons = layer.neurons + (is_last and bool(network.biases.any()))
        classifier = ClassifierSpec("learned", bits=max(12, form.bits))
        if layer.window is None:
            layers.append(LayerSpec(neurons, _lanes(neurons), classifier=classifier))
            continue
        assert shape is not None
        resolution = network.resolution if is_last else _resolution(shape[0], shape[1])
        layers.append(
            replace(layer.window, channels=neurons, lanes=_lanes(neurons), resolution=resolution, classifier=classifier)
        )
    training = TrainingSpec(decay=linear_decay(_EPOCHS, _LAST_RATE))
    return NetworkSpec(
        name, network.classes, _input(network), tuple(layers), activation=_ACTIVATION, weight=form, training=training
    )


def _lanes(neurons: int) -> int:
    """So many that no pass has many idle."""
    return -(-neurons // -(-neurons // _MAX_LANES))


def _resolution(rows: int, columns: int) -> int:
    fits = [side for side in range(1, min(rows, columns) + 1) if rows % side == 0 and columns % side == 0]
    return min(fits, key=lambda side: abs(math.log(side / _CELLS)))


def _with_constant(plan: LayerPlan, weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """One more neuron, that sees its bias alone and is as large as that can make it."""
    largest = (plan.output_format.max << plan.requantise_shift) // plan.input_format.half
    row = np.zeros((1, plan.fan_in), np.int32)
    row[0, -1] = min(plan.weight_format.max, largest)
    return np.concatenate([weights, row])


def _without_constant(network: FloatNetwork, number: int, activations: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The activations that the model has."""
    neurons = network.layers[number].neurons
    if network.layers[number].window is None:
        return activations[:, :neurons]
    shape = network.maps()[number + 1]
    assert shape is not None
    return activations.reshape(len(activations), *shape[:2], -1)[..., :neurons].reshape(len(activations), -1)


# -- classifiers and rates --------------------------------------------------------------------------------


def _features(plan: LayerPlan, activations: NDArray[np.uint8]) -> Ints:
    """What the classifier sees, (n, features)."""
    if not isinstance(plan, ConvPlan):
        return activations.astype(np.int64)
    return np.array([average(plan, values.astype(np.int64)) for values in activations])


def _last(network: FloatNetwork, plan: LayerPlan, unit: float, features: Ints) -> Floats:
    """The logits' weights (features, classes), by integers; only differences count: a feature's are 0 in the mean."""
    matrix: Floats = unit * (network.matrix - network.matrix.mean(axis=1, keepdims=True))
    if isinstance(plan, ConvPlan):
        # The chip divides a cell's sum by a power of two.
        matrix = matrix * (2.0**plan.cell_shift / math.prod(plan.cell))
    if not network.biases.any():
        return matrix
    neurons = network.layers[-1].neurons
    by_place = np.pad(matrix.reshape(-1, neurons, network.classes), ((0, 0), (0, 1), (0, 0)))
    # At the first place; it is the same everywhere.
    by_place[0, -1] = (network.biases - network.biases.mean()) / max(1, features[0, neurons])
    return by_place.reshape(-1, network.classes)


def _fitting(plan: LayerPlan, logits: Floats) -> tuple[Floats, float]:
    """The same, divided by the power of two with which no entry is beyond the classifier's, and that."""
    room = _UNIT * plan.classifier.format.max / 2.0**plan.classifier.format.fraction
    largest = float(np.abs(logits).max())
    temperature = 2.0 ** max(0, math.ceil(math.log2(largest / room))) if largest else 1.0
    return logits / temperature, temperature


def _logits(plan: LayerPlan, matrix: NDArray[np.int32]) -> Floats:
    """What a classifier's entries add to logits."""
    weights: Floats = matrix / 2.0**plan.classifier.format.fraction * _UNIT / 2.0**plan.score_shift
    return weights


def _fitted(features: Ints, labels: NDArray[np.int64], classes: int) -> Floats:
    """The same, of a classifier that says what it can of the labels; 0 for classes without samples."""
    weights = np.zeros((features.shape[1], classes))
    there = np.unique(labels)
    scale = math.sqrt(np.square(features).mean())
    if len(there) < 2 or not scale:
        return weights
    with warnings.catch_warnings():
        # What it has found by then will do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = LogisticRegression(fit_intercept=False, max_iter=100).fit(features / scale, labels).coef_.T / scale
    weights[:, there] = np.column_stack([-found / 2, found / 2]) if len(there) == 2 else found
    return weights


def _classifier(
    plan: LayerPlan, x: NDArray[np.uint8 | np.int8], features: Ints, logits: Floats
) -> tuple[LayerSpec | ConvSpec, NDArray[np.int32]]:
    """The layer with its temperature and rates, and its classifier."""
    shift = _score_shift(plan, logits)
    matrix = _rounded(logits / _UNIT * 2.0**shift, plan.classifier.format)
    weights, own = _rates(plan, x, features, matrix, shift)
    classifier = replace(plan.classifier, rate_shift=own)
    layer = plan.spec.layers[plan.index]
    return replace(layer, score_shift=shift, rate_shift=weights, classifier=classifier), matrix


def _score_shift(plan: LayerPlan, logits: Floats) -> int:
    """The largest with which entries take half of their range, and have the rest to learn in."""
    largest = float(np.abs(logits).max()) / _UNIT
    range_bits = plan.classifier.format.bits - plan.classifier.format.fraction - 2
    return min(max(math.floor(range_bits - math.log2(largest)), 0), 16) if largest else 0


def _rates(
    plan: LayerPlan, x: NDArray[np.uint8 | np.int8], features: Ints, matrix: NDArray[np.int32], score_shift: int
) -> tuple[int, int]:
    """The shifts with which a step of the weights, and one of the classifier, changes a sample's logits by as much of
    its error as wanted, in the mean of the samples; as near as the formats allow.

    A step of the classifier changes M by 2^-rate e y, and so the logits by e times y^2; one of the weights changes the
    activations by 2^-rate M^T e times x^2, and the logits by M times that.
    """
    logit = _UNIT * 2.0 ** (plan.output_format.fraction - score_shift)
    y = features / 2.0**plan.output_format.fraction
    entries = np.square(matrix / 2.0**plan.classifier.format.fraction)
    energy = float(np.square(x / 2.0**plan.input_format.fraction).mean()) * (plan.fan_in - 1) + 0.25
    own = logit * energy * float(((features > 0) @ entries).mean())
    offset = plan.update_shift - plan.spec.rate_shift(plan.index)
    weights = min(max(_shift(own / _WEIGHT_STEP), 1 - offset, 0), MAX_SHIFT - max(0, offset))
    least = 1 - (plan.matrix_update_shift - plan.classifier.rate_shift)
    gain = logit * float(np.square(y).sum(axis=1).mean())
    return weights, min(max(_shift(gain / _CLASSIFIER_STEP), least, 0), 16)


def _shift(gain: float) -> int:
    """The shift that makes about 1 of it."""
    return round(math.log2(gain)) if gain else 0
