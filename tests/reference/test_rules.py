"""The float references: their gradients against autograd or the equation, what they learn, that a seed says it all."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from locallearn.host.bench_torch import learn_local_errors
from locallearn.host.datasets import load
from locallearn.reference.layers import Conv, Dense, Layer
from locallearn.reference.local_errors import LocalErrors
from locallearn.reference.losses import LOSSES, Loss
from locallearn.reference.output_errors import (
    Backprop,
    DirectFeedbackAlignment,
    DirectRandomTargetProjection,
    FeedbackAlignment,
)
from locallearn.reference.rule import Rule
from locallearn.reference.rules import RULES

pytestmark = pytest.mark.torch

CLASSES = 5
NETWORKS: dict[str, tuple[tuple[int, ...], list[Dense | Conv]]] = {
    "dense": ((12,), [Dense(20), Dense(15)]),
    # Rows and columns that pooling leaves some of.
    "convolutions": ((2, 9, 7), [Conv(4, 3), Conv(6, 5), Dense(11)]),
    # Cells of 2 x 3 pixels, of 4 x 6, of one.
    "cells": ((3, 8, 12), [Conv(4, 3, resolution=2), Conv(5, 3, pool=1, resolution=1), Conv(6, 3, resolution=1)]),
    # Rows and columns that no window sees.
    "strides": ((2, 12, 9), [Conv(4, 5, stride=2, padding=0, pool=1), Conv(6, 2, padding=1, resolution=2), Dense(7)]),
}
each_network = pytest.mark.parametrize("network", NETWORKS)
each_rule = pytest.mark.parametrize("name", RULES)


def samples(shape: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(7)
    x = torch.rand(count, *shape, generator=random)
    return x, torch.randint(0, CLASSES, (count,), generator=random)


def one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels, CLASSES).float()


def linear(spec: Dense | Conv, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z as autograd sees it."""
    if isinstance(spec, Dense):
        return functional.linear(x.flatten(1), weight, bias)
    padding = spec.kernel // 2 if spec.padding is None else spec.padding
    return functional.conv2d(x, weight, bias, stride=spec.stride, padding=padding)


