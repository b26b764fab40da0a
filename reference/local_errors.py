"""Learning from local errors: every layer has a fixed random classifier and waits for no error from above."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from locallearn.reference.rule import Rule

__all__ = ["LocalErrors", "LocalLayer"]


@dataclass(frozen=True)
class LocalLayer:
    """weight (neurons, inputs) and bias (neurons,) learn; signs (classes, neurons) of +-1 are M and stay."""

    weight: Tensor
    bias: Tensor
    signs: Tensor
    gain: float


class LocalErrors(Rule):
    """For every layer with input x and label t, no autograd:

        y = relu(W x + b)             s = M y                         M fixed, random +-1
        e = softmax(g s) - onehot(t)  d = M^T e * (y > 0)             (d is 1/g of the cross-entropy's gradient)
        W = W - rate d x^T            b = b - rate d

    y goes on to the next layer at once: all layers learn from a sample in the one pass that infers it. Every
    layer's classifier answers, so there are as many scores as layers.

    gain  g = gain / sqrt(neurons): the scores of random activations of about 1 differ by about `gain`, in nats

    Source: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local errors" (2017); M of +-1 in place
    of its uniform one, as the chip has it. W starts uniform, its range by fan-in and fan-out, b at 0.
    """

    def __init__(self, sizes: Sequence[int], classes: int, seed: int, gain: float = 3.0) -> None:
        super().__init__(sizes, classes, seed)
        random = torch.Generator().manual_seed(seed)
        self.layers: list[LocalLayer] = []
        for inputs, neurons in zip(self.sizes, self.sizes[1:], strict=False):
            weight = torch.nn.init.xavier_uniform_(torch.empty(neurons, inputs), generator=random)
            signs = 2.0 * torch.randint(0, 2, (classes, neurons), generator=random) - 1.0
            self.layers.append(LocalLayer(weight, torch.zeros(neurons), signs, gain / neurons**0.5))

    def learn(self, x: Tensor, labels: Tensor, batch: int, rate: float) -> None:
        with torch.inference_mode():
            targets = functional.one_hot(labels, self.classes).float()
            if batch == 1:
                self._learn_each(x, targets, rate)
            else:
                self._learn_batches(x, targets, batch, rate)

    def _learn_each(self, x: Tensor, targets: Tensor, rate: float) -> None:
        """Matrix-vector products: what is fastest for single samples."""
        # The gain is a part of the matrix; torch multiplies a vector by rows faster than by columns.
        layers = [(n.weight, n.bias, n.gain * n.signs, n.signs.T.contiguous()) for n in self.layers]
        for inputs, target in zip(x.unbind(), targets.unbind(), strict=True):
            below = inputs
            for weight, bias, to_scores, back in layers:
                y = torch.addmv(bias, weight, below).relu_()
                e = torch.mv(to_scores, y).softmax(0).sub_(target)
                d = torch.mv(back, e).mul_(y.sign())
                weight.addr_(d, below, alpha=-rate)
                bias.sub_(d, alpha=rate)
                below = y

    def _learn_batches(self, x: Tensor, targets: Tensor, batch: int, rate: float) -> None:
        layers = [(n.weight, n.bias, n.gain * n.signs.T, n.signs) for n in self.layers]
        for inputs, target in zip(torch.split(x, batch), torch.split(targets, batch), strict=True):
            step = rate / len(inputs)
            below = inputs
            for weight, bias, to_scores, back in layers:
                y = torch.addmm(bias, below, weight.T).relu_()
                e = torch.mm(y, to_scores).softmax(1).sub_(target)
                d = torch.mm(e, back).mul_(y.sign())
                weight.addmm_(d.T, below, alpha=-step)
                bias.sub_(d.sum(0), alpha=step)
                below = y

    def scores(self, x: Tensor) -> list[Tensor]:
        answers = []
        with torch.inference_mode():
            for layer in self.layers:
                x = torch.addmm(layer.bias, x, layer.weight.T).relu_()
                answers.append(layer.gain * torch.mm(x, layer.signs.T))
        return answers
