"""A convolutional layer of the compiled model; see `fast.py`."""

import numpy as np
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.fast_kernels import Batch, Maps, Shape, learn_conv, run_conv
from locallearn.quant.fast_layer import FastLayer, Ints, empty_batch, split_decay
from locallearn.quant.network import Pixels

__all__ = ["FastConv"]


class FastConv(FastLayer):
    """A convolutional layer."""

    plan: ConvPlan

    def __init__(self, plan: ConvPlan) -> None:
        columns = plan.groups * plan.lanes
        conv, (rows, across, channels) = plan.conv, plan.input_map
        self._shape = Shape(
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
        with_border = rows + 2 * conv.border, across + 2 * conv.border
        windows = np.zeros((plan.places, plan.fan_in), np.float32)
        windows[:, -1] = plan.input_format.half
        self._maps = Maps(
            padded=np.zeros(with_border[0] * with_border[1] * channels, np.float32),
            windows=windows,
            counts=np.zeros(with_border, np.int64),
            seen=np.zeros(1, np.int64),
            sums=np.zeros((plan.places, columns), np.float32),
            winners=np.zeros(plan.outputs, np.int8),
            errors=np.zeros((plan.places, columns), np.float32),
            sizes=np.zeros(columns, np.int64),
            changes=np.zeros((plan.fan_in, columns), np.float32),
            norms=np.zeros(columns, np.int64),
            largest=np.zeros(1, np.int64),
        )
        super().__init__(plan, columns, plan.features, np.float32)

    @property
    def weights(self) -> NDArray[np.int32]:
        return super().weights

    @weights.setter
    def weights(self, weights: NDArray[np.int32]) -> None:
        self._state.memory[:, : self.plan.neurons] = weights.T
        self._maps.norms[: self.plan.neurons] = np.abs(weights).sum(axis=1)

    def run(self, x: Pixels, labels: Ints, learns: bool, decay: float) -> Batch:
        batch = empty_batch(self.plan, len(x))
        state = self._shape, self._numbers, self._state, self._scratch, self._maps
        run_conv(x, labels, learns, split_decay(decay), classifier.TABLE, *state, batch)
        self._activations = batch.activations
        return batch

    def learn_last(self, error: NDArray[np.int32], size: int, decay: float) -> None:
        state = self._shape, self._numbers, self._state, self._scratch, self._maps
        learn_conv(error, size, split_decay(decay), *state, self._activations[-1])
