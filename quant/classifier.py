"""The local classifier: fixed random signs, its softmax error, and the error's way back to the neurons.

With M of +-1 the scores are S = M y and the error's projection is d = M^T e. Only score differences matter to a
softmax and the error sums to zero, so adding 1 to all of M changes neither: both sums can be taken with
M' = (M + 1) / 2, which is 0 or 1. S = 2 S' - sum(y) and d = 2 M'^T e exactly, an AND gate replaces every sign
change, and S' and h = d / 2 are a bit narrower. That is what the chip computes.

Source of the rule: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local errors" (2017).
"""

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.lfsr import bit_stream
from locallearn.quant.plan import ERROR_TABLE, LayerPlan

__all__ = ["TABLE", "back_project", "classify", "error", "scores", "signs"]

Ints = NDArray[np.int64]

TABLE = np.array([*ERROR_TABLE, 0], np.int64)


def signs(plan: LayerPlan, seed: int) -> NDArray[np.int64]:
    """M' of 0 and 1, shape (neurons, classes): the LFSR's bits in order, neuron by neuron."""
    bits = bit_stream(seed, plan.neurons * plan.classes)
    return bits.reshape(plan.neurons, plan.classes).astype(np.int64)


def scores(signs: Ints, activations: Ints) -> Ints:
    """S' = M' y, shape (classes,), unsigned, exact."""
    return activations @ signs


def classify(scores: Ints) -> int:
    """The class with the largest score; of equals the first."""
    return int(scores.argmax())


def error(plan: LayerPlan, scores: Ints, label: int) -> Ints:
    """e = softmax(scores) - onehot(label), shape (classes,), with error_bits fraction bits, its sum exactly 0.

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


def back_project(signs: Ints, error: Ints, activations: Ints) -> Ints:
    """h = d / 2 = M'^T e where the neuron is active, else 0; shape (neurons,), error_bits fraction bits."""
    projected: Ints = (signs @ error) * (activations > 0)
    return projected
