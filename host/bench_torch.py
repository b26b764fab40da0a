"""PyTorch's part in the comparison of speeds; imported only where torch is installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from locallearn.quant.network import quantise_pixels
from locallearn.quant.spec import ConvSpec, LayerSpec, NetworkSpec
from locallearn.reference.layers import Dense
from locallearn.reference.local_errors import LocalErrors

__all__ = ["LayerByLayer", "learn_local_errors", "torch_learners"]


@contextmanager
def torch_learners(
    spec: NetworkSpec, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Iterator[dict[str, Callable[[int], None]]]:
    """By name, functions that learn from the first n of the samples (pixels (m, inputs), labels (m,)).

    The chip's hidden layers in float32, in eager mode (what is measured is what users write and run; torch.compile
    is not asked), on one thread while the context is open. Samples lie there as tensors, in order: no data loader.
    Rates are such that both rules learn; the operations are the same at all of them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        quantised = quantise_pixels(spec, pixels).astype(np.float32)
        x = torch.from_numpy(np.ldexp(quantised, -spec.input.fraction))
        y = torch.from_numpy(labels)
        local, network = partial(_local_errors, spec), partial(_Sequential, spec)

        def learner(learn: Callable[..., None], rule: object, batch: int, rate: float) -> Callable[[int], None]:
            return lambda count: learn(rule, x[:count], y[:count], batch, rate)

        if any(isinstance(layer, ConvSpec) for layer in spec.layers):
            assert spec.input.map is not None
            x = x.view(-1, *spec.input.map).permute(0, 3, 1, 2).contiguous()
            layers = partial(LayerByLayer, spec)
            yield {
                "torch local, batch 16": learner(_learn_backprop, layers(), 16, 0.05),
                "torch backprop, batch 1": learner(_learn_backprop, network(), 1, 0.005),
                "torch backprop, batch 16": learner(_learn_backprop, network(), 16, 0.05),
                "torch backprop, batch 128": learner(_learn_backprop, network(), 128, 0.1),
            }
            return
        yield {
            "torch local, batch 1": learner(learn_local_errors, local(), 1, 0.01),
            "torch local, batch 128": learner(learn_local_errors, local(), 128, 0.2),
            "torch backprop, batch 1": learner(_learn_backprop, network(), 1, 0.01),
            "torch backprop, batch 16": learner(_learn_backprop, network(), 16, 0.05),
            "torch backprop, batch 128": learner(_learn_backprop, network(), 128, 0.1),
        }
    finally:
        torch.set_num_threads(threads)


def _local_errors(spec: NetworkSpec) -> LocalErrors:
    hidden = [Dense(layer.neurons) for layer in spec.layers]
    return LocalErrors((spec.input.size,), hidden, spec.classes, spec.training.seed, matrix="signs")


def learn_local_errors(rule: LocalErrors, x: Tensor, labels: Tensor, batch: int, rate: float) -> None:
    """What `rule.learn` does with torch's SGD, for dense layers and a symmetric classifier, as fast as torch does it:
    every step in place, and for single samples products of matrix and vector."""
    with torch.inference_mode():
        targets = functional.one_hot(labels, rule.classes).float()
        if batch == 1:
            _learn_each(rule, x, targets, rate)
        else:
            _learn_batches(rule, x, targets, batch, rate)


def _learn_each(rule: LocalErrors, x: Tensor, targets: Tensor, rate: float) -> None:
    # torch multiplies a vector by rows faster than by columns.
    layers = [
        (layer.weight, layer.bias, classifier.matrix, classifier.matrix.T.contiguous())
        for layer, classifier in zip(rule.layers, rule.classifiers, strict=True)
    ]
    for inputs, target in zip(x.unbind(), targets.unbind(), strict=True):
        below = inputs
        for weight, bias, matrix, back in layers:
            y = torch.addmv(bias, weight, below).relu_()
            e = torch.mv(matrix, y).softmax(0).sub_(target)
            d = torch.mv(back, e).mul_(y.sign())
            weight.addr_(d, below, alpha=-rate)
            bias.sub_(d, alpha=rate)
            below = y


def _learn_batches(rule: LocalErrors, x: Tensor, targets: Tensor, batch: int, rate: float) -> None:
    layers = [
        (layer.weight, layer.bias, classifier.matrix)
        for layer, classifier in zip(rule.layers, rule.classifiers, strict=True)
    ]
    for inputs, target in zip(torch.split(x, batch), torch.split(targets, batch), strict=True):
        step = rate / len(inputs)
        below = inputs
        for weight, bias, matrix in layers:
            y = torch.addmm(bias, below, weight.T).relu_()
            e = torch.mm(y, matrix.T).softmax(1).sub_(target)
            d = torch.mm(e, matrix).mul_(y.sign())
            weight.addmm_(d.T, below, alpha=-step)
            bias.sub_(d.sum(0), alpha=step)
            below = y


class LayerByLayer(nn.Module):
    """The same layers, each with a trained linear classifier of its own, as autograd has it: no layer's input passes a
    gradient down. The mean loss of all classifiers is each one's own, as far as its layer is concerned."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        with _seeded(spec):
            self._layers = nn.ModuleList(_hidden(spec, number) for number in range(len(spec.layers)))
            self._views = nn.ModuleList(_view(layer) for layer in spec.layers)
            sizes = (spec.features(number) for number in range(len(spec.layers)))
            self._classifiers = nn.ModuleList(nn.Linear(size, spec.classes) for size in sizes)

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        losses = []
        for layer, view, classifier in zip(self._layers, self._views, self._classifiers, strict=True):
            x = layer(x.detach())
            losses.append(functional.cross_entropy(classifier(view(x)), targets))
        return torch.stack(losses).sum()


class _Sequential(nn.Sequential):
    """The same hidden layers and a trained linear output layer."""

    def __init__(self, spec: NetworkSpec) -> None:
        last = len(spec.layers) - 1
        with _seeded(spec):
            hidden = [_hidden(spec, number) for number in range(last + 1)]
            super().__init__(*hidden, nn.Flatten(), nn.Linear(spec.outputs(last), spec.classes))

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(self(x), targets)


@contextmanager
def _seeded(spec: NetworkSpec) -> Iterator[None]:
    """torch.nn draws from the process's one generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.training.seed)
        yield


def _hidden(spec: NetworkSpec, number: int) -> nn.Sequential:
    layer = spec.layers[number]
    if isinstance(layer, LayerSpec):
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.inputs(number), layer.neurons), nn.ReLU())
    shape = spec.input_map(number)
    assert shape is not None
    conv = nn.Conv2d(shape[2], layer.channels, layer.kernel, layer.stride, layer.border)
    return nn.Sequential(conv, nn.ReLU(), *[nn.MaxPool2d(layer.pool)] * (layer.pool > 1))


def _view(layer: LayerSpec | ConvSpec) -> nn.Module:
    """What the classifier sees."""
    cells = isinstance(layer, ConvSpec) and layer.resolution
    return nn.Sequential(*[nn.AdaptiveAvgPool2d(cells)] * bool(cells), nn.Flatten())


def _learn_backprop(network: LayerByLayer | _Sequential, x: Tensor, labels: Tensor, batch: int, rate: float) -> None:
    """As everybody writes it: cross-entropy, autograd, SGD."""
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    for inputs, targets in zip(torch.split(x, batch), torch.split(labels, batch), strict=True):
        optimiser.zero_grad()
        network.loss(inputs, targets).backward()
        optimiser.step()
