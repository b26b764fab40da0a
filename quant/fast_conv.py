"""A convolutional layer, compiled; see `fast.py`.

Windows times weights is a product of matrices of floating-point numbers, which a BLAS is best at. All of them are
integers, and so are all sums, in any order, while the sum of sizes fits the mantissa: 2^24 for 32-bit numbers, 2^53 for
64-bit. Which of them it takes is told by a bound on the sizes of the very weights, inputs and errors.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.fast_dense import (
    EVENTS,
    LEARNED,
    SATURATED,
    SKIPPED,
    WORDS_READ,
    WORDS_WRITTEN,
    FastLayer,
    LayerBatch,
    back_project,
    classify,
    decay_shift,
    empty_batch,
    find_error,
    lead,
    learn_matrix,
    move_on,
    next_words,
    split_decay,
)
from locallearn.quant.network import Pixels

__all__ = ["FastConv"]

Ints = NDArray[np.int64]

_EXACT = float(1 << 24)
"""Sums of sizes below it are exact in 32 bits."""

_compiled = njit(cache=True, nogil=True, error_model="numpy")


class _Shape(NamedTuple):
    """The plan's shapes as compiled code takes them."""

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


@_compiled
def _fill_windows(x, shape, padded, windows):  # type: ignore[no-untyped-def]
    """`ConvWeights.windows`, but for the biases' column; returns how many are not 0, and the largest size in x."""
    wide, across = shape.columns + 2 * shape.border, shape.kernel * shape.channels
    largest = np.int64(0)
    for row in range(shape.rows):
        start = ((row + shape.border) * wide + shape.border) * shape.channels
        for i in range(shape.columns * shape.channels):
            value = x[row * shape.columns * shape.channels + i]
            padded[start + i] = value
            largest = max(largest, abs(np.int64(value)))
    place = count = 0
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
                            value = padded[start + i]
                            window[k * across + i] = value
                            count += value != 0
                    place += 1
    return count, largest


