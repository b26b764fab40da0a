"""Layers as every rule has them: a linear map, ReLU and, behind a convolution, max pooling, forward and back."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional, grad

__all__ = ["Conv", "ConvLayer", "Dense", "DenseLayer", "Layer", "Pass", "make_layers", "random_matrix"]


@dataclass(frozen=True)
class Dense:
    """A dense layer, as it is asked for."""

    neurons: int


@dataclass(frozen=True)
class Conv:
    """A convolution, as it is asked for, with max pooling behind it.

    channels    of the output
    kernel      rows and columns of the window
    stride      pixels that the window moves by
    padding     zeros around the input; None is half of the kernel: an odd one keeps the size
    pool        1: none. 2: of 2 x 2 pixels the largest goes on; an odd row or column at the end falls away
    resolution  local classifiers see the averages over resolution x resolution cells of the output, whose rows and
                columns it divides; 0: all its pixels
    """

    channels: int
    kernel: int = 5
    stride: int = 1
    padding: int | None = None
    pool: int = 2
    resolution: int = 0

    @property
    def border(self) -> int:
        """Zeros around the input."""
        return self.kernel // 2 if self.padding is None else self.padding

    def output(self, rows: int, columns: int) -> tuple[int, int]:
        """What becomes of so many rows and columns; none are left where one is below 1."""
        sides = (rows, columns)
        rows, columns = (((side + 2 * self.border - self.kernel) // self.stride + 1) // self.pool for side in sides)
        return rows, columns


@dataclass(frozen=True)
class Pass:
    """What a batch leaves on its way up; n samples first in every shape.

    x        input, as the layer takes it
    z        W x + b
    y        what goes on
    winners  of pooling: where in z each entry of y comes from, counted row by row
    """

    x: Tensor
    z: Tensor
    y: Tensor
    winners: Tensor | None = None


def random_matrix(shape: Sequence[int], random: torch.Generator) -> Tensor:
    """Uniform in +-sqrt(6 / (fan-in + fan-out)) (Glorot, Bengio 2010); shape (fan-out, fan-in), or a convolution's."""
    return torch.nn.init.xavier_uniform_(torch.empty(tuple(shape)), generator=random)


class Layer(ABC):
    """weight and bias learn; `outputs` is the shape of one sample's y, `features` what a local classifier sees of it.

    The weight starts as a `random_matrix`, the bias at 0.
    """

    weight: Tensor
    bias: Tensor
    outputs: tuple[int, ...]
    features: int

    @abstractmethod
    def forward(self, x: Tensor) -> Pass:
        """y = relu(W x + b), pooled where the layer pools."""

    @abstractmethod
    def through_activation(self, passed: Pass, error: Tensor) -> Tensor:
        """dE/dz from `error` = dE/dy: where pooling chose and ReLU is open, else 0."""

    @abstractmethod
    def gradients(self, passed: Pass, error: Tensor) -> list[Tensor]:
        """[dE/dW, dE/db] from `error` = dE/dz, summed over the batch."""

    @abstractmethod
    def to_input(self, passed: Pass, error: Tensor, weight: Tensor) -> Tensor:
        """dE/dx from `error` = dE/dz as if `weight`, shaped as the layer's own, had made z of x."""

    def see(self, y: Tensor) -> Tensor:
        """What a local classifier sees of y: (n, features); all of it, unless the layer says otherwise."""
        return y.flatten(1)

    def from_seen(self, error: Tensor) -> Tensor:
        """dE/dy from `error` (n, features), dE/d of what is seen of y."""
        return error.view(-1, *self.outputs)

    def random_weight(self, random: torch.Generator) -> Tensor:
        """Another weight, drawn as the first one was."""
        return random_matrix(self.weight.shape, random)


