"""Plain backpropagation, written as everybody writes it in PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from locallearn.reference.rule import Rule

__all__ = ["Backprop"]


class Backprop(Rule):
    """The same hidden layers and a trained linear output layer, one cross-entropy, autograd and torch's SGD:

        y_l = relu(W_l y_{l-1} + b_l)  z = W_out y + b_out  loss = -log softmax(z)[t]
        W = W - rate dloss/dW          for all layers, once the error has come all the way down

    There is one classifier, so one score. Weights and biases start as torch.nn.Linear starts them.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors" (1986).
    """

    def __init__(self, sizes: Sequence[int], classes: int, seed: int) -> None:
        super().__init__(sizes, classes, seed)
        with torch.random.fork_rng(devices=[]):  # torch.nn draws from the process's one generator
            torch.manual_seed(seed)
            modules: list[nn.Module] = []
            for inputs, neurons in zip(self.sizes, self.sizes[1:], strict=False):
                modules += [nn.Linear(inputs, neurons), nn.ReLU()]
            self.network = nn.Sequential(*modules, nn.Linear(self.sizes[-1], classes))

    def learn(self, x: Tensor, labels: Tensor, batch: int, rate: float) -> None:
        optimiser = torch.optim.SGD(self.network.parameters(), lr=rate)
        loss = nn.CrossEntropyLoss()
        for inputs, targets in zip(torch.split(x, batch), torch.split(labels, batch), strict=True):
            optimiser.zero_grad()
            loss(self.network(inputs), targets).backward()
            optimiser.step()

    def scores(self, x: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            answer: Tensor = self.network(x)
        return [answer]
