"""The compiled code of dense and convolutional layers and their classifiers; see `fast.py`.

All in one file, because numba, which keeps what it compiled, looks for changes only in the file of the outermost
function.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import int32, njit
from numba.extending import intrinsic
from numpy.typing import NDArray

from locallearn.quant.lfsr import STATE_BITS, TAPS

__all__ = [
    "EVENTS",
    "HINGE",
    "LABEL",
    "SOFTMAX",
    "Batch",
    "Decay",
    "Maps",
    "Numbers",
    "Scratch",
    "Shape",
    "State",
    "learn_conv",
    "learn_dense",
    "run_conv",
    "run_dense",
]

# Where each of LayerCounters is among a layer's.
EVENTS, _WORDS_READ, _WORDS_WRITTEN, _GRADIENTS, _LEARNED, _SKIPPED, _SATURATED = range(7)

SOFTMAX, HINGE, LABEL = range(3)


class Numbers(NamedTuple):
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
    scores_are_summed: bool
    learned: bool
    matrix_fraction: int
    score_drop: int
    matrix_shift: int
    matrix_noise_bits: int
    matrix_max: int
    max_decay: int
    weight_min: int
    weight_max: int
    frozen: bool
    weights_frozen: bool


class State(NamedTuple):
    """What a layer keeps. Its lanes side by side, group after group, make `padded` columns; so do its features."""

    memory: NDArray[Any]  # (fan_in, padded) weights
    matrix: NDArray[np.int32]  # (classes, padded) M or M', see `classifier.matrices`
    feedback: NDArray[np.int32]  # (classes, padded) K or K'; the same array where M is learned
    words: NDArray[np.uint64]  # (groups * fan_in + 64,) noise, the next 64 words in front
    matrix_words: NDArray[np.uint64]  # (features + 64,) that of a learned matrix
    mask: NDArray[np.uint64]  # (neurons + 64,) dropout's, the next 64 words in front
    counters: NDArray[np.int64]  # (7,) as LayerCounters


class Scratch(NamedTuple):
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


class Decay(NamedTuple):
    """A decay rounded up, and of 256 samples those with one less."""

    rounded: int
    share: int


class Batch(NamedTuple):
    """What a layer makes of n samples."""

    activations: NDArray[np.uint8]  # (n, outputs)
    predicted: NDArray[np.int64]  # (n,)
    error_size: NDArray[np.int64]  # (n,)
    leads: NDArray[np.int64]  # (n,), where samples can stop
    scores: NDArray[np.int64]  # (n, classes), where they are summed


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
def _classify(matrix, numbers, scratch):  # type: ignore[no-untyped-def]
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
    if numbers.error_rule == LABEL:
        error[:] = 0
        error[label] = -one
        return one
    if numbers.error_rule == HINGE:
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
def _back_project(feedback, error, numbers, scratch):  # type: ignore[no-untyped-def]
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
def _next_words(words, count):  # type: ignore[no-untyped-def]
    """With 64 words known, `count` more behind them: the recurrence of the bits holds between words, see `lfsr`."""
    for k in range(STATE_BITS, STATE_BITS + count):
        words[k] = words[k - TAPS[0]] ^ words[k - TAPS[1]] ^ words[k - TAPS[2]] ^ words[k - TAPS[3]]


@_compiled
def _move_on(words, count):  # type: ignore[no-untyped-def]
    """Behind `count` words that were used."""
    words[:STATE_BITS] = words[count : count + STATE_BITS].copy()


@_compiled
def _learn_matrix(matrix, words, error, scale, numbers, scratch):  # type: ignore[no-untyped-def]
    """`classifier.learn`."""
    features = scratch.features
    _next_words(words, numbers.features)
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
    _move_on(words, numbers.features)


@_compiled
def _draw_noise(errors, rows, lanes, first, words):  # type: ignore[no-untyped-def]
    """Words for so many rows of every group that has an error; fills where each group's begin, returns how many."""
    used = 0
    for group in range(len(first)):
        first[group] = used
        for p in range(group * lanes, group * lanes + lanes):
            if errors[p]:
                used += rows
                break
    _next_words(words, used)
    return used


@_compiled
def _count_learned(counters, used, clipped):  # type: ignore[no-untyped-def]
    """A sample that was learned from, by so many words."""
    counters[_LEARNED] += 1
    counters[_WORDS_READ] += used
    counters[_WORDS_WRITTEN] += used
    counters[_SATURATED] += clipped


