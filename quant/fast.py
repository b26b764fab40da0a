"""The golden model compiled by numba: the same integers as `network.GoldenNetwork`, many times faster.

`dense.py`, `classifier.py` and `network.py` define the arithmetic; this file repeats it as loops over plain arrays,
and tests hold the two equal. No layer waits for one above, so a batch passes layer by layer and one layer's weights
stay in the processor's cache; only where layers learn from the last one's error, samples pass one by one. Compiled
code is kept on disk between runs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import int32, njit
from numba.extending import intrinsic
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.lfsr import STATE_BITS, TAPS, LeapingLfsr
from locallearn.quant.network import BatchTrace, LayerCounters, Model
from locallearn.quant.plan import MASK_LEAP, NOISE_LEAP, LayerPlan, lane_rotation
from locallearn.quant.spec import NetworkSpec

__all__ = ["FastNetwork"]

Ints = NDArray[np.int64]

_VECTOR = 32
"""Neurons are padded to a multiple of this, so that vector loops leave no rest."""

# In the order of LayerCounters.
_EVENTS, _WORDS_READ, _WORDS_WRITTEN, _LEARNED, _SKIPPED, _SATURATED = range(6)


_SOFTMAX, _HINGE, _LABEL = range(3)


class _Numbers(NamedTuple):
    """A layer's plan as compiled code takes it."""

    inputs: int
    neurons: int
    lanes: int
    groups: int
    bias: int
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
    matrix_max: int
    weight_min: int
    weight_max: int


class _State(NamedTuple):
    """What a layer keeps. Its lanes side by side, group after group, make `padded` columns."""

    memory: NDArray[np.int16]  # (fan_in, padded) weights
    matrix: NDArray[np.int32]  # (classes, padded) M or M', see `classifier.matrices`
    feedback: NDArray[np.int32]  # (classes, padded) K or K'; the same array where M is learned
    words: NDArray[np.uint64]  # (groups * fan_in + 64,) noise, the next 64 words in front
    mask: NDArray[np.uint64]  # (neurons + 64,) dropout's, the next 64 words in front
    counters: NDArray[np.int64]  # (6,) as LayerCounters


