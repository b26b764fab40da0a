"""Layers as every rule has them: a linear map, ReLU and, behind a convolution, max pooling, forward and back."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional, grad

__all__ = ["Conv", "ConvLayer", "Dense", "DenseLayer", "Layer", "Pass", "make_layers", "random_matrix"]

_POOL = 2


@dataclass(frozen=True)
class Dense:
    """A dense layer, as it is asked for."""

    neurons: int


@dataclass(frozen=True)
class Conv:
    """A convolution with stride 1 that keeps rows and columns (`kernel` is odd), then 2 x 2 max pooling."""

    channels: int
    kernel: int = 5


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
    """weight and bias learn; `outputs` is the shape of one sample's y.

    The weight starts as a `random_matrix`, the bias at 0.
    """

    weight: Tensor
    bias: Tensor
    outputs: tuple[int, ...]

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

    def random_weight(self, random: torch.Generator) -> Tensor:
        """Another weight, drawn as the first one was."""
        return random_matrix(self.weight.shape, random)


class DenseLayer(Layer):
    """weight (neurons, inputs); x of any shape is flattened."""

    def __init__(self, shape: Sequence[int], spec: Dense, random: torch.Generator) -> None:
        self.outputs = (spec.neurons,)
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
        below, rows, columns = shape
        self._padding = spec.kernel // 2
        self.outputs = (spec.channels, rows // _POOL, columns // _POOL)
        self.weight = torch.empty(spec.channels, below, spec.kernel, spec.kernel)
        self.weight = self.random_weight(random)
        self.bias = torch.zeros(spec.channels)

    def forward(self, x: Tensor) -> Pass:
        z = functional.conv2d(x, self.weight, self.bias, padding=self._padding)
        y, winners = functional.max_pool2d(z.relu(), _POOL, return_indices=True)
        return Pass(x, z, y, winners)

    def through_activation(self, passed: Pass, error: Tensor) -> Tensor:
        assert passed.winners is not None
        spread = torch.zeros_like(passed.z).flatten(2)
        spread.scatter_(2, passed.winners.flatten(2), error.flatten(2))
        return spread.view_as(passed.z) * (passed.z > 0)

    def gradients(self, passed: Pass, error: Tensor) -> list[Tensor]:
        weight: Tensor = grad.conv2d_weight(passed.x, self.weight.shape, error, padding=self._padding)
        return [weight, error.sum((0, 2, 3))]

    def to_input(self, passed: Pass, error: Tensor, weight: Tensor) -> Tensor:
        below: Tensor = grad.conv2d_input(passed.x.shape, weight, error, padding=self._padding)
        return below


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
