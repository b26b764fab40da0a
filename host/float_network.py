"""A network in float, in the shape that the chip has: what an import starts from."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from locallearn.quant.layer_spec import ConvSpec, MapShape

__all__ = ["FloatLayer", "FloatNetwork"]

Floats = NDArray[np.float64]

_BATCH = 100
"""Samples at a time: the windows of a convolution take many times the memory of its input."""


@dataclass(frozen=True)
class FloatLayer:
    """A linear map, ReLU, and behind a convolution perhaps max pooling.

    name     of the node that it comes from
    weights  (neurons, fan_in), in the order of the chip's weights
    biases   (neurons,)
    window   of a convolution: kernel, stride, padding and pool are what count
    limit    activations are clamped here; None: nowhere
    """

    name: str
    weights: Floats
    biases: Floats
    window: ConvSpec | None = None
    limit: float | None = None

    @property
    def neurons(self) -> int:
        return len(self.weights)

    def forward(self, x: NDArray[np.float32], shape: MapShape | None) -> NDArray[np.float32]:
        """Activations (n, outputs) of inputs (n, inputs), a map's of this shape."""
        weights, biases = self.weights.astype(np.float32), self.biases.astype(np.float32)
        if self.window is None:
            sums = x @ weights.T + biases
        else:
            assert shape is not None
            sums = self._convolve(x.reshape(-1, *shape), weights) + biases
            sums = _pooled(sums, self.window.pool)
        activations: NDArray[np.float32] = np.clip(sums.reshape(len(x), -1), 0, self.limit)
        return activations

    def _convolve(self, x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (n, rows, columns, channels)."""
        assert self.window is not None
        kernel, stride, sides = self.window.kernel, self.window.stride, (self.window.border,) * 2
        padded = np.pad(x, ((0, 0), sides, sides, (0, 0)))
        windows = sliding_window_view(padded, (kernel, kernel), (1, 2))[:, ::stride, ::stride]
        seen = windows.transpose(0, 1, 2, 4, 5, 3)
        sums: NDArray[np.float32] = seen.reshape(*seen.shape[:3], -1) @ weights.T
        return sums


@dataclass(frozen=True)
class FloatNetwork:
    """Layers, and a last linear map to a number for each class, the largest of which answers.

    shape       of an image: channels, rows, columns; None where the layers do not see one
    size        numbers of an image
    signed      what the first layer takes is (pixel - 128) / 128 instead of pixel / 256
    layers      one at least
    matrix      (features, classes)
    biases      (classes,)
    resolution  the last map sees averages over so many rows and columns of cells; 0: all activations
    notes       what is not quite as the model has it
    """

    shape: tuple[int, int, int] | None
    size: int
    signed: bool
    layers: tuple[FloatLayer, ...]
    matrix: Floats
    biases: Floats
    resolution: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int:
        return len(self.biases)

    def maps(self) -> list[MapShape | None]:
        """Shapes of what goes into each layer, and of what comes from the last."""
        shapes = [self.shape and (self.shape[1], self.shape[2], self.shape[0])]
        for layer in self.layers:
            below = shapes[-1]
            shapes.append(layer.window.output(below) if layer.window is not None and below is not None else None)
        return shapes

    def activations(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Of every layer, of samples (n, size) as the first one takes them."""
        batches = list(self._batches(x))
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes) of samples (n, size)."""
        return np.concatenate([self.scores(batch[-1]) for batch in self._batches(x)])

    def _batches(self, x: NDArray[np.float32]) -> Iterator[list[NDArray[np.float32]]]:
        maps = self.maps()
        for at in range(0, len(x), _BATCH):
            y, batch = x[at : at + _BATCH], []
            for layer, shape in zip(self.layers, maps, strict=False):
                y = layer.forward(y, shape)
                batch.append(y)
            yield batch

    def scores(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits of the last layer's activations (n, outputs)."""
        shape = self.maps()[-1]
        if self.resolution and shape is not None:
            rows, columns, channels = shape
            side = self.resolution
            cells = y.reshape(len(y), side, rows // side, side, columns // side, channels)
            y = cells.mean(axis=(2, 4)).reshape(len(y), -1)
        logits: NDArray[np.float32] = y @ self.matrix.astype(np.float32) + self.biases.astype(np.float32)
        return logits


def _pooled(sums: NDArray[np.float32], pool: int) -> NDArray[np.float32]:
    n, rows, columns, channels = sums.shape
    rows, columns = rows // pool, columns // pool
    inside = sums[:, : rows * pool, : columns * pool]
    largest: NDArray[np.float32] = inside.reshape(n, rows, pool, columns, pool, channels).max(axis=(2, 4))
    return largest