@_compiled
def _decay_shift(state, decay):  # type: ignore[no-untyped-def]
    """`LayerPlan.decay_shift`."""
    return decay.rounded - (np.int64(state >> np.uint64(STATE_BITS - 8)) < decay.share)


@_compiled
def _drop(mask, numbers, activations):  # type: ignore[no-untyped-def]
    """Leave neurons out, each by its own byte."""
    _next_words(mask, numbers.neurons)
    for p in range(numbers.neurons):
        if np.int64(mask[p] & np.uint64(0xFF)) < numbers.dropped:
            activations[p] = 0
    _move_on(mask, numbers.neurons)


@_compiled
def _update_dense(memory, words, count, numbers, scratch):  # type: ignore[no-untyped-def]
    """`DenseWeights.learn`; returns (words, weights that were clipped).

    All lanes of an event are updated together. Those of a group without errors take part with any noise: it is
    less than a unit of the weights, so that nothing changes.
    """
    inputs, values, gradient, first = scratch.inputs, scratch.values, scratch.gradient, scratch.first
    lanes = numbers.lanes
    used = _draw_noise(gradient, count, lanes, first, words)

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
def _infer_dense(x, drop, numbers, state, scratch, activations):  # type: ignore[no-untyped-def]
    """`GoldenLayer.infer`; fills `activations` (neurons,), returns (events, predicted class)."""
    count = _list_events(x, numbers, scratch)
    _forward(state.memory, count, numbers, scratch)
    if drop and numbers.dropped:
        _drop(state.mask, numbers, scratch.features)
    best = _classify(state.matrix, numbers, scratch)
    state.counters[EVENTS] += count
    state.counters[_WORDS_READ] += count * numbers.groups
    for p in range(numbers.neurons):
        activations[p] = scratch.features[p]
    return count, best


@_inlined
def learn_dense(error, size, count, decay, numbers, state, scratch):  # type: ignore[no-untyped-def]
    """`GoldenLayer.learn`, from the sample of `count` events that was inferred last, an error and its size."""
    counters = state.counters
    if size == 0 or numbers.frozen:
        counters[_SKIPPED] += 1
        return
    scale = numbers.max_decay - _decay_shift(state.words[0], decay)
    used, clipped = 0, 0
    if not numbers.weights_frozen:
        _back_project(state.feedback, error, numbers, scratch)
        gradient, activations = scratch.gradient, scratch.features
        for p in range(len(gradient)):
            gradient[p] = gradient[p] << scale if activations[p] > 0 else 0
        used, clipped = _update_dense(state.memory, state.words, count, numbers, scratch)
    if numbers.learned:
        _learn_matrix(state.matrix, state.matrix_words, error, scale, numbers, scratch)
    _count_learned(counters, used, clipped)


@_compiled
def run_dense(x, labels, learns, decay, table, numbers, state, scratch, batch):  # type: ignore[no-untyped-def]
    """Samples x (n, inputs) through a layer, which `learns` from those with a label that is not negative.

    Fills the batch; returns the events of the last sample.
    """
    count, predicted = 0, batch.predicted
    for k in range(len(x)):
        count, predicted[k] = _infer_dense(x[k], labels[k] >= 0, numbers, state, scratch, batch.activations[k])
        if numbers.can_exit:
            batch.leads[k] = _lead(predicted[k], scratch)
        if numbers.scores_are_summed:
            batch.scores[k] = scratch.scores
        if learns and labels[k] >= 0:
            batch.error_size[k] = _find_error(labels[k], predicted[k], table, numbers, scratch)
            learn_dense(scratch.error, batch.error_size[k], count, decay, numbers, state, scratch)
    return count


class Shape(NamedTuple):
    """A convolution's plan as compiled code takes it."""

    rows: int
    columns: int
    channels: int
    kernel: int
    stride: int
    border: int
    pool: int
    pooled_rows: int
    pooled_columns: int
    cells_across: int
    cell_rows: int
    cell_columns: int
    cell_shift: int


class Maps(NamedTuple):
    """What a convolution needs beside a `Scratch`. Places are as in `ConvWeights.windows`.

    All numbers are integers; products of matrices are a BLAS's work, which wants them as floating-point numbers.
    """

    padded: NDArray[np.float32]  # input with its border
    windows: NDArray[np.float32]  # (places, fan_in), the last column the bias's constant
    counts: NDArray[np.int64]  # (rows with border, columns with border): channels that are not 0
    seen: NDArray[np.int64]  # (1,): numbers of all windows that are not 0
    sums: NDArray[np.float32]  # (places, columns of weights)
    winners: NDArray[np.int8]  # (outputs,)
    errors: NDArray[np.float32]  # (places, columns of weights): of the classifier, at the places that won
    sizes: NDArray[np.int64]  # (columns of weights,): sums of their sizes
    changes: NDArray[np.float32]  # (fan_in, columns of weights)
    norms: NDArray[np.int64]  # (columns of weights,): sums of the weights' sizes
    largest: NDArray[np.int64]  # (1,): the size of the largest input, the bias's constant included


