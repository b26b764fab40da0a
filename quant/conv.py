"""A convolutional layer's arithmetic: windows, max pooling, the classifier's cells, and an update from all places."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import see_noise
from locallearn.quant.lfsr import LeapingLfsr

__all__ = ["ConvWeights", "average"]

Ints = NDArray[np.int64]


class ConvWeights:
    """The weight memory of one convolutional layer with the two passes that use it."""

    def __init__(self, plan: ConvPlan) -> None:
        self.plan = plan
        self._memory = np.zeros((plan.neurons, plan.fan_in), np.int64)

    @property
    def weights(self) -> NDArray[np.int32]:
        """Shape (channels, fan_in), biases last; a copy."""
        return self._memory.astype(np.int32)

    @weights.setter
    def weights(self, weights: NDArray[np.int32]) -> None:
        self._memory[:] = weights

    def windows(self, x: Ints) -> Ints:
        """What the kernel sees of an input (inputs,), place by place: shape (places, fan_in).

        A place's inputs are in the order kernel row, kernel column, channel, the bias's constant behind them. The
        places of a pool are side by side: first the pool's row and column, then the row and column in it.
        """
        plan, conv = self.plan, self.plan.conv
        sides = (conv.border, conv.border)
        padded = np.pad(x.reshape(plan.input_map), (sides, sides, (0, 0)))
        every = sliding_window_view(padded, (conv.kernel, conv.kernel), (0, 1))
        rows, columns, _ = plan.convolved_map
        seen = every[:: conv.stride, :: conv.stride][:rows, :columns].transpose(0, 1, 3, 4, 2)
        pooled = seen.reshape(rows // conv.pool, conv.pool, columns // conv.pool, conv.pool, -1).swapaxes(1, 2)
        inputs = pooled.reshape(rows * columns, -1)
        return np.pad(inputs, ((0, 0), (0, 1)), constant_values=plan.input_format.half)

    def forward(self, windows: Ints) -> tuple[Ints, Ints]:
        """Accumulate exactly, round half up, ReLU, clamp to the format; of a pool the largest, of equals the first.

        Returns activations (outputs,), and the place in its pool that each comes from.
        """
        plan, shift = self.plan, self.plan.requantise_shift
        rounded = (windows @ self._memory.T + (1 << shift >> 1)) >> shift
        clipped = np.clip(rounded, 0, plan.output_format.max)
        pools = clipped.reshape(-1, plan.conv.pool**2, plan.neurons)
        return pools.max(axis=1).ravel(), pools.argmax(axis=1).ravel()

    def learn(
        self, windows: Ints, activations: Ints, winners: Ints, scaled_error: Ints, noise: LeapingLfsr
    ) -> tuple[int, int]:
        """W = saturate(W - ((G + noise) >> update_shift)), G the sum over all places of input times error.

        The error of a feature comes to all of its cell's activations that are not 0, there to the place that won.
        Groups of channels without any error are passed over. The noise register moves on once for every word (group,
        input of the window) of the others, in that order; lanes see its state rotated.

        Returns (words processed, weights that were clipped).
        """
        plan = self.plan
        down, across = plan.cell
        errors = scaled_error.reshape(plan.feature_map).repeat(down, axis=0).repeat(across, axis=1)
        errors = errors.reshape(-1, plan.neurons) * (activations.reshape(-1, plan.neurons) > 0)
        place = np.arange(plan.conv.pool**2)[:, None]
        at_places = errors[:, None, :] * (winners.reshape(-1, 1, plan.neurons) == place)
        gradient = windows.T @ at_places.reshape(-1, plan.neurons)

        columns = np.zeros((plan.fan_in, plan.groups * plan.lanes), np.int64)
        columns[:, : plan.neurons] = gradient
        by_group = columns.reshape(plan.fan_in, plan.groups, plan.lanes).swapaxes(0, 1)
        occupied = np.zeros(plan.groups * plan.lanes, bool)
        occupied[: plan.neurons] = errors.any(axis=0)
        live = np.flatnonzero(occupied.reshape(plan.groups, plan.lanes).any(axis=1))
        words = noise.take(len(live) * plan.fan_in).reshape(len(live), plan.fan_in)
        random = plan.noise_value(see_noise(words, plan.lanes, plan.noise_bits))
        changes = np.zeros((plan.groups, plan.fan_in, plan.lanes), np.int64)
        changes[live] = (by_group[live] + random) >> plan.update_shift
        change = changes.transpose(0, 2, 1).reshape(-1, plan.fan_in)[: plan.neurons]
        exact = self._memory - change
        self._memory = np.clip(exact, plan.weight_format.min, plan.weight_format.max)
        return len(live) * plan.fan_in, int((self._memory != exact).sum())


def average(plan: ConvPlan, activations: Ints) -> Ints:
    """What the classifier sees of activations (outputs,): each cell's sum, shifted to the average, halves up."""
    (rows, columns, channels), (down, across), shift = plan.feature_map, plan.cell, plan.cell_shift
    sums = activations.reshape(rows, down, columns, across, channels).sum(axis=(1, 3))
    averages: Ints = (sums.ravel() + (1 << shift >> 1)) >> shift
    return averages