@_compiled
def _pool(sums, shape, numbers, activations, winners, features):  # type: ignore[no-untyped-def]
    """The rest of `ConvWeights.forward`, and `conv.average`."""
    half = (1 << numbers.requantise_shift) >> 1
    features[:] = 0
    places = shape.pool * shape.pool
    for row in range(shape.pooled_rows):
        for column in range(shape.pooled_columns):
            pixel = row * shape.pooled_columns + column
            cell = (row // shape.cell_rows) * shape.cells_across + column // shape.cell_columns
            first = pixel * numbers.neurons
            for c in range(numbers.neurons):
                rounded = (np.int64(sums[pixel * places, c]) + half) >> numbers.requantise_shift
                best, winner = min(max(rounded, 0), numbers.activation_max), 0
                for place in range(1, places):
                    rounded = (np.int64(sums[pixel * places + place, c]) + half) >> numbers.requantise_shift
                    value = min(max(rounded, 0), numbers.activation_max)
                    winner = place if value > best else winner
                    best = max(best, value)
                activations[first + c] = best
                winners[first + c] = winner
                features[cell * numbers.neurons + c] += best
    half = (1 << shape.cell_shift) >> 1
    for f in range(numbers.features):
        features[f] = (features[f] + half) >> shape.cell_shift


@_compiled
def _spread_errors(gradient, activations, winners, shape, numbers, errors, sizes):  # type: ignore[no-untyped-def]
    """The classifier's errors to the places that won, (places, columns); fills the sums of their sizes (columns,)."""
    errors[:] = 0
    sizes[:] = 0
    places = shape.pool * shape.pool
    for row in range(shape.pooled_rows):
        for column in range(shape.pooled_columns):
            pixel = row * shape.pooled_columns + column
            cell = (row // shape.cell_rows) * shape.cells_across + column // shape.cell_columns
            for c in range(numbers.neurons):
                i = pixel * numbers.neurons + c
                error = gradient[cell * numbers.neurons + c] if activations[i] > 0 else 0
                errors[pixel * places + winners[i], c] = error
                sizes[c] += abs(error)


@_compiled
def _update(memory, gradient, scale, sizes, words, numbers, scratch, norm):  # type: ignore[no-untyped-def]
    """The rest of `ConvWeights.learn`; returns (words, weights that were clipped), fills the sums of weights' sizes.

    Groups without errors take part with any noise: it is less than a unit of the weights, so that nothing changes.
    """
    lanes, first = numbers.lanes, scratch.first
    used = 0
    for group in range(numbers.groups):
        first[group] = used
        for p in range(group * lanes, group * lanes + lanes):
            if sizes[p]:
                used += len(memory)
                break
    next_words(words, used)
    spare = numbers.update_shift - numbers.noise_bits
    middle = (1 << spare) >> 1
    mask = np.uint64((1 << numbers.noise_bits) - 1)
    rotation = scratch.rotation
    clipped = 0
    norm[:] = 0
    for i in range(len(memory)):
        for group in range(numbers.groups):
            word = words[first[group] + i]
            row = memory[i, group * lanes : group * lanes + lanes]
            changes = gradient[i, group * lanes : group * lanes + lanes]
            sums = norm[group * lanes : group * lanes + lanes]
            for p in range(lanes):
                turned = word >> rotation[p] | word << (np.uint64(64) - rotation[p] & np.uint64(63))
                noise = np.int64(turned & mask) << spare | middle
                change = ((np.int64(changes[p]) << scale) + noise) >> numbers.update_shift
                exact = np.int64(row[p]) - change
                kept = min(max(exact, numbers.weight_min), numbers.weight_max)
                clipped += kept != exact
                row[p] = kept
                sums[p] += abs(kept)
    move_on(words, used)
    return used, clipped


class FastConv(FastLayer):
    """A convolutional layer."""

    plan: ConvPlan

    def __init__(self, plan: ConvPlan) -> None:
        columns = plan.groups * plan.lanes
        self._norm = np.zeros(columns, np.int64)
        super().__init__(plan, columns, plan.features, np.float32)
        conv, (rows, across, channels) = plan.conv, plan.input_map
        places = plan.convolved_map[0] * plan.convolved_map[1]
        self._shape = _Shape(
            rows,
            across,
            channels,
            conv.kernel,
            conv.stride,
            conv.border,
            conv.pool,
            plan.output_map[0],
            plan.output_map[1],
            plan.feature_map[1],
            *plan.cell,
            plan.cell_shift,
        )
        self._padded = np.zeros((rows + 2 * conv.border) * (across + 2 * conv.border) * channels, np.float32)
        self._windows = np.zeros((places, plan.fan_in), np.float32)
        self._windows[:, -1] = plan.input_format.half
        self._winners = np.zeros(plan.outputs, np.int8)
        self._sums = np.zeros((places, columns), np.float32)
        self._errors = np.zeros((places, columns), np.float32)
        self._sizes = np.zeros(columns, np.int64)
        self._changes = np.zeros((plan.fan_in, columns), np.float32)

    @property
    def weights(self) -> NDArray[np.int32]:
        return super().weights

    @weights.setter
    def weights(self, weights: NDArray[np.int32]) -> None:
        self._state.memory[:, : self.plan.neurons] = weights.T
        self._norm[: self.plan.neurons] = np.abs(weights).sum(axis=1)

    def run(self, x: Pixels, labels: Ints, learns: bool, decay: float) -> LayerBatch:
        activations, predicted, error_size, leads = batch = empty_batch(self.plan, len(x))
        numbers, state, scratch = self._numbers, self._state, self._scratch
        for k, sample in enumerate(x):
            self._infer(sample, activations[k])
            predicted[k] = classify(state.matrix, numbers, scratch)
            if numbers.can_exit:
                leads[k] = lead(predicted[k], scratch)
            if learns and labels[k] >= 0:
                error_size[k] = find_error(labels[k], predicted[k], classifier.TABLE, numbers, scratch)
                self.learn_last(scratch.error, error_size[k], decay)
        return batch

    def _infer(self, sample: Pixels, activations: NDArray[np.uint8]) -> None:
        count, largest = _fill_windows(sample, self._shape, self._padded, self._windows)
        self._activations = activations
        # The bias's constant is an input as well.
        self._largest: int = max(largest, self._numbers.bias)
        sums = self._product(self._windows, self._state.memory, self._norm.max(), self._sums)
        _pool(sums, self._shape, self._numbers, activations, self._winners, self._scratch.features)
        counters = self._state.counters
        counters[EVENTS] += np.count_nonzero(sample) + 1
        counters[WORDS_READ] += (count + len(self._windows)) * self._numbers.groups

    def _product(self, left: Any, right: Any, sizes: int, out: NDArray[np.float32]) -> NDArray[Any]:
        """Of inputs and what meets them, the sum of whose sizes is at most `sizes`; in 32 bits where that is exact."""
        if sizes * self._largest < _EXACT:
            return np.matmul(left, right, out=out)
        exact: NDArray[np.float64] = np.matmul(left.astype(np.float64), right.astype(np.float64))
        return exact

    def learn_last(self, error: NDArray[np.int32], size: int, decay: float) -> None:
        numbers, state, scratch = self._numbers, self._state, self._scratch
        if size == 0:
            state.counters[SKIPPED] += 1
            return
        scale = numbers.max_decay - decay_shift(state.words[0], *split_decay(decay))
        back_project(state.feedback, error, numbers, scratch)
        _spread_errors(
            scratch.gradient, self._activations, self._winners, self._shape, numbers, self._errors, self._sizes
        )
        changes = self._product(self._windows.T, self._errors, self._sizes.max(), self._changes)
        used, clipped = _update(state.memory, changes, scale, self._sizes, state.words, numbers, scratch, self._norm)
        if numbers.learned:
            learn_matrix(state.matrix, state.matrix_words, error, scale, numbers, scratch)
        state.counters[LEARNED] += 1
        state.counters[WORDS_READ] += used
        state.counters[WORDS_WRITTEN] += used
        state.counters[SATURATED] += clipped
