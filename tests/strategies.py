"""Hypothesis strategies that more than one test draws from: descriptions of networks, and work for them."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.layer_spec import DECAY_STEPS, MAX_DECAY, MAX_SHIFT
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import (
    MAX_PROJECTION_BITS,
    AugmentSpec,
    ConvSpec,
    InputSpec,
    LayerSpec,
    NetworkSpec,
    TrainingSpec,
)

__all__ = ["EQUALS_IN_POOLS", "EVERY_BYTE_OF_A_MASK", "Step", "from_whole_range", "specs", "steps"]

EVERY_BYTE_OF_A_MASK = NetworkSpec("", 2, InputSpec(1), (LayerSpec(3000, lanes=100, dropout=0.3, rate_shift=6),))
"""So many neurons that some bytes of the mask are those at which they begin to stay."""

EQUALS_IN_POOLS = NetworkSpec(
    *("", 3, InputSpec(72, shape=(2, 6, 6)), (ConvSpec(6, pool=2, resolution=1, lanes=3, rate_shift=6),)),
    activation=QFormat(2, 1),
)
"""Of so few activations that many pools have several of the largest."""


@st.composite
def specs(
    draw: DrawFn,
    max_inputs: int = 20,
    max_neurons: int = 12,
    max_layers: int = 3,
    max_classes: int = 12,
    max_lanes: int | None = None,
    usual: bool = False,
    max_convs: int = 0,
) -> NetworkSpec:
    """Any valid description within these sizes; `max_lanes` defaults to `max_neurons`, `usual` leaves all layers their
    usual classifiers, and up to `max_convs` layers before the others are convolutions."""
    signed = draw(st.booleans())
    bits, fraction = draw(unsigned_formats(1 + signed))
    shape, convs = draw(convolutions(max_convs)) if max_convs else (None, [])
    size = draw(st.integers(1, max_inputs)) if shape is None else math.prod(shape)
    inputs = InputSpec(size, bits, min(fraction, bits - signed), signed, shape)
    activation = QFormat(*draw(unsigned_formats()))
    # Activations cannot have more fraction bits than the products that they are rounded from.
    least = max(0, activation.fraction - inputs.fraction)
    weight = draw(weight_formats(least))
    classes = draw(st.integers(2, max_classes))
    error_bits = draw(st.none() | st.integers(2, 8))
    error_fraction = max(6, (classes - 1).bit_length()) if error_bits is None else error_bits
    whole = st.integers(0, MAX_DECAY)
    broken = st.integers(0, MAX_DECAY * DECAY_STEPS).map(lambda entry: entry / DECAY_STEPS)
    schedules = st.lists(whole, min_size=1, max_size=8).map(tuple) | st.lists(broken, min_size=1, max_size=3).map(tuple)
    decay = draw(schedules)

    # Rates for which the update shifts right, by 1 to MAX_SHIFT bits: layer by layer, and common to all.
    ranges = []
    layer_count = draw(st.integers(max(1, len(convs)), max_layers))
    decays = [draw(st.none() | schedules) for _ in range(layer_count)]
    largest = [math.ceil(max(decay if own is None else own)) for own in decays]
    own_losses = (
        st.just(ClassifierSpec())
        if usual
        else classifier_specs(classes, error_fraction, activation.fraction, max(largest))
    )
    top = draw(own_losses)
    below = own_losses
    if not usual and top.error == "local":
        below |= others_errors(top, classes, error_fraction, max(largest))
    classifiers = [*(draw(below) for _ in range(layer_count - 1)), top]
    for number, (classifier, largest_decay) in enumerate(zip(classifiers, largest, strict=True)):
        fraction = inputs.fraction if number == 0 else activation.fraction
        source = top if classifier.error == "top" else classifier
        halved = source.error == "local" and source.loss == "cross-entropy" and not classifier.learns
        gain = 0 if classifier.learns else classifier.feedback_weights[-1].bit_length() - 1
        offset = fraction + error_fraction - halved + gain + largest_decay - weight.fraction
        offset += convs[number].cell_shift if number < len(convs) else 0
        ranges.append((max(0, 1 - offset), min(MAX_SHIFT, MAX_SHIFT - offset)))
    common = (max(low for low, _ in ranges), min(high for _, high in ranges))

    layers: list[LayerSpec | ConvSpec] = []
    for number, ((low, high), classifier, own_decay) in enumerate(zip(ranges, classifiers, decays, strict=True)):
        conv = convs[number].spec if number < len(convs) else None
        neurons = draw(st.integers(1, max_neurons)) if conv is None else conv.channels
        fields: dict[str, Any] = {
            "lanes": draw(st.integers(1, min(neurons, max_lanes or max_neurons))),
            "rate_shift": draw(st.none() | rate_shifts(low, high)),
            "score_shift": draw(st.none() | st.integers(0, 4) | st.integers(0, 16)),
            "init_shift": draw(st.none() | st.integers(0, min(16, weight.fraction))),
            "classifier": classifier,
            "decay": own_decay,
            "frozen": draw(st.sampled_from(["no", "no", "all", *["weights"] * classifier.learns])),
        }
        if conv is None:
            layers.append(LayerSpec(neurons, dropout=draw(st.just(0) | st.floats(0, 1, exclude_max=True)), **fields))
        else:
            layers.append(replace(conv, **fields))
    return NetworkSpec(
        name=draw(st.text(max_size=8)),
        classes=classes,
        input=inputs,
        layers=tuple(layers),
        activation=activation,
        weight=weight,
        error_bits=error_bits,
        noise_bits=draw(st.integers(1, 16)),
        early_exit=not usual and draw(st.booleans()),
        sum_scores=not usual and layer_count > 1 and draw(st.booleans()),
        training=TrainingSpec(
            draw(rate_shifts(*common)),
            decay,
            draw(st.integers(0, (1 << 64) - 1)),
            AugmentSpec(draw(st.integers(0, 4)), draw(st.booleans()), draw(st.integers(0, 8))),
        ),
    )


@dataclass(frozen=True)
class Convolution:
    """The shape of a convolution, and how many pixels make one of its cells, as a power of two."""

    spec: ConvSpec
    cell_shift: int


@st.composite
def convolutions(draw: DrawFn, most: int) -> tuple[tuple[int, int, int], list[Convolution]]:
    """A small image (channels, rows, columns), and up to `most` convolutions that leave something of it."""
    image = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    shape, found = (*image[1:], image[0]), []
    for _ in range(draw(st.integers(0, most))):
        kernel = draw(st.integers(1, 3) | st.integers(1, 5))
        padding = draw(st.none() | st.integers(0, kernel - 1))
        spec = ConvSpec(draw(st.integers(1, 4)), kernel, draw(st.integers(1, 2)), padding, draw(st.integers(1, 2)))
        if min(spec.output(shape)) < 1:
            spec = ConvSpec(spec.channels, kernel=1)
        rows, columns, _ = spec.output(shape)
        fits = [n for n in range(1, min(rows, columns) + 1) if rows % n == 0 and columns % n == 0]
        resolution = draw(st.sampled_from([0, *fits]))
        pixels = rows * columns // resolution**2 if resolution else 1
        found.append(Convolution(replace(spec, resolution=resolution), (pixels - 1).bit_length()))
        shape = spec.output(shape)
    return image, found


def classifier_specs(
    classes: int, error_fraction: int, activation_fraction: int, max_decay: int
) -> SearchStrategy[ClassifierSpec]:
    """What a layer can learn from without another layer, half of the time the usual."""
    bits = st.integers(1, 8)
    symmetric = st.builds(ClassifierSpec, bits=bits) | st.just(ClassifierSpec("ternary"))
    concordant = st.builds(
        ClassifierSpec, bits=bits, feedback=st.just("sign-concordant"), feedback_bits=st.integers(2, 8)
    )
    random = st.builds(ClassifierSpec, bits=bits, feedback=st.just("random"), feedback_bits=bits)
    with_loss = st.builds(
        replace, symmetric | concordant | random, loss=st.sampled_from(["cross-entropy", "squared-hinge"])
    )
    from_label = st.builds(replace, symmetric | random, error=st.just("label"))
    fits = (with_loss | from_label).filter(lambda spec: _fits(spec, spec, classes, error_fraction, max_decay))
    # Rates at which a product is shifted right, by a bit at least; most of them where matrices really move.
    losses = st.sampled_from(["cross-entropy", "squared-hinge"])
    learned = st.tuples(st.integers(8, 16), st.integers(0, 4) | st.integers(0, 16), losses).map(
        lambda chosen: ClassifierSpec(
            "learned",
            bits=chosen[0],
            rate_shift=min(16, chosen[1] + max(0, 1 + chosen[0] - 3 - activation_fraction - error_fraction)),
            loss=chosen[2],
        )
    )
    learned = learned.filter(
        lambda spec: spec.loss == "cross-entropy" or 2 * classes << error_fraction + max_decay + 3 < 1 << 22
    )
    return st.just(ClassifierSpec()) | fits | learned


def others_errors(
    top: ClassifierSpec, classes: int, error_fraction: int, max_decay: int
) -> SearchStrategy[ClassifierSpec]:
    """What a layer can learn from below a last layer with the classifier `top`: that one's error."""
    bits = st.integers(1, 4)
    random = st.builds(ClassifierSpec, feedback=st.just("random"), feedback_bits=bits, error=st.just("top"))
    any_width = st.builds(ClassifierSpec, bits=bits, error=st.just("top")) | random
    # The narrowest always fits where the top layer's own does.
    narrowest = st.just(ClassifierSpec(error="top"))
    return narrowest | any_width.filter(lambda spec: _fits(spec, top, classes, error_fraction, max_decay))


