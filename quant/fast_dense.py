"""A dense layer and any layer's classifier, compiled; see `fast.py`.

They are one file as numba, which keeps what it compiled, looks for changes only in the file of the outermost function.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numba import int32, njit
from numba.extending import intrinsic
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.layer_plan import MASK_LEAP, NOISE_LEAP, LayerPlan, lane_rotation
from locallearn.quant.layer_spec import DECAY_STEPS
from locallearn.quant.lfsr import STATE_BITS, TAPS, LeapingLfsr
from locallearn.quant.network import LayerCounters, Pixels

__all__ = [
    "EVENTS",
    "LEARNED",
    "SATURATED",
    "SKIPPED",
    "WORDS_READ",
    "WORDS_WRITTEN",
    "FastDense",
    "FastLayer",
    "LayerBatch",
    "back_project",
    "classify",
    "decay_shift",
    "empty_batch",
    "find_error",
    "lead",
    "learn_matrix",
    "move_on",
    "next_words",
    "split_decay",
]

Ints = NDArray[np.int64]

_VECTOR = 32
"""Neurons are padded to a multiple of this, so that vector loops leave no rest."""

# Where each of LayerCounters is among a layer's.
EVENTS, WORDS_READ, WORDS_WRITTEN, LEARNED, SKIPPED, SATURATED = range(6)

LayerBatch = tuple[NDArray[np.uint8], Ints, Ints, Ints]
"""Of a batch through a layer: activations (n, outputs), and predicted class, error's size and lead (n,)."""

_SOFTMAX, _HINGE, _LABEL = range(3)


class _Numbers(NamedTuple):
    """A layer's plan as compiled code takes it."""

    inputs: int
    neurons: int
    lanes: int
    groups: int
    bias: int
    features: int
    requantise_shift: int
    activation_max: int
    score_shift: int
    error_rule: int
    error_bits: int
    margin_shift: int
    update_shift: int
    noise_bits: int
    dropped: int
    can_exit: bool
    learned: bool
    matrix_fraction: int
    score_drop: int
    matrix_shift: int
    matrix_noise_bits: int
    matrix_max: int
    max_decay: int
    weight_min: int
    weight_max: int


class _State(NamedTuple):
    """What a layer keeps. Its lanes side by side, group after group, make `padded` columns; so do its features."""

    memory: NDArray[Any]  # (fan_in, padded) weights
    matrix: NDArray[np.int32]  # (classes, padded) M or M', see `classifier.matrices`
    feedback: NDArray[np.int32]  # (classes, padded) K or K'; the same array where M is learned
    words: NDArray[np.uint64]  # (groups * fan_in + 64,) noise, the next 64 words in front
    matrix_words: NDArray[np.uint64]  # (features + 64,) that of a learned matrix
    mask: NDArray[np.uint64]  # (neurons + 64,) dropout's, the next 64 words in front
    counters: NDArray[np.int64]  # (6,) as LayerCounters


class _Scratch(NamedTuple):
    """What a sample needs. Sums have 32 bits where they are exact."""

    inputs: NDArray[np.int64]  # (fan_in,) a sample's events: which input
    values: NDArray[np.int32]  # (fan_in,) and its value
    sums: NDArray[Any]  # (padded,)
    features: NDArray[np.int32]  # (padded,) of a dense layer its activations
    scores: NDArray[np.int32]  # (classes,)
    error: NDArray[np.int32]  # (classes,)
    gradient: NDArray[np.int32]  # (padded,) back-projected errors of the features
    rotation: NDArray[np.uint64]  # (lanes,) of a lane's noise; constant
    class_rotation: NDArray[np.uint64]  # (classes,) of a class's
    noise: NDArray[np.int32]  # (padded,) what an event's noise adds, lane by lane
    clipped: NDArray[np.int32]  # (padded,) weights that the sample's update clipped
    first: NDArray[np.int64]  # (groups,) where the group's noise begins


_compiled = njit(cache=True, nogil=True, error_model="numpy")

_inlined = njit(cache=True, nogil=True, error_model="numpy", inline="always")
"""Into the loop over samples: a call with all arrays of a layer costs as much as half of a sample's work."""


