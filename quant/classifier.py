"""The local classifier: random matrices, scores, the loss's error, and the error's way back.

What it sees of a layer are its features y, those of a dense one its activations. The scores are S = M y and the error
comes back as d = K e, where an entry of M or K is the sum of its weights w, each with the sign of a random bit b:
sum((2 b - 1) w). Where only differences of scores matter, as to a softmax, and the error sums to zero, adding the same
number to all entries changes nothing. So M' = sum(b w) can stand for M = 2 M' - sum(w): S = 2 S' + a number that all
classes share, and d = 2 K' e exactly. An AND gate takes the place of every change of sign, and S' and h = d / 2 are a
bit narrower. That is what the chip computes wherever it can.

A learned M has entries of a format of its own, and K is M^T.

Source of the rule: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local errors" (2017).
"""

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.layer_plan import ERROR_TABLE, LayerPlan, see_noise
from locallearn.quant.lfsr import LeapingLfsr, bit_stream

__all__ = [
    "TABLE",
    "back_project",
    "classify",
    "error",
    "error_size",
    "lead",
    "learn",
    "matrices",
    "matrix",
    "scores",
    "summed",
]

Ints = NDArray[np.int64]

TABLE = np.array([*ERROR_TABLE, 0], np.int64)


def matrices(plan: LayerPlan, classifier_seed: int, feedback_seed: int) -> tuple[Ints, Ints]:
    """M and K as the chip takes them (M' or K' where it can), both of shape (features, classes); not learned.

    Each register's bits in order: feature by feature, class by class, an entry's smallest weight first. With M's signs,
    K takes only its other bits from its own register.
    """
    spec = plan.classifier
    drawn = _draw(plan, classifier_seed, plan.matrix_bits)
    back = drawn
    if spec.feedback != "symmetric":
        back = _draw(plan, feedback_seed, plan.feedback_bits)
    if spec.feedback == "sign-concordant":
        back = np.concatenate([back, drawn[..., -1:]], axis=-1)
    return (
        _entries(drawn, spec.matrix_weights, plan.signed_scores),
        _entries(back, spec.feedback_weights, plan.signed_feedback),
    )


def matrix(plan: LayerPlan, learned: NDArray[np.int32] | None) -> Ints:
    """What `scores` takes, (features, classes): of a classifier that learns what it has learned, else M of its seed."""
    if learned is not None:
        return learned.astype(np.int64)
    return matrices(plan, plan.classifier_seed, plan.feedback_seed)[0]


def _draw(plan: LayerPlan, seed: int, bits: int) -> Ints:
    """Bits of all entries (features, classes, bits of an entry), `bits` of them a feature."""
    stream = bit_stream(seed, plan.features * bits)
    return stream.reshape(plan.features, plan.classes, -1).astype(np.int64)


def _entries(bits: Ints, weights: tuple[int, ...], signed: bool) -> Ints:
    halves: Ints = bits @ np.array(weights)
    return 2 * halves - sum(weights) if signed else halves


def scores(plan: LayerPlan, matrix: Ints, features: Ints) -> Ints:
    """S' = M' y, or S = M y; shape (classes,), exact. A learned M's are cut to the same units."""
    total: Ints = features @ matrix
    return total >> plan.score_drop if plan.classifier.learns else total


def classify(scores: Ints) -> int:
    """The class with the largest score; of equals the first."""
    return int(scores.argmax())


def summed(plan: LayerPlan, scores: Ints, plan_below: LayerPlan, scores_below: Ints) -> Ints:
    """The scores of two layers added, both in units of their softmax; shape (..., classes), exact."""
    unit = max(plan.score_unit, plan_below.score_unit)
    return (scores << (unit - plan.score_unit)) + (scores_below << (unit - plan_below.score_unit))


def lead(scores: Ints) -> int:
    """How far the best score is above the second, in the scores' units."""
    second, best = np.partition(scores, -2)[-2:]
    return int(best - second)


def error(plan: LayerPlan, scores: Ints, label: int) -> Ints:
    """What the classifier is wrong by, or minus the label where its projection takes the error's place.

    Shape (classes,), with error_bits fraction bits.
    """
    if plan.classifier.error == "label":
        result = np.zeros_like(scores)
        result[label] = -1 << plan.error_bits
        return result
    hinge = plan.classifier.loss == "squared-hinge"
    return _hinge_error(plan, scores, label) if hinge else _softmax_error(plan, scores, label)


def _softmax_error(plan: LayerPlan, scores: Ints, label: int) -> Ints:
    """e = softmax(scores) - onehot(label), its sum exactly 0.

    The exponential is a table of quarter octaves, the division a shift by the sum rounded up to a power of two.
    The label's own entry is minus the sum of the others: a sum other than 0 would push all activations of a
    layer the same way, sample after sample.
    """
    distance = np.minimum((scores.max() - scores) >> plan.score_shift, len(ERROR_TABLE))
    weight = TABLE[distance]
    normaliser = int(weight.sum() - 1).bit_length()
    result: Ints = (weight << plan.error_bits) >> normaliser
    result[label] = 0
    result[label] = -result.sum()
    return result


def _hinge_error(plan: LayerPlan, scores: Ints, label: int) -> Ints:
    """e = -u max(0, 1 - u s), u = 1 for the label and -1 for the others, each clipped to just within 2.

    Half the gradient of the squared hinge, summed over the classes.
    """
    sign = np.full_like(scores, -1)
    sign[label] = 1
    missing = (1 << plan.margin_shift) - sign * scores
    size = (missing << plan.error_bits) >> plan.margin_shift
    result: Ints = -sign * np.clip(size, 0, plan.spec.error_max(plan.index))
    return result


def error_size(plan: LayerPlan, error: Ints) -> int:
    """How much there is to learn from, in the error's units: 1 - p(label) of a softmax, else the sum of all sizes."""
    size = int(np.abs(error).sum())
    return size // 2 if plan.spec.error_sums_to_zero(plan.index) else size


def back_project(plan: LayerPlan, feedback: Ints, error: Ints) -> Ints:
    """h = d / 2 = K' e, or d = K e; shape (features,), exact.

    A learned M's is rounded to the error's units, halves up.
    """
    projected: Ints = feedback @ error
    if plan.classifier.learns:
        fraction = plan.classifier.format.fraction
        projected = (projected + (1 << fraction >> 1)) >> fraction
    return projected


def learn(plan: LayerPlan, matrix: Ints, scaled_error: Ints, features: Ints, noise: LeapingLfsr) -> Ints:
    """M after one sample: saturate(M - ((y e^T + noise) >> matrix_update_shift)).

    The error is scaled up as for the weights. The noise register moves on once a feature; classes see its state as
    lanes do.
    """
    words = see_noise(noise.take(plan.features), plan.classes, plan.matrix_noise_bits)
    change = (np.outer(features, scaled_error) + plan.matrix_noise_value(words)) >> plan.matrix_update_shift
    learned: Ints = np.clip(matrix - change, plan.classifier.format.min, plan.classifier.format.max)
    return learned
