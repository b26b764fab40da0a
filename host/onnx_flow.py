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

__all__ = ["Flow", "Sums", "check_finite", "check_no_averages", "in_order", "map_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sums:
    """A linear map that no ReLU has followed yet.

    weights, biases  as those of `FloatLayer`, the outputs in their first order
    window           of a convolution
    low, high        what the sums are clamped at, or -inf and inf
    exact            the model says so; else its quantisation does, whose ends are wide enough for what it has seen
    resolution       the inputs are averages over so many rows and columns of cells; 0: they are not
    """

    node: OnnxNode
    weights: Floats
    biases: Floats
    window: ConvSpec | None = None
    low: float = -math.inf
    high: float = math.inf
    exact: bool = False
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

    def settled(self, node: OnnxNode) -> "Flow":
        """With scale and offset as part of the sums' weights and biases."""
        sums = self.sums
        assert sums is not None
        if self.is_plain:
            return self
        scale, offset = self.by_neuron(node)
        if sums.window is not None and sums.window.pool > 1 and (scale < 0).any():
            raise ModelError(f"{node}: a scale below 0 behind the pooling of {sums.node}; normalise before it")
        ends = (sums.low, sums.high)
        if ends != (-math.inf, math.inf):
            if sums.exact and (scale[0] <= 0 or np.ptp(scale) or np.ptp(offset)):
                raise ModelError(f"{node}: what {sums.node} was clamped at is not the same for all neurons behind it")
            # Of quantised sums the ends are left out: all that the model has seen was between them.
            ends = (
                (ends[0] * scale[0] + offset[0], ends[1] * scale[0] + offset[0])
                if sums.exact
                else (-math.inf, math.inf)
            )
        weights, biases = sums.weights * scale[:, None], sums.biases * scale + offset
        check_finite(sums.node, weights, biases)
        sums = replace(sums, weights=weights, biases=biases, low=ends[0], high=ends[1])
        return replace(self, sums=sums, scale=np.ones(self.index.shape), offset=np.zeros(self.index.shape))

    def closed(self, node: OnnxNode) -> "Flow":
        """Behind the ReLU of the sums."""
        flow = self.settled(node)
        sums = flow.sums
        assert sums is not None
        if sums.resolution:
            raise ModelError(f"{sums.node}: works on averages; on a chip only the last layer can")
        if not sums.low <= 0 < sums.high:
            raise ModelError(f"{node}: clamps to {sums.low:g} .. {sums.high:g}; a chip's activations start at 0")
        limit = None if math.isinf(sums.high) else sums.high
        layer = FloatLayer(sums.node.name, sums.weights, sums.biases, sums.window, limit)
        return replace(flow, layers=(*self.layers, layer), sums=None)

    def reach(self, low: float, high: float) -> tuple[float, float]:
        """The least and the largest number of the tensor where those of `a` are from low to high."""
        with np.errstate(invalid="ignore"):
            # A scale of 0 makes nothing of infinity.
            ends = np.stack([np.where(self.scale == 0, 0, self.scale * end) for end in (low, high)]) + self.offset
        return float(ends.min()), float(ends.max())


def check_finite(node: OnnxNode, *arrays: NDArray[Any]) -> None:
    for values in arrays:
        if not np.isfinite(values).all():
            raise ModelError(f"{node}: its weights, with what is done to their sums, are not finite")


def check_no_averages(node: OnnxNode, flow: Flow) -> None:
    if flow.cells:
        raise ModelError(f"{node}: works on averages; on a chip only the last layer can")


def map_order(shape: MapShape) -> Ints:
    """The numbers of a map as ONNX has them, (1, channels, rows, columns), by their place in a chip's."""
    return in_order(math.prod(shape)).reshape(1, *shape).transpose(0, 3, 1, 2)


def in_order(size: int) -> Ints:
    return np.arange(size)[None]