_EXACT = 1 << 24
"""Where all sizes together are less, sums of integers in 32-bit floating point are exact, in any order. In 64 bits that
is 2^53, more than any accumulator here has."""


@_compiled
def _fill_windows(x, shape, maps):  # type: ignore[no-untyped-def]
    """`ConvWeights.windows`; returns how many of their inputs are not 0, the biases included."""
    padded, windows, counts = maps.padded, maps.windows, maps.counts
    wide, across = shape.columns + 2 * shape.border, shape.kernel * shape.channels
    largest = np.int64(windows[0, -1])
    for row in range(shape.rows):
        start = ((row + shape.border) * wide + shape.border) * shape.channels
        for column in range(shape.columns):
            count = 0
            for c in range(shape.channels):
                value = np.int64(x[(row * shape.columns + column) * shape.channels + c])
                padded[start + column * shape.channels + c] = value
                count += value != 0
                largest = max(largest, abs(value))
            counts[row + shape.border, column + shape.border] = count
    maps.largest[0] = largest
    place, total = 0, len(windows)
    for pooled_row in range(shape.pooled_rows):
        for pooled_column in range(shape.pooled_columns):
            for below in range(shape.pool):
                for right in range(shape.pool):
                    row = (pooled_row * shape.pool + below) * shape.stride
                    column = (pooled_column * shape.pool + right) * shape.stride
                    window = windows[place]
                    for k in range(shape.kernel):
                        start = ((row + k) * wide + column) * shape.channels
                        for i in range(across):
                            window[k * across + i] = padded[start + i]
                        for i in range(shape.kernel):
                            total += counts[row + k, column + i]
                    place += 1
    return total


