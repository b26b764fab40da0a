"""A tensor on its way through an imported model: what it says of the layer that it comes from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.float_network import FloatLayer
from locallearn.host.onnx_file import OnnxNode
from locallearn.quant.errors import ModelError
from locallearn.quant.layer_spec import ConvSpec, MapShape

__all__ = ["Flow", "Sums", "check_finite", "in_order", "map_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sums:
    """A linear map that no ReLU has followed yet.

    weights, biases  as those of `FloatLayer`, the outputs in their first order
    window           of a convolution
    shape            of its output, without pooling: rows, columns, channels
    limit            what a ReLU will be clamped at, if nothing else comes before it
    resolution       the inputs are averages over so many rows and columns of cells; 0: they are not
    """

    node: OnnxNode
    weights: Floats
    biases: Floats
    window: ConvSpec | None = None
    shape: MapShape | None = None
    limit: float = math.inf
    resolution: int = 0


@dataclass(frozen=True)
class Flow:
    """Number i of the tensor is scale[i] * a[index[i]] + offset[i].

    `a` are the image, the activations of the last of `layers`, or where there are, the `sums` of the one to come. The
    batch is the first axis, of 1.

    shape      of `a`: rows, columns, channels; None where it is no map
    quantised  the tensor is of integers now: scale and zero point
    cells      `a` are averages over so many rows and columns of cells; 0: they are not
    """

    layers: tuple[FloatLayer, ...]
    index: Ints
    scale: Floats
    offset: Floats
    shape: MapShape | None
    sums: Sums | None = None
    quantised: tuple[float, float] | None = None
    cells: int = 0

    def moved(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> "Flow":
        """The same numbers in other places."""
        return replace(self, index=move(self.index), scale=move(self.scale), offset=move(self.offset))

    def by_source(self, values: Floats) -> Floats:
        """Numbers in the tensor's order in that of `a`."""
        ordered = np.zeros(values.size)
        ordered[self.index.ravel()] = values.ravel()
        return ordered

    def by_neuron(self, node: OnnxNode) -> tuple[Floats, Floats]:
        """Scale and offset of each neuron of `a`; those of a channel must be the same at all places."""
        both = []
        for values in (self.scale, self.offset):
            ordered = self.by_source(values)
            if self.shape is not None:
                ordered = ordered.reshape(-1, self.shape[2])
                if (ordered != ordered[0]).any():
                    raise ModelError(f"{node}: is not the same for all pixels of a channel, a chip cannot do that")
                ordered = ordered[0]
            both.append(ordered)
        return both[0], both[1]

    @property
    def is_plain(self) -> bool:
        """The tensor is `a`."""
        return bool((self.scale == 1).all() and (self.offset == 0).all())

    def closed(self, node: OnnxNode, limit: float = math.inf) -> "Flow":
        """Behind the ReLU of the sums."""
        sums = self.sums
        assert sums is not None
        if sums.resolution:
            raise ModelError(f"{sums.node}: works on averages; on a chip only the last layer can")
        scale, offset = self.by_neuron(node)
        if self.is_plain:
            limit = min(limit, sums.limit)
        with np.errstate(all="ignore"):
            weights, biases = sums.weights * scale[:, None], sums.biases * scale + offset
        check_finite(sums.node, weights, biases)
        layer = FloatLayer(sums.node.name, weights, biases, sums.window, None if math.isinf(limit) else limit)
        return Flow(
            (*self.layers, layer), self.index, np.ones(self.index.shape), np.zeros(self.index.shape), self.shape
        )

    def limited(self, limit: float) -> "Flow":
        """With the activations, or the sums, clamped there too."""
        if self.sums is not None:
            return replace(self, sums=replace(self.sums, limit=min(limit, self.sums.limit)))
        last = self.layers[-1]
        least = limit if last.limit is None else min(limit, last.limit)
        return replace(self, layers=(*self.layers[:-1], replace(last, limit=least)))


def check_finite(node: OnnxNode, *arrays: NDArray[Any]) -> None:
    for values in arrays:
        if not np.isfinite(values).all():
            raise ModelError(f"{node}: its weights, with what is done to their sums, are not finite")


def map_order(shape: MapShape) -> Ints:
    """The numbers of a map as ONNX has them, (1, channels, rows, columns), by their place in a chip's."""
    return in_order(math.prod(shape)).reshape(1, *shape).transpose(0, 3, 1, 2)


def in_order(size: int) -> Ints:
    return np.arange(size)[None]