def _fits(spec: ClassifierSpec, source: ClassifierSpec, classes: int, error_fraction: int, max_decay: int) -> bool:
    """Whether errors of `source` can be brought back through the feedback of `spec`."""
    one = 1 << error_fraction
    largest = classes * (2 * one - 1) if source.loss == "squared-hinge" else one
    return len(f"{largest * sum(spec.feedback_weights):b}") + 1 + max_decay <= MAX_PROJECTION_BITS


def from_whole_range(plan: NetworkPlan, rng: np.random.Generator) -> list[NDArray[np.int32]]:
    """Any values that the formats have, for all that is learned."""
    formats = [plan.spec.weight] * len(plan.layers) + [p.classifier.format for p in plan.learned_matrices]
    return [
        rng.integers(form.min, form.max, shape, np.int32, endpoint=True)
        for form, shape in zip(formats, plan.arrays.values(), strict=True)
    ]


@st.composite
def unsigned_formats(draw: DrawFn, least: int = 1) -> tuple[int, int]:
    """Bits, `least` or more, and fraction bits of inputs and activations."""
    bits = draw(st.integers(least, 8))
    return bits, draw(st.integers(1, bits))


@st.composite
def weight_formats(draw: DrawFn, least_fraction: int) -> QFormat:
    """Formats of weights, most of them with largest weights around 1, so that neurons are active."""
    bits = draw(st.integers(2, 16))
    usual = st.integers(bits - 3, bits).map(lambda fraction: min(16, max(least_fraction, fraction)))
    return QFormat(bits, draw(usual | st.integers(least_fraction, 16)), signed=True)