@_compiled
def _pool(sums, shape, numbers, maps, scratch, activations):  # type: ignore[no-untyped-def]
    """The rest of `ConvWeights.forward`, and `conv.average`."""
    features, winners = scratch.features, maps.winners
    half = (1 << numbers.requantise_shift) >> 1
    features[:] = 0
    places, neurons = shape.pool * shape.pool, numbers.neurons
    for row in range(shape.pooled_rows):
        for column in range(shape.pooled_columns):
            pixel = row * shape.pooled_columns + column
            cell = (row // shape.cell_rows) * shape.cells_across + column // shape.cell_columns
            best = activations[pixel * neurons : (pixel + 1) * neurons]
            winner = winners[pixel * neurons : (pixel + 1) * neurons]
            best[:] = 0
            winner[:] = 0
            for place in range(places):
                line = sums[pixel * places + place]
                for c in range(neurons):
                    rounded = (np.int64(line[c]) + half) >> numbers.requantise_shift
                    value = min(max(rounded, 0), numbers.activation_max)
                    winner[c] = place if value > best[c] else winner[c]
                    best[c] = max(value, best[c])
            of_cell = features[cell * neurons : (cell + 1) * neurons]
            for c in range(neurons):
                of_cell[c] += best[c]
    half = (1 << shape.cell_shift) >> 1
    for f in range(numbers.features):
        features[f] = (features[f] + half) >> shape.cell_shift


@_compiled
def _spread_errors(activations, shape, numbers, maps, scratch):  # type: ignore[no-untyped-def]
    """The errors of features to the places that won."""
    errors, winners, sizes, gradient = maps.errors, maps.winners, maps.sizes, scratch.gradient
    sizes[:] = 0
    places, neurons = shape.pool * shape.pool, numbers.neurons
    for row in range(shape.pooled_rows):
        for column in range(shape.pooled_columns):
            pixel = row * shape.pooled_columns + column
            cell = (row // shape.cell_rows) * shape.cells_across + column // shape.cell_columns
            active = activations[pixel * neurons : (pixel + 1) * neurons]
            winner = winners[pixel * neurons : (pixel + 1) * neurons]
            of_cell = gradient[cell * neurons : (cell + 1) * neurons]
            for place in range(places):
                line = errors[pixel * places + place]
                for c in range(neurons):
                    error = of_cell[c] if (active[c] > 0) & (winner[c] == place) else 0
                    line[c] = error
                    sizes[c] += abs(error)


@_compiled
def _update_conv(changes, scale, numbers, state, scratch, maps):  # type: ignore[no-untyped-def]
    """The rest of `ConvWeights.learn`; returns (words, weights that were clipped).

    Groups without errors take part with any noise: it is less than a unit of the weights, so that nothing changes.
    """
    memory, words, norms = state.memory, state.words, maps.norms
    lanes, first = numbers.lanes, scratch.first
    used = _draw_noise(maps.sizes, len(memory), lanes, first, words)
    spare = numbers.update_shift - numbers.noise_bits
    middle = (1 << spare) >> 1
    mask = np.uint64((1 << numbers.noise_bits) - 1)
    rotation = scratch.rotation
    clipped = 0
    norms[:] = 0
    for i in range(len(memory)):
        for group in range(numbers.groups):
            word = words[first[group] + i]
            row = memory[i, group * lanes : group * lanes + lanes]
            change = changes[i, group * lanes : group * lanes + lanes]
            norm = norms[group * lanes : group * lanes + lanes]
            for p in range(lanes):
                turned = word >> rotation[p] | word << (np.uint64(64) - rotation[p] & np.uint64(63))
                noise = np.int64(turned & mask) << spare | middle
                exact = np.int64(row[p]) - (((np.int64(change[p]) << scale) + noise) >> numbers.update_shift)
                kept = min(max(exact, numbers.weight_min), numbers.weight_max)
                clipped += kept != exact
                row[p] = kept
                norm[p] += abs(kept)
    _move_on(words, used)
    return used, clipped


@_compiled
def _infer_conv(x, shape, numbers, state, scratch, maps, activations):  # type: ignore[no-untyped-def]
    """`GoldenConv.infer`; fills `activations` (outputs,), returns the predicted class."""
    count = _fill_windows(x, shape, maps)
    if maps.norms.max() * maps.largest[0] < _EXACT:
        np.dot(maps.windows, state.memory, maps.sums)
        _pool(maps.sums, shape, numbers, maps, scratch, activations)
    else:
        sums = np.dot(maps.windows.astype(np.float64), state.memory.astype(np.float64))
        _pool(sums, shape, numbers, maps, scratch, activations)
    state.counters[EVENTS] += np.count_nonzero(x) + 1
    maps.seen[0] = count
    state.counters[_WORDS_READ] += count * numbers.groups
    return _classify(state.matrix, numbers, scratch)


@_compiled
def learn_conv(error, size, decay, shape, numbers, state, scratch, maps, activations):  # type: ignore[no-untyped-def]
    """`GoldenLayer.learn`, from the sample that was inferred last, an error and its size."""
    counters = state.counters
    if size == 0 or numbers.frozen:
        counters[_SKIPPED] += 1
        return
    scale = numbers.max_decay - _decay_shift(state.words[0], decay)
    used, clipped = 0, 0
    if not numbers.weights_frozen:
        _back_project(state.feedback, error, numbers, scratch)
        _spread_errors(activations, shape, numbers, maps, scratch)
        if maps.sizes.max() * maps.largest[0] < _EXACT:
            np.dot(maps.windows.T, maps.errors, maps.changes)
            used, clipped = _update_conv(maps.changes, scale, numbers, state, scratch, maps)
        else:
            changes = np.dot(maps.windows.T.astype(np.float64), maps.errors.astype(np.float64))
            used, clipped = _update_conv(changes, scale, numbers, state, scratch, maps)
    counters[_GRADIENTS] += used // len(state.memory) * maps.seen[0]
    if numbers.learned:
        _learn_matrix(state.matrix, state.matrix_words, error, scale, numbers, scratch)
    _count_learned(counters, used, clipped)


@_compiled
def run_conv(x, labels, learns, decay, table, shape, numbers, state, scratch, maps, batch):  # type: ignore[no-untyped-def]
    """Samples x (n, inputs) through a layer, which `learns` from those with a label that is not negative."""
    predicted = batch.predicted
    for k in range(len(x)):
        activations = batch.activations[k]
        predicted[k] = _infer_conv(x[k], shape, numbers, state, scratch, maps, activations)
        if numbers.can_exit:
            batch.leads[k] = _lead(predicted[k], scratch)
        if numbers.scores_are_summed:
            batch.scores[k] = scratch.scores
        if learns and labels[k] >= 0:
            size = batch.error_size[k] = _find_error(labels[k], predicted[k], table, numbers, scratch)
            learn_conv(scratch.error, size, decay, shape, numbers, state, scratch, maps, activations)