class DenseLayer(Layer):
    """weight (neurons, inputs); x of any shape is flattened."""

    def __init__(self, shape: Sequence[int], spec: Dense, random: torch.Generator) -> None:
        self.outputs = (spec.neurons,)
        self.features = spec.neurons
        self.weight = torch.empty(spec.neurons, math.prod(shape))
        self.weight = self.random_weight(random)
        self.bias = torch.zeros(spec.neurons)

    def forward(self, x: Tensor) -> Pass:
        x = x.flatten(1)
        z = torch.addmm(self.bias, x, self.weight.T)
        return Pass(x, z, z.relu())

    def through_activation(self, passed: Pass, error: Tensor) -> Tensor:
        return error * (passed.z > 0)

    def gradients(self, passed: Pass, error: Tensor) -> list[Tensor]:
        return [error.T @ passed.x, error.sum(0)]

    def to_input(self, passed: Pass, error: Tensor, weight: Tensor) -> Tensor:
        return error @ weight


class ConvLayer(Layer):
    """weight (channels, input channels, kernel, kernel); x (n, input channels, rows, columns)."""

    def __init__(self, shape: Sequence[int], spec: Conv, random: torch.Generator) -> None:
        below, *sides = shape
        rows, columns = spec.output(*sides)
        self._pool = (spec.pool, spec.pool)
        self._move = {"stride": spec.stride, "padding": spec.border}
        self._cells = (spec.resolution or rows, spec.resolution or columns)
        self._cell = (rows // self._cells[0], columns // self._cells[1])
        self.outputs = (spec.channels, rows, columns)
        self.features = spec.channels * math.prod(self._cells)
        self.weight = torch.empty(spec.channels, below, spec.kernel, spec.kernel)
        self.weight = _by_pixel(self.random_weight(random))
        self.bias = torch.zeros(spec.channels)

    def forward(self, x: Tensor) -> Pass:
        x = _by_pixel(x)
        z = functional.conv2d(x, self.weight, self.bias, **self._move)
        if self._pool == (1, 1):
            return Pass(x, z, z.relu())
        # The largest of a pool is the largest behind ReLU too, which then has a fourth to do.
        largest, winners = functional.max_pool2d(_by_pixel(z), self._pool, return_indices=True)
        return Pass(x, z, largest.relu_(), winners)

    def through_activation(self, passed: Pass, error: Tensor) -> Tensor:
        error = _by_pixel(error) * passed.y.sign()
        if passed.winners is None:
            return error
        return functional.max_unpool2d(error, passed.winners, self._pool, output_size=passed.z.shape)

    def gradients(self, passed: Pass, error: Tensor) -> list[Tensor]:
        weight: Tensor = grad.conv2d_weight(passed.x, self.weight.shape, error, **self._move)
        return [weight, error.sum((0, 2, 3))]

    def to_input(self, passed: Pass, error: Tensor, weight: Tensor) -> Tensor:
        below: Tensor = grad.conv2d_input(passed.x.shape, weight, error, **self._move)
        return below

    def see(self, y: Tensor) -> Tensor:
        return functional.avg_pool2d(y, self._cell).flatten(1)

    def from_seen(self, error: Tensor) -> Tensor:
        (channels, *_), (down, across), (height, width) = self.outputs, self._cells, self._cell
        shares = (error / (height * width)).view(-1, channels, down, 1, across, 1)
        return shares.expand(-1, -1, -1, height, -1, width).reshape(-1, *self.outputs)


def _by_pixel(maps: Tensor) -> Tensor:
    """The same with the channels of a pixel side by side in memory: torch then pools ten times as fast on a CPU."""
    return maps.contiguous(memory_format=torch.channels_last)


def make_layers(shape: Sequence[int], hidden: Sequence[Dense | Conv], random: torch.Generator) -> list[Layer]:
    """Layers, one on the other, for samples of `shape`: (inputs,), or (channels, rows, columns) for convolutions."""
    layers: list[Layer] = []
    for spec in hidden:
        if isinstance(spec, Dense):
            layers.append(DenseLayer(shape, spec, random))
        else:
            layers.append(ConvLayer(shape, spec, random))
        shape = layers[-1].outputs
    return layers
