"""The float references: their updates against autograd, what they learn, and that a seed says it all."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from locallearn.host.datasets import load
from locallearn.reference.backprop import Backprop
from locallearn.reference.local_errors import LocalErrors
from locallearn.reference.rule import Rule

pytestmark = pytest.mark.torch

SIZES = (12, 20, 15)
CLASSES = 5


def samples(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(7)
    x = torch.rand(count, SIZES[0], generator=random)
    return x, torch.randint(0, CLASSES, (count,), generator=random)


def parameters(rule: Rule) -> list[Tensor]:
    if isinstance(rule, LocalErrors):
        return [tensor.clone() for layer in rule.layers for tensor in (layer.weight, layer.bias)]
    assert isinstance(rule, Backprop)
    return [tensor.detach().clone() for tensor in rule.network.parameters()]


@pytest.mark.parametrize("count", [1, 6])
def test_local_update_is_the_local_losss_gradient(count: int) -> None:
    rule = LocalErrors(SIZES, CLASSES, seed=3, gain=2.5)
    x, labels = samples(count)
    expected = []
    below = x
    for layer in rule.layers:
        weight, bias = (tensor.clone().requires_grad_() for tensor in (layer.weight, layer.bias))
        y = functional.relu(below @ weight.T + bias)
        # M is no parameter, and nothing comes from the layers above.
        functional.cross_entropy(layer.gain * (y @ layer.signs.T), labels).backward()
        for tensor in (weight, bias):
            assert tensor.grad is not None and tensor.grad.abs().max() > 1e-3
            expected.append((tensor - 0.1 / layer.gain * tensor.grad).detach())
        below = y.detach()
    signs = [layer.signs.clone() for layer in rule.layers]
    rule.learn(x, labels, batch=count, rate=0.1)
    for actual, wanted in zip(parameters(rule), expected, strict=True):
        torch.testing.assert_close(actual, wanted)
    for layer, before in zip(rule.layers, signs, strict=True):
        assert torch.equal(layer.signs, before)
        assert torch.equal(before.abs(), torch.ones(CLASSES, len(layer.bias)))


@pytest.mark.parametrize("make", [LocalErrors, Backprop])
def test_passes_are_sequences_of_batches(make: Callable[..., Rule]) -> None:
    whole, parts = make(SIZES, CLASSES, seed=3), make(SIZES, CLASSES, seed=3)
    x, labels = samples(7)
    whole.learn(x, labels, batch=3, rate=0.1)
    for part in (slice(0, 3), slice(3, 6), slice(6, 7)):
        parts.learn(x[part], labels[part], batch=3, rate=0.1)
    for one, other in zip(parameters(whole), parameters(parts), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("make", [LocalErrors, Backprop])
def test_the_seed_says_it_all(make: Callable[..., Rule]) -> None:
    state = torch.random.get_rng_state()
    first, second, third = (parameters(make(SIZES, CLASSES, seed=seed)) for seed in (3, 3, 4))
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first[0], third[0])
    # Nobody else's random numbers are touched.
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("make", "classifiers", "batch", "rate"),
    [(LocalErrors, 2, 1, 0.005), (LocalErrors, 2, 32, 0.05), (Backprop, 1, 1, 0.02), (Backprop, 1, 32, 0.2)],
)
def test_digits_are_learned(make: Callable[..., Rule], classifiers: int, batch: int, rate: float) -> None:
    data = load("digits")
    train, test = (torch.from_numpy(pixels).float() / 256 for pixels in (data.train_x, data.test_x))
    labels, test_labels = torch.from_numpy(data.train_y), torch.from_numpy(data.test_y)
    rule = make((64, 64, 64), 10, seed=1)
    random = torch.Generator().manual_seed(1)
    for _ in range(10):
        order = torch.randperm(len(train), generator=random)
        rule.learn(train[order], labels[order], batch, rate)
    answers = rule.scores(test)
    assert len(answers) == classifiers
    for scores in answers:
        assert scores.shape == (len(test), 10)
        accuracy = (scores.argmax(1) == test_labels).float().mean()
        assert accuracy > 0.92