class _Scratch(NamedTuple):
    """What a sample needs. Sums have 32 bits where they are exact."""

    inputs: NDArray[np.int64]  # (fan_in,) a sample's events: which input
    values: NDArray[np.int32]  # (fan_in,) and its value
    sums: NDArray[Any]  # (padded,)
    activations: NDArray[np.int32]  # (padded,)
    scores: NDArray[np.int32]  # (classes,)
    error: NDArray[np.int32]  # (classes,)
    gradient: NDArray[np.int32]  # (padded,) back-projected errors
    rotation: NDArray[np.uint64]  # (lanes,) of a lane's noise; constant
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
    inputs, values, sums, activations = scratch.inputs, scratch.values, scratch.sums, scratch.activations
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
def _classify(matrix, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.scores` and `classifier.classify`."""
    activations, scores = scratch.activations, scratch.scores
    best = 0
    for c in range(len(scores)):
        row = matrix[c]
        if numbers.learned:
            exact = np.int64(0)
            for p in range(len(activations)):
                exact += np.int64(activations[p]) * row[p]
            scores[c] = exact >> numbers.score_drop
        else:
            total = np.int32(0)
            for p in range(len(activations)):
                total += activations[p] * row[p]
            scores[c] = total
        if scores[c] > scores[best]:
            best = c
    return best


@_compiled
def _lead(best, scratch):  # type: ignore[no-untyped-def]
    """`classifier.lead`."""
    scores = scratch.scores
    second = scores[0 if best else 1]
    for c in range(len(scores)):
        if c != best:
            second = max(second, scores[c])
    return np.int64(scores[best]) - second


@_compiled
def _find_error(label, best, table, numbers, scratch):  # type: ignore[no-untyped-def]
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
def _back_project(feedback, error, scale, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.back_project`, times 2^scale."""
    activations, gradient = scratch.activations, scratch.gradient
    if numbers.learned:
        half = (1 << numbers.matrix_fraction) >> 1
        for p in range(len(gradient)):
            exact = np.int64(half)
            for c in range(len(error)):
                exact += np.int64(error[c]) * feedback[c, p]
            gradient[p] = (exact >> numbers.matrix_fraction) << scale if activations[p] > 0 else 0
        return
    gradient[:] = 0
    for c in range(len(error)):
        e, row = error[c], feedback[c]
        if e:
            for p in range(len(gradient)):
                gradient[p] += e * row[p]
    for p in range(len(gradient)):
        gradient[p] = gradient[p] << scale if activations[p] > 0 else 0


@_compiled
def _learn_matrix(matrix, error, scale, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.learn`."""
    activations = scratch.activations
    half = (1 << numbers.matrix_shift) >> 1
    for c in range(len(error)):
        row = matrix[c]
        scaled = np.int64(error[c]) << scale
        for p in range(numbers.neurons):
            change = (activations[p] * scaled + half) >> numbers.matrix_shift
            row[p] = min(max(row[p] - change, ~numbers.matrix_max), numbers.matrix_max)


@_compiled
def _next_words(words, count):  # type: ignore[no-untyped-def]
    """With 64 words known, `count` more behind them: the recurrence of the bits holds between words, see `lfsr`."""
    for k in range(STATE_BITS, STATE_BITS + count):
        words[k] = words[k - TAPS[0]] ^ words[k - TAPS[1]] ^ words[k - TAPS[2]] ^ words[k - TAPS[3]]


@_compiled
def _move_on(words, count):  # type: ignore[no-untyped-def]
    """Behind `count` words that were used."""
    words[:STATE_BITS] = words[count : count + STATE_BITS].copy()


@_compiled
def _drop(mask, numbers, activations):  # type: ignore[no-untyped-def]
    """Leave neurons out, each by its own byte."""
    _next_words(mask, numbers.neurons)
    for p in range(numbers.neurons):
        if np.int64(mask[p] & np.uint64(0xFF)) < numbers.dropped:
            activations[p] = 0
    _move_on(mask, numbers.neurons)


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
    _next_words(words, used)

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
    _move_on(words, used)
    return used, clipped.sum()


@_inlined
def _infer(x, drop, numbers, state, scratch, activations):  # type: ignore[no-untyped-def]
    """`GoldenLayer.infer`; fills `activations` (neurons,), returns (events, predicted class)."""
    count = _list_events(x, numbers, scratch)
    _forward(state.memory, count, numbers, scratch)
    if drop and numbers.dropped:
        _drop(state.mask, numbers, scratch.activations)
    best = _classify(state.matrix, numbers, scratch)
    state.counters[_EVENTS] += count
    state.counters[_WORDS_READ] += count * numbers.groups
    for p in range(numbers.neurons):
        activations[p] = scratch.activations[p]
    return count, best


@_inlined
def _learn_from(error, size, count, scale, numbers, state, scratch):  # type: ignore[no-untyped-def]
    """`GoldenLayer.learn`, from the sample of `count` events that was inferred last, an error and its size."""
    counters = state.counters
    if size == 0:
        counters[_SKIPPED] += 1
        return
    _back_project(state.feedback, error, scale, numbers, scratch)
    used, clipped = _learn(state.memory, state.words, count, numbers, scratch)
    if numbers.learned:
        _learn_matrix(state.matrix, error, scale, numbers, scratch)
    counters[_LEARNED] += 1
    counters[_WORDS_READ] += used
    counters[_WORDS_WRITTEN] += used
    counters[_SATURATED] += clipped


@_compiled
def _run(x, labels, learns, scale, table, numbers, state, scratch, activations, predicted, error_size, lead):  # type: ignore[no-untyped-def]
    """Samples x (n, inputs) through a layer, which `learns` from those with a label that is not negative.

    Fills activations (n, neurons), predicted (n,), error_size (n,), and lead (n,) where samples can stop. Returns the
    events of the last sample.
    """
    count = 0
    for k in range(len(x)):
        count, predicted[k] = _infer(x[k], labels[k] >= 0, numbers, state, scratch, activations[k])
        if numbers.can_exit:
            lead[k] = _lead(predicted[k], scratch)
        if learns and labels[k] >= 0:
            error_size[k] = _find_error(labels[k], predicted[k], table, numbers, scratch)
            _learn_from(scratch.error, error_size[k], count, scale, numbers, state, scratch)
    return count


class _FastLayer:
    """One dense layer's state, and its plan in the compiled code's terms."""

    def __init__(self, plan: LayerPlan) -> None:
        self.plan = plan
        columns = plan.groups * plan.lanes
        padded = -(-columns // _VECTOR) * _VECTOR
        if plan.classifier.learns:
            drawn = [plan.initial_matrix().astype(np.int64)]
        else:
            drawn = [*classifier.matrices(plan, plan.classifier_seed, plan.feedback_seed)]
        matrices = np.zeros((len(drawn), plan.classes, padded), np.int32)
        for entries, numbers in zip(matrices, drawn, strict=True):
            entries[:, : plan.neurons] = numbers.T
        words = np.zeros(plan.weight_rows + STATE_BITS, np.uint64)
        words[:STATE_BITS] = LeapingLfsr(plan.noise_seed, NOISE_LEAP).take(STATE_BITS)
        mask = np.zeros(plan.neurons + STATE_BITS, np.uint64)
        mask[:STATE_BITS] = LeapingLfsr(plan.mask_seed, MASK_LEAP).take(STATE_BITS)
        self._state = _State(
            np.zeros((plan.fan_in, padded), np.int16), matrices[0], matrices[-1], words, mask, np.zeros(6, np.int64)
        )
        self.weights = plan.initial_weights()
        self._scratch = _Scratch(
            inputs=np.zeros(plan.fan_in, np.int64),
            values=np.zeros(plan.fan_in, np.int32),
            sums=np.zeros(padded, np.int32 if plan.accumulator_bits <= 32 else np.int64),
            activations=np.zeros(padded, np.int32),
            scores=np.zeros(plan.classes, np.int32),
            error=np.zeros(plan.classes, np.int32),
            gradient=np.zeros(padded, np.int32),
            rotation=np.array([lane_rotation(lane) for lane in range(plan.lanes)], np.uint64),
            noise=np.zeros(padded, np.int32),
            clipped=np.zeros(padded, np.int32),
            first=np.zeros(plan.groups, np.int64),
        )
        self._numbers = _Numbers(
            plan.inputs,
            plan.neurons,
            plan.lanes,
            plan.groups,
            plan.input_format.half,
            plan.requantise_shift,
            plan.output_format.max,
            plan.score_shift,
            _LABEL
            if plan.classifier.error == "label"
            else _HINGE
            if plan.classifier.loss == "squared-hinge"
            else _SOFTMAX,
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
            plan.classifier.format.max,
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
        """Of the classifier, shape (neurons, classes); a copy."""
        return self._state.matrix[:, : self.plan.neurons].T.copy()

    @matrix.setter
    def matrix(self, matrix: NDArray[np.int32]) -> None:
        self._state.matrix[:, : self.plan.neurons] = matrix.T

    @property
    def noise_state(self) -> int:
        return int(self._state.words[0])

    @property
    def mask_state(self) -> int:
        return int(self._state.mask[0])

    @property
    def counters(self) -> LayerCounters:
        return LayerCounters(*self._state.counters.tolist())

    def clear_counters(self) -> None:
        self._state.counters[:] = 0

    def run(
        self, x: NDArray[np.uint8], labels: NDArray[np.int64], learns: bool, decay: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns activations (n, neurons), and predicted, error_size and lead (n,)."""
        activations = np.zeros((len(x), self.plan.neurons), np.uint8)
        predicted, error_size, lead = np.zeros((3, len(x)), np.int64)
        scale, table = self.plan.max_decay - decay, classifier.TABLE
        results = activations, predicted, error_size, lead
        self._events = _run(x, labels, learns, scale, table, self._numbers, self._state, self._scratch, *results)
        return results

    def pass_over(self, x: NDArray[np.uint8]) -> None:
        """Samples (n, inputs) that stopped at the layer before."""
        self._state.counters[_EVENTS] += np.count_nonzero(x) + len(x)

    @property
    def error(self) -> NDArray[np.int32]:
        """Of the last labelled sample, shape (classes,)."""
        return self._scratch.error

    def learn_last(self, error: NDArray[np.int32], size: int, decay: int) -> None:
        """From the last sample and another layer's error."""
        scale = self.plan.max_decay - decay
        _learn_from(error, size, self._events, scale, self._numbers, self._state, self._scratch)


class FastNetwork(Model):
    """`GoldenNetwork`, compiled. The first one on a machine is: that takes some seconds."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self._layers = [_FastLayer(plan) for plan in self.plan.layers]
        self._waiting = [layer for layer in self._layers if layer.plan.classifier.error == "top"]
        # Compiles, or loads what was compiled before; no batch has to wait for it.
        self.run(np.zeros((0, spec.input.size), np.uint8))

    def run(self, x: NDArray[np.uint8], labels: Ints | None = None) -> BatchTrace:
        self._check(x, labels)
        # Of one type and without gaps: each other kind of array would be compiled for anew.
        x = np.ascontiguousarray(x, np.uint8)
        labels = np.full(len(x), -1) if labels is None else np.ascontiguousarray(labels, np.int64)
        if not self._waiting or not len(x):
            return self._run(x, labels)
        traces = [self._run(x[k : k + 1], labels[k : k + 1]) for k in range(len(x))]
        activations = [np.concatenate(parts) for parts in zip(*(trace.activations for trace in traces), strict=True)]
        predicted, error_size, answered = (
            np.concatenate([getattr(trace, name) for trace in traces])
            for name in ("predicted", "error_size", "answered")
        )
        return BatchTrace(activations, predicted, error_size, answered)

    def _run(self, x: NDArray[np.uint8], labels: Ints) -> BatchTrace:
        """Layer by layer; where layers wait for the last one's error, a single sample."""
        shape = (len(x), len(self._layers))
        activations = [np.zeros((len(x), plan.neurons), np.uint8) for plan in self.plan.layers]
        predicted, error_size = np.zeros((2, *shape), np.int64)
        # Which samples have come so far.
        here: Any = slice(None)
        answered = np.full(len(x), shape[1] - 1)
        for index, layer in enumerate(self._layers):
            x, classes, errors, lead = layer.run(x, labels[here], layer not in self._waiting, self.decay[index])
            activations[index][here] = x
            predicted[here, index:] = classes[:, None]
            error_size[here, index] = errors
            if layer.plan.can_exit:
                stops = (labels[here] < 0) & (lead >= self.exits[index])
                came = np.arange(len(labels))[here]
                answered[came[stops]] = index
                self._layers[index + 1].pass_over(x[stops])
                here, x = came[~stops], x[~stops]
        if labels.max(initial=-1) >= 0:
            for layer in self._waiting:
                index = layer.plan.index
                layer.learn_last(self._layers[-1].error, error_size[0, -1], self.decay[index])
                error_size[:, index] = error_size[:, -1]
        return BatchTrace(activations, predicted, error_size, answered)

    @property
    def weights(self) -> list[NDArray[np.int32]]:
        matrices = [self._layers[plan.index].matrix for plan in self.plan.learned_matrices]
        return [layer.weights for layer in self._layers] + matrices

    @weights.setter
    def weights(self, weights: Sequence[NDArray[np.int32]]) -> None:
        learners = [self._layers[plan.index] for plan in self.plan.learned_matrices]
        for layer, values in zip(self._layers, weights[: len(self._layers)], strict=True):
            layer.weights = values
        for layer, values in zip(learners, weights[len(self._layers) :], strict=True):
            layer.matrix = values

    @property
    def noise_states(self) -> list[int]:
        return [layer.noise_state for layer in self._layers]

    @property
    def mask_states(self) -> list[int]:
        return [layer.mask_state for layer in self._layers]

    @property
    def counters(self) -> list[LayerCounters]:
        return [layer.counters for layer in self._layers]

    def clear_counters(self) -> None:
        for layer in self._layers:
            layer.clear_counters()