def _type_shift(context: Any, value: Any, amount: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ashr(*arguments)

    return int32(int32, int32), build


_shift_right: Any = intrinsic(_type_shift)
"""A 32-bit arithmetic shift: numba's own widens to 64 bits, and vectors then hold half as many."""


@_compiled
def _list_events(x, numbers, scratch):  # type: ignore[no-untyped-def]
    """Non-zero inputs in order, the bias last; returns how many."""
    inputs, values = scratch.inputs, scratch.values
    count = 0
    for i in range(numbers.inputs):
        # Written always, kept if not 0: a branch would be mispredicted at every edge of an image.
        inputs[count] = i
        values[count] = x[i]
        count += x[i] != 0
    inputs[count] = numbers.inputs
    values[count] = numbers.bias
    return count + 1


@_compiled
def _forward(memory, count, numbers, scratch):  # type: ignore[no-untyped-def]
    """`DenseWeights.forward`."""
    inputs, values, sums, activations = scratch.inputs, scratch.values, scratch.sums, scratch.features
    sums[:] = 0
    # Four events a pass: sums are loaded and stored a quarter as often.
    whole = count - count % 4
    for j in range(0, whole, 4):
        v0, v1, v2, v3 = values[j], values[j + 1], values[j + 2], values[j + 3]
        row0, row1, row2, row3 = memory[inputs[j]], memory[inputs[j + 1]], memory[inputs[j + 2]], memory[inputs[j + 3]]
        for p in range(len(sums)):
            sums[p] += v0 * row0[p] + v1 * row1[p] + v2 * row2[p] + v3 * row3[p]
    for j in range(whole, count):
        v, row = values[j], memory[inputs[j]]
        for p in range(len(sums)):
            sums[p] += v * row[p]
    half = (1 << numbers.requantise_shift) >> 1
    for p in range(len(sums)):
        activations[p] = min(max((sums[p] + half) >> numbers.requantise_shift, 0), numbers.activation_max)


@_compiled
def classify(matrix, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.scores` and `classifier.classify`."""
    features, scores = scratch.features, scratch.scores
    best = 0
    for c in range(len(scores)):
        row = matrix[c]
        if numbers.learned:
            exact = np.int64(0)
            for p in range(len(features)):
                exact += np.int64(features[p]) * row[p]
            scores[c] = exact >> numbers.score_drop
        else:
            total = np.int32(0)
            for p in range(len(features)):
                total += features[p] * row[p]
            scores[c] = total
        if scores[c] > scores[best]:
            best = c
    return best


@_compiled
def lead(best, scratch):  # type: ignore[no-untyped-def]
    """`classifier.lead`."""
    scores = scratch.scores
    second = scores[0 if best else 1]
    for c in range(len(scores)):
        if c != best:
            second = max(second, scores[c])
    return np.int64(scores[best]) - second


@_compiled
def find_error(label, best, table, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.error`; returns its size."""
    scores, error = scratch.scores, scratch.error
    one = 1 << numbers.error_bits
    if numbers.error_rule == _LABEL:
        error[:] = 0
        error[label] = -one
        return one
    if numbers.error_rule == _HINGE:
        size = 0
        for c in range(len(scores)):
            sign = 1 if c == label else -1
            missing = (1 << numbers.margin_shift) - sign * np.int64(scores[c])
            part = min(max((missing << numbers.error_bits) >> numbers.margin_shift, 0), 2 * one - 1)
            error[c] = -sign * part
            size += part
        return size
    total = 0
    for c in range(len(scores)):
        distance = (scores[best] - scores[c]) >> numbers.score_shift
        error[c] = table[min(distance, len(table) - 1)]
        total += error[c]
    normaliser = 0
    while total > 1 << normaliser:
        normaliser += 1
    others = 0
    for c in range(len(scores)):
        if c != label:
            error[c] = (error[c] << numbers.error_bits) >> normaliser
            others += error[c]
    error[label] = -others
    return others


@_compiled
def back_project(feedback, error, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.back_project`."""
    gradient = scratch.gradient
    if numbers.learned:
        half = (1 << numbers.matrix_fraction) >> 1
        for p in range(len(gradient)):
            exact = np.int64(half)
            for c in range(len(error)):
                exact += np.int64(error[c]) * feedback[c, p]
            gradient[p] = exact >> numbers.matrix_fraction
        return
    gradient[:] = 0
    for c in range(len(error)):
        e, row = error[c], feedback[c]
        if e:
            for p in range(len(gradient)):
                gradient[p] += e * row[p]


@_compiled
def next_words(words, count):  # type: ignore[no-untyped-def]
    """With 64 words known, `count` more behind them: the recurrence of the bits holds between words, see `lfsr`."""
    for k in range(STATE_BITS, STATE_BITS + count):
        words[k] = words[k - TAPS[0]] ^ words[k - TAPS[1]] ^ words[k - TAPS[2]] ^ words[k - TAPS[3]]


@_compiled
def move_on(words, count):  # type: ignore[no-untyped-def]
    """Behind `count` words that were used."""
    words[:STATE_BITS] = words[count : count + STATE_BITS].copy()


@_compiled
def learn_matrix(matrix, words, error, scale, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.learn`."""
    features = scratch.features
    next_words(words, numbers.features)
    spare = numbers.matrix_shift - numbers.matrix_noise_bits
    middle = (1 << spare) >> 1
    mask = np.uint64((1 << numbers.matrix_noise_bits) - 1)
    for c in range(len(error)):
        row, turn = matrix[c], scratch.class_rotation[c]
        scaled = np.int64(error[c]) << scale
        for p in range(numbers.features):
            turned = words[p] >> turn | words[p] << (np.uint64(64) - turn & np.uint64(63))
            noise = np.int64(turned & mask) << spare | middle
            change = (features[p] * scaled + noise) >> numbers.matrix_shift
            row[p] = min(max(row[p] - change, ~numbers.matrix_max), numbers.matrix_max)
    move_on(words, numbers.features)


@_compiled
def decay_shift(state, rounded, share):  # type: ignore[no-untyped-def]
    """`LayerPlan.decay_shift`: `share` of 256 samples have one less than the decay rounded up."""
    return rounded - (np.int64(state >> np.uint64(STATE_BITS - 8)) < share)


@_compiled
def _drop(mask, numbers, activations):  # type: ignore[no-untyped-def]
    """Leave neurons out, each by its own byte."""
    next_words(mask, numbers.neurons)
    for p in range(numbers.neurons):
        if np.int64(mask[p] & np.uint64(0xFF)) < numbers.dropped:
            activations[p] = 0
    move_on(mask, numbers.neurons)


@_compiled
def _learn(memory, words, count, numbers, scratch):  # type: ignore[no-untyped-def]
    """`DenseWeights.learn`; returns (words, weights that were clipped).

    All lanes of an event are updated together. Those of a group without errors take part with any noise: it is
    less than a unit of the weights, so that nothing changes.
    """
    inputs, values, gradient, first = scratch.inputs, scratch.values, scratch.gradient, scratch.first
    lanes = numbers.lanes
    used = 0
    for group in range(numbers.groups):
        first[group] = used
        for p in range(group * lanes, group * lanes + lanes):
            if gradient[p]:
                used += count
                break
    next_words(words, used)

    # All in 32 bits: a product has at most 26. Beyond a shift of 30 the noise is a multiple of what can be shifted
    # away before, so that the result is the same.
    early = max(numbers.update_shift - 30, 0)
    late = numbers.update_shift - early
    spare = late - numbers.noise_bits
    middle = (1 << spare) >> 1
    mask = np.uint64((1 << numbers.noise_bits) - 1)
    low, high = np.int32(numbers.weight_min), np.int32(numbers.weight_max)
    noise, clipped, rotation = scratch.noise, scratch.clipped, scratch.rotation
    clipped[:] = 0
    for j in range(count):
        for group in range(numbers.groups):
            word = words[first[group] + j]
            part = noise[group * lanes : group * lanes + lanes]
            for p in range(lanes):
                turned = word >> rotation[p] | word << (np.uint64(64) - rotation[p] & np.uint64(63))
                part[p] = np.int64(turned & mask) << spare | middle
        v, row = values[j], memory[inputs[j]]
        for p in range(len(noise)):
            product = _shift_right(np.int32(v * gradient[p]), np.int32(early))
            exact = np.int32(row[p] - _shift_right(np.int32(product + noise[p]), np.int32(late)))
            kept = min(max(exact, low), high)
            clipped[p] += kept != exact
            row[p] = kept
    move_on(words, used)
    return used, clipped.sum()


@_inlined
def _infer(x, drop, numbers, state, scratch, activations):  # type: ignore[no-untyped-def]
    """`GoldenLayer.infer`; fills `activations` (neurons,), returns (events, predicted class)."""
    count = _list_events(x, numbers, scratch)
    _forward(state.memory, count, numbers, scratch)
    if drop and numbers.dropped:
        _drop(state.mask, numbers, scratch.features)
    best = classify(state.matrix, numbers, scratch)
    state.counters[EVENTS] += count
    state.counters[WORDS_READ] += count * numbers.groups
    for p in range(numbers.neurons):
        activations[p] = scratch.features[p]
    return count, best


@_inlined
def _learn_from(error, size, count, rounded, share, numbers, state, scratch):  # type: ignore[no-untyped-def]
    """`GoldenLayer.learn`, from the sample of `count` events that was inferred last, an error and its size."""
    counters = state.counters
    if size == 0:
        counters[SKIPPED] += 1
        return
    scale = numbers.max_decay - decay_shift(state.words[0], rounded, share)
    back_project(state.feedback, error, numbers, scratch)
    gradient, activations = scratch.gradient, scratch.features
    for p in range(len(gradient)):
        gradient[p] = gradient[p] << scale if activations[p] > 0 else 0
    used, clipped = _learn(state.memory, state.words, count, numbers, scratch)
    if numbers.learned:
        learn_matrix(state.matrix, state.matrix_words, error, scale, numbers, scratch)
    counters[LEARNED] += 1
    counters[WORDS_READ] += used
    counters[WORDS_WRITTEN] += used
    counters[SATURATED] += clipped


@_compiled
def _run(x, labels, learns, rounded, share, table, numbers, state, scratch, activations, predicted, error_size, leads):  # type: ignore[no-untyped-def]
    """Samples x (n, inputs) through a layer, which `learns` from those with a label that is not negative.

    Fills activations (n, neurons), predicted (n,), error_size (n,), and leads (n,) where samples can stop. Returns the
    events of the last sample.
    """
    count = 0
    for k in range(len(x)):
        count, predicted[k] = _infer(x[k], labels[k] >= 0, numbers, state, scratch, activations[k])
        if numbers.can_exit:
            leads[k] = lead(predicted[k], scratch)
        if learns and labels[k] >= 0:
            error_size[k] = find_error(labels[k], predicted[k], table, numbers, scratch)
            _learn_from(scratch.error, error_size[k], count, rounded, share, numbers, state, scratch)
    return count


class FastLayer(ABC):
    """One layer's state, and its plan in the compiled code's terms.

    Its arrays have room for so many `columns` of weights and so many `features`.
    """

    def __init__(self, plan: LayerPlan, columns: int, features: int, dtype: type[Any]) -> None:
        self.plan = plan
        if plan.classifier.learns:
            drawn = [plan.initial_matrix().astype(np.int64)]
        else:
            drawn = [*classifier.matrices(plan, plan.classifier_seed, plan.feedback_seed)]
        matrices = np.zeros((len(drawn), plan.classes, features), np.int32)
        for entries, numbers in zip(matrices, drawn, strict=True):
            entries[:, : plan.features] = numbers.T
        self._state = _State(
            np.zeros((plan.fan_in, columns), dtype),
            matrices[0],
            matrices[-1],
            _first_words(plan.noise_seed, NOISE_LEAP, plan.weight_rows),
            _first_words(plan.matrix_noise_seed, NOISE_LEAP, plan.features),
            _first_words(plan.mask_seed, MASK_LEAP, plan.neurons),
            np.zeros(6, np.int64),
        )
        self.weights = plan.initial_weights()
        self._scratch = _Scratch(
            inputs=np.zeros(plan.fan_in, np.int64),
            values=np.zeros(plan.fan_in, np.int32),
            sums=np.zeros(columns, np.int32 if plan.accumulator_bits <= 32 else np.int64),
            features=np.zeros(features, np.int32),
            scores=np.zeros(plan.classes, np.int32),
            error=np.zeros(plan.classes, np.int32),
            gradient=np.zeros(features, np.int32),
            rotation=_rotations(plan.lanes),
            class_rotation=_rotations(plan.classes),
            noise=np.zeros(columns, np.int32),
            clipped=np.zeros(columns, np.int32),
            first=np.zeros(plan.groups, np.int64),
        )
        self._numbers = _Numbers(
            plan.inputs,
            plan.neurons,
            plan.lanes,
            plan.groups,
            plan.input_format.half,
            plan.features,
            plan.requantise_shift,
            plan.output_format.max,
            plan.score_shift,
            _error_rule(plan),
            plan.error_bits,
            plan.margin_shift,
            plan.update_shift,
            plan.noise_bits,
            plan.dropped,
            plan.can_exit,
            plan.classifier.learns,
            plan.classifier.format.fraction,
            plan.score_drop,
            plan.matrix_update_shift,
            plan.matrix_noise_bits,
            plan.classifier.format.max,
            plan.max_decay,
            plan.weight_format.min,
            plan.weight_format.max,
        )

    @property
    def weights(self) -> NDArray[np.int32]:
        return self._state.memory[:, : self.plan.neurons].T.astype(np.int32)

    @weights.setter
    def weights(self, weights: NDArray[np.int32]) -> None:
        self._state.memory[:, : self.plan.neurons] = weights.T

    @property
    def matrix(self) -> NDArray[np.int32]:
        """Of the classifier, shape (features, classes); a copy."""
        return self._state.matrix[:, : self.plan.features].T.copy()

    @matrix.setter
    def matrix(self, matrix: NDArray[np.int32]) -> None:
        self._state.matrix[:, : self.plan.features] = matrix.T

    @property
    def noise_state(self) -> int:
        return int(self._state.words[0])

    @property
    def matrix_noise_state(self) -> int:
        return int(self._state.matrix_words[0])

    @property
    def mask_state(self) -> int:
        return int(self._state.mask[0])

    @property
    def counters(self) -> LayerCounters:
        return LayerCounters(*self._state.counters.tolist())

    def clear_counters(self) -> None:
        self._state.counters[:] = 0

    @abstractmethod
    def run(self, x: Pixels, labels: Ints, learns: bool, decay: float) -> LayerBatch:
        """Samples x (n, inputs), of which it `learns` from those with a label that is not negative.

        Returns activations (n, outputs), and predicted, error_size and lead (n,).
        """

    @abstractmethod
    def learn_last(self, error: NDArray[np.int32], size: int, decay: float) -> None:
        """From the last sample and another layer's error."""

    def pass_over(self, x: Pixels) -> None:
        """Samples (n, inputs) that stopped at the layer before."""
        self._state.counters[EVENTS] += np.count_nonzero(x) + len(x)

    @property
    def error(self) -> NDArray[np.int32]:
        """Of the last labelled sample, shape (classes,)."""
        return self._scratch.error


class FastDense(FastLayer):
    """A dense layer."""

    def __init__(self, plan: LayerPlan) -> None:
        columns = -(-plan.groups * plan.lanes // _VECTOR) * _VECTOR
        super().__init__(plan, columns, columns, np.int16)

    def run(self, x: Pixels, labels: Ints, learns: bool, decay: float) -> LayerBatch:
        results = empty_batch(self.plan, len(x))
        state = self._numbers, self._state, self._scratch
        self._events = _run(x, labels, learns, *split_decay(decay), classifier.TABLE, *state, *results)
        return results

    def learn_last(self, error: NDArray[np.int32], size: int, decay: float) -> None:
        _learn_from(error, size, self._events, *split_decay(decay), self._numbers, self._state, self._scratch)


def empty_batch(plan: LayerPlan, samples: int) -> LayerBatch:
    """What `run` fills."""
    return (np.zeros((samples, plan.outputs), np.uint8), *np.zeros((3, samples), np.int64))


def split_decay(decay: float) -> tuple[int, int]:
    """For `decay_shift`: a decay rounded up, and of 256 samples those with one less."""
    rounded = math.ceil(decay)
    return rounded, round(DECAY_STEPS * (rounded - decay))


def _error_rule(plan: LayerPlan) -> int:
    if plan.classifier.error == "label":
        return _LABEL
    return _HINGE if plan.classifier.loss == "squared-hinge" else _SOFTMAX


def _rotations(lanes: int) -> NDArray[np.uint64]:
    return np.array([lane_rotation(lane) for lane in range(lanes)], np.uint64)


def _first_words(seed: int, leap: int, most: int) -> NDArray[np.uint64]:
    """Room for `most` words and the 64 behind them, of which the first 64 are known."""
    words = np.zeros(most + STATE_BITS, np.uint64)
    words[:STATE_BITS] = LeapingLfsr(seed, leap).take(STATE_BITS)
    return words