def forward(spec: Dense | Conv, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
    """z and y."""
    z = linear(spec, x, layer.weight, layer.bias)
    y = functional.relu(z)
    return z, functional.max_pool2d(y, spec.pool) if isinstance(spec, Conv) else y


def seen(spec: Dense | Conv, y: Tensor) -> Tensor:
    """What a local classifier sees."""
    resolution = spec.resolution if isinstance(spec, Conv) else 0
    return (functional.adaptive_avg_pool2d(y, resolution) if resolution else y).flatten(1)


def assert_close(actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert other.abs().max() > 1e-6
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def hinge(scores: Tensor, labels: Tensor) -> Tensor:
    signs = 2 * one_hot(labels) - 1
    return (1 - signs * scores).clamp(min=0).square().sum(1).mean()


LOSS: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": functional.cross_entropy,
    "squared-hinge": hinge,
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("options", [{}, {"matrix": "signs"}, {"feedback": "trainable"}], ids=str)
@each_network
def test_local_gradients_are_those_of_the_local_loss(network: str, options: dict[str, Any], loss: Loss) -> None:
    shape, hidden = NETWORKS[network]
    rule = LocalErrors(shape, hidden, CLASSES, seed=3, loss=loss, **options)
    x, labels = samples(shape, 6)
    actual = rule.gradients(x, one_hot(labels))
    for parameter in rule.parameters:
        parameter.requires_grad_()
    for spec, layer, classifier in zip(hidden, rule.layers, rule.classifiers, strict=True):
        _, y = forward(spec, layer, x)
        LOSS[loss](seen(spec, y) @ classifier.matrix.T, labels).backward()
        # Nothing comes from the layers above.
        x = y.detach()
    assert len(actual) == len(hidden) * (3 if options.get("feedback") == "trainable" else 2)
    assert_close(actual, [parameter.grad for parameter in rule.parameters if parameter.grad is not None])


@each_network
def test_backprop_gradients_are_autograds(network: str) -> None:
    shape, hidden = NETWORKS[network]
    rule = Backprop(shape, hidden, CLASSES, seed=3)
    x, labels = samples(shape, 6)
    actual = rule.gradients(x, one_hot(labels))
    for parameter in rule.parameters:
        parameter.requires_grad_()
    for spec, layer in zip([*hidden, Dense(CLASSES)], rule.layers, strict=True):
        z, x = forward(spec, layer, x)
    functional.cross_entropy(z, labels).backward()
    assert_close(actual, [parameter.grad for parameter in rule.parameters if parameter.grad is not None])


def from_output(
    rule: Rule, hidden: Sequence[Dense | Conv], x: Tensor, targets: Tensor, weights: list[Tensor]
) -> list[Tensor]:
    """What autograd makes of errors that come down through `weights` in place of the layers' own."""
    leaves, outputs = [], []
    specs = [*hidden, Dense(CLASSES)]
    for spec, layer in zip(specs, rule.layers, strict=True):
        leaf = x.detach().requires_grad_()
        z, x = forward(spec, layer, leaf)
        leaves.append((leaf, z, x))
        outputs.append(z)
    delta = (outputs[-1].softmax(1) - targets).detach() / len(targets)
    errors = [delta]
    for number in range(len(rule.layers) - 1, 0, -1):
        leaf, _, _ = leaves[number]
        (below,) = torch.autograd.grad(linear(specs[number], leaf, weights[number]), leaf, errors[0])
        _, z, y = leaves[number - 1]
        errors.insert(0, torch.autograd.grad(y, z, below.view_as(y), retain_graph=True)[0])
    gradients: list[Tensor] = []
    for spec, layer, (leaf, _, _), error in zip(specs, rule.layers, leaves, errors, strict=True):
        inputs = [layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()]
        gradients += torch.autograd.grad(linear(spec, leaf, *inputs), inputs, error)
    return gradients


@each_network
def test_feedback_alignment(network: str) -> None:
    shape, hidden = NETWORKS[network]
    rule = FeedbackAlignment(shape, hidden, CLASSES, seed=3)
    x, labels = samples(shape, 6)
    targets = one_hot(labels)
    assert_close(rule.gradients(x, targets), from_output(rule, hidden, x, targets, rule.feedback))
    for layer, feedback in zip(rule.layers, rule.feedback, strict=True):
        assert feedback.shape == layer.weight.shape
        assert not torch.allclose(feedback, layer.weight)
    # The same through its own weights is backpropagation.
    rule.feedback = [layer.weight for layer in rule.layers]
    exact = Backprop(shape, hidden, CLASSES, seed=3)
    assert_close(rule.gradients(x, targets), exact.gradients(x, targets))


@pytest.mark.parametrize("make", [DirectFeedbackAlignment, DirectRandomTargetProjection])
@each_network
def test_direct_feedback(make: type[DirectFeedbackAlignment], network: str) -> None:
    """B^T e, or B^T t, arrives where y leaves; from there it is autograd's again."""
    shape, hidden = NETWORKS[network]
    rule = make(shape, hidden, CLASSES, seed=3)
    x, labels = samples(shape, 6)
    targets = one_hot(labels)
    actual = rule.gradients(x, targets)
    error = rule.scores(x)[0].softmax(1) - targets
    signal = error if make is DirectFeedbackAlignment else targets
    for parameter in rule.parameters:
        parameter.requires_grad_()
    for spec, layer, matrix in zip(hidden, rule.layers, rule.feedback, strict=False):
        _, y = forward(spec, layer, x)
        assert matrix.shape == (CLASSES, math.prod(layer.outputs))
        (y.flatten(1) * (signal @ matrix)).sum().div(len(x)).backward()
        x = y.detach()
    z, _ = forward(Dense(CLASSES), rule.layers[-1], x)
    functional.cross_entropy(z, labels).backward()
    assert_close(actual, [parameter.grad for parameter in rule.parameters if parameter.grad is not None])


def test_feedback_of_local_classifiers() -> None:
    """All begin with the same network and the same M."""
    shape, hidden = NETWORKS["convolutions"]
    rules = {
        name: LocalErrors(shape, hidden, CLASSES, seed=3, feedback=name)
        for name in ("symmetric", "sign-concordant", "random", "trainable")
    }
    for number, layer in enumerate(rules["symmetric"].layers):
        matrix = rules["symmetric"].classifiers[number].matrix
        feedback = {name: rule.classifiers[number].feedback for name, rule in rules.items()}
        for rule in rules.values():
            assert torch.equal(rule.classifiers[number].matrix, matrix)
            assert torch.equal(rule.layers[number].weight, layer.weight)
        assert torch.equal(feedback["symmetric"], matrix)
        assert torch.equal(feedback["trainable"], matrix)
        assert torch.equal(feedback["sign-concordant"].sign(), matrix.sign())
        assert not torch.allclose(feedback["sign-concordant"], matrix)
        agreement = (feedback["random"].sign() == matrix.sign()).float().mean()
        assert 0.3 < agreement < 0.7


@each_rule
def test_what_is_fixed_stays(name: str) -> None:
    shape, hidden = NETWORKS["dense"]
    rule = RULES[name](shape, hidden, CLASSES, 3)
    fixed: list[Tensor] = getattr(rule, "feedback", [])
    if isinstance(rule, LocalErrors):
        fixed = [tensor for c in rule.classifiers for tensor in (c.matrix, c.feedback)] * (name != "local-trainable")
    before = [tensor.clone() for tensor in fixed]
    learned = [tensor.clone() for tensor in rule.parameters]
    x, labels = samples(shape, 6)
    rule.learn(x, labels, 6, torch.optim.SGD(rule.parameters, lr=0.1))
    assert all(map(torch.equal, fixed, before))
    assert not any(map(torch.equal, rule.parameters, learned))


@each_rule
def test_passes_are_sequences_of_batches(name: str) -> None:
    shape, hidden = NETWORKS["dense"]
    whole, parts = (RULES[name](shape, hidden, CLASSES, 3) for _ in range(2))
    x, labels = samples(shape, 7)
    whole.learn(x, labels, 3, torch.optim.SGD(whole.parameters, lr=0.1))
    for part in (slice(0, 3), slice(3, 6), slice(6, 7)):
        parts.learn(x[part], labels[part], 3, torch.optim.SGD(parts.parameters, lr=0.1))
    assert all(map(torch.equal, whole.parameters, parts.parameters))


@each_rule
def test_the_seed_says_it_all(name: str) -> None:
    state = torch.random.get_rng_state()
    first, second, third = (RULES[name](*NETWORKS["convolutions"], CLASSES, seed) for seed in (3, 3, 4))
    x, _ = samples(NETWORKS["convolutions"][0], 2)
    assert all(map(torch.equal, first.parameters, second.parameters))
    assert all(map(torch.equal, first.scores(x), second.scores(x)))
    assert not torch.equal(first.parameters[0], third.parameters[0])
    # Nobody else's random numbers are touched.
    assert torch.equal(torch.random.get_rng_state(), state)


@each_rule
def test_digits_are_learned(name: str) -> None:
    data = load("digits")
    train, test = (torch.from_numpy(pixels).float() / 256 for pixels in (data.train_x, data.test_x))
    labels, test_labels = torch.from_numpy(data.train_y), torch.from_numpy(data.test_y)
    # Labels alone teach one wide layer, slowly.
    hidden, rate = ([Dense(500)], 1e-3) if name == "drtp" else ([Dense(64), Dense(64)], 3e-3)
    rule = RULES[name]((64,), hidden, 10, 1)
    optimiser = torch.optim.Adam(rule.parameters, lr=rate)
    random = torch.Generator().manual_seed(1)
    for _ in range(10):
        order = torch.randperm(len(train), generator=random)
        rule.learn(train[order], labels[order], 32, optimiser)
    answers = rule.scores(test)
    assert len(answers) == (2 if name.startswith("local") else 1)
    for scores in answers:
        assert scores.shape == (len(test), 10)
        accuracy = (scores.argmax(1) == test_labels).float().mean().item()
        # The negative control learns to please other classifiers than the ones that answer.
        assert accuracy < 0.3 if name == "local-random" else accuracy > 0.88, accuracy


@pytest.mark.parametrize("batch", [1, 3])
def test_the_fast_learner_of_the_benchmark_is_the_rule(batch: int) -> None:
    shape, hidden = NETWORKS["dense"]
    rule, fast = (LocalErrors(shape, hidden, CLASSES, seed=3, matrix="signs") for _ in range(2))
    x, labels = samples(shape, 7)
    rule.learn(x, labels, batch, torch.optim.SGD(rule.parameters, lr=0.1))
    learn_local_errors(fast, x, labels, batch, 0.1)
    assert_close(fast.parameters, rule.parameters)