def rate_shifts(low: int, high: int) -> SearchStrategy[int]:
    """From `low` to `high`, most of them near `low`, where weights really move."""
    return st.integers(low, min(high, low + 8)) | st.integers(low, high)


@dataclass(frozen=True)
class Step:
    """One sample for a network: `x` (inputs,) in the input format, None as `label` to infer only."""

    x: NDArray[np.uint8 | np.int8]
    label: int | None
    decay: tuple[float, ...]
    exits: tuple[int, ...]


def leads(plan: LayerPlan) -> SearchStrategy[int]:
    """At which samples stop at a layer: mostly such that some do."""
    none = st.just(plan.no_exit)
    return none | st.integers(0, min(20, plan.no_exit)) | st.integers(0, plan.no_exit) if plan.can_exit else none


def decays(plan: LayerPlan) -> SearchStrategy[float]:
    """What a layer's shift can have grown by."""
    one = 1 << plan.decay_fraction
    return st.integers(0, plan.max_decay * one).map(lambda entry: entry / one)


@st.composite
def steps(draw: DrawFn, spec: NetworkSpec, min_size: int = 4, max_size: int = 10) -> list[Step]:
    """Samples with few, some and many zeros, most of them to learn from, the decay changing in between."""
    pixels = st.integers(spec.input.format.min, spec.input.format.max)
    kind = np.int8 if spec.input.signed else np.uint8
    dense = arrays(kind, spec.input.size, elements=pixels, fill=st.nothing())
    sparse = arrays(kind, spec.input.size, elements=pixels, fill=st.just(0))
    step = st.builds(
        Step,
        x=dense | sparse,
        label=st.sampled_from([*range(spec.classes), None]),
        decay=st.tuples(*(decays(plan) for plan in NetworkPlan(spec).layers)),
        exits=st.tuples(*(leads(plan) for plan in NetworkPlan(spec).layers[:-1])),
    )
    return draw(st.lists(step, min_size=min_size, max_size=max_size))
