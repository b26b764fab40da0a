"""A dense layer of the compiled model; see `fast.py`."""

import numpy as np
from numpy.typing import NDArray

from locallearn.quant import classifier
from locallearn.quant.fast_kernels import Batch, learn_dense, run_dense
from locallearn.quant.fast_layer import FastLayer, Ints, empty_batch, split_decay
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import Pixels

__all__ = ["FastDense"]

_VECTOR = 32
"""Neurons are padded to a multiple of this, so that vector loops leave no rest."""


class FastDense(FastLayer):
    """A dense layer."""

    def __init__(self, plan: LayerPlan) -> None:
        columns = -(-plan.groups * plan.lanes // _VECTOR) * _VECTOR
        super().__init__(plan, columns, columns, np.int16)

    def run(self, x: Pixels, labels: Ints, learns: bool, decay: float) -> Batch:
        batch = empty_batch(self.plan, len(x))
        state = self._numbers, self._state, self._scratch
        self._events = run_dense(x, labels, learns, split_decay(decay), classifier.TABLE, *state, batch)
        return batch

    def learn_last(self, error: NDArray[np.int32], size: int, decay: float) -> None:
        learn_dense(error, size, self._events, split_decay(decay), self._numbers, self._state, self._scratch)
