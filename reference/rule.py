"""What every float reference is: a network of ReLU layers with one rule to learn by."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from locallearn.reference.layers import Conv, Dense, Layer, make_layers

__all__ = ["Rule"]


class Rule(ABC):
    """Hidden layers for samples of `shape`, biases included, in float32 on the CPU; no autograd.

    Equal seeds give equal networks; learning is deterministic where torch runs on one thread.
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[Dense | Conv], classes: int, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.classes = classes
        self.layers: list[Layer] = make_layers(shape, hidden, self.random)

    @property
    def parameters(self) -> list[Tensor]:
        """What learns: every layer's weight and bias, from the first layer up."""
        return [tensor for layer in self.layers for tensor in (layer.weight, layer.bias)]

    @abstractmethod
    def gradients(self, x: Tensor, targets: Tensor) -> list[Tensor]:
        """What the rule takes for the gradient of each of `parameters`, the mean over the batch.

        x (n, *shape), targets (n, classes): 1 for the sample's class, else 0.
        """

    @abstractmethod
    def scores(self, x: Tensor) -> list[Tensor]:
        """What each of the network's classifiers says of x (n, *shape), from the first layer up: (n, classes)."""

    def learn(self, x: Tensor, labels: Tensor, batch: int, optimiser: torch.optim.Optimizer) -> None:
        """One pass over x (n, *shape) and labels (n,) int64 in their order, a step of the optimiser for every batch.

        The optimiser is one of `parameters`. The last batch may be smaller.
        """
        with torch.no_grad():
            targets = functional.one_hot(labels, self.classes).float()
            for samples, wanted in zip(torch.split(x, batch), torch.split(targets, batch), strict=True):
                for parameter, gradient in zip(self.parameters, self.gradients(samples, wanted), strict=True):
                    parameter.grad = gradient
                optimiser.step()
