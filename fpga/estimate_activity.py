"""What the data make a network do: how many of its inputs are not zero, and how often it has something to learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.errors import RunError
from locallearn.quant.plan import NetworkPlan

__all__ = ["Activity", "LayerActivity", "counted", "dense", "expected"]


@dataclass(frozen=True)
class LayerActivity:
    """What a layer has to do for a sample, on average.

    events   inputs that are not zero, the bias among them
    learned  share of the training samples that leave an error to learn from
    rows     of all weight rows that the events of these samples name, or of all that a convolution has, the share that
             is learned: the others belong to groups of neurons that have no error
    met      what weights meet that is not zero, at all places of a convolution together; of a dense layer its events
    """

    events: float
    learned: float
    rows: float
    met: float


@dataclass(frozen=True)
class Activity:
    """What a network has to do for a training sample, on average.

    source  where the figures come from
    bytes   of a sample's packet
    layers  of each layer
    """

    source: str
    bytes: float
    layers: tuple[LayerActivity, ...]


@dataclass(frozen=True)
class _Data:
    """What was counted on a data set.

    source   which
    pixels   share that is not zero
    runs     of zeros, per pixel that is not zero
    neurons  share of a hidden layer that is not zero, by layer; layers behind are as the last one
    learned  share of the training samples, likewise
    errors   share of the neurons that get an error from these samples; of a convolution's channels practically all do
    """

    source: str
    pixels: float
    runs: float
    neurons: tuple[float, ...]
    learned: tuple[float, ...]
    errors: float


# Means of all epochs of the presets of these names on the model with seed 1 (that of mnist is committed under
# benchmarks/results/model-mnist-seed-1, that of cifar10-conv under model-cifar10-conv-seed-1, with the zeros that
# shifts bring); runs as `encode_samples` makes them of the training images.
_DIGITS = _Data("digits, mean of 10 epochs", 0.511, 0.296, (0.259,), (0.186, 0.204), 0.19)
_MNIST = _Data("MNIST, mean of 8 epochs", 0.192, 0.174, (0.247,), (0.131, 0.098), 0.19)
_CIFAR10 = _Data("CIFAR-10, mean of 20 epochs", 0.921, 0.005, (0.523, 0.139, 0.093), (0.985, 0.883, 0.803, 0.793), 1)
_BY_INPUTS = {64: _DIGITS, 784: _MNIST, 3072: _CIFAR10}

_UNKNOWN = _Data("no input is zero; else as MNIST", 1, 0, _MNIST.neurons, _MNIST.learned, _MNIST.errors)
"""Of data that nobody has counted, but for the inputs as bad as they can be."""


def expected(plan: NetworkPlan) -> Activity:
    """What is to be expected of the data that networks of so many inputs are for."""
    data = _BY_INPUTS.get(plan.layers[0].inputs, _UNKNOWN)
    layers = []
    for p in plan.layers:
        share = _of(data.neurons, p.index - 1) if p.index else data.pixels
        learned = _of(data.learned, p.index)
        rows = 1.0 if isinstance(p, ConvPlan) else 1 - (1 - data.errors) ** p.lanes
        met = p.places + share * (p.window_numbers - p.places)
        layers.append(LayerActivity(1 + share * p.inputs, learned, rows, met))
    return Activity(data.source, _bytes(layers[0], data), tuple(layers))


def _of(layers: tuple[float, ...], index: int) -> float:
    return layers[min(index, len(layers) - 1)]


def dense(plan: NetworkPlan) -> Activity:
    """The worst case: nothing is ever zero, and every sample is learned from by every neuron."""
    layers = tuple(LayerActivity(1 + p.inputs, 1, 1, p.window_numbers) for p in plan.layers)
    return Activity("no zeros, all learned", 2 + plan.layers[0].inputs, layers)


def counted(plan: NetworkPlan, report: Mapping[str, Any], source: str) -> Activity:
    """What a training run counted in its last epoch.

    report  that of the run

    Raises RunError if that has no counters, or those of a network of other layers.
    """
    counters = report.get("counters")
    if not counters:
        raise RunError(f"{source}: its report has no counters of a finished epoch")
    samples, found = counters["samples"], counters["layers"]
    if len(found) != len(plan.layers):
        raise RunError(f"{source}: counters of {len(found)} layers, the network has {len(plan.layers)}")
    layers = []
    for p, layer in zip(plan.layers, found, strict=True):
        met = layer["events"]
        rows = met * p.groups * layer["learned"] / samples
        if isinstance(p, ConvPlan):
            met = (layer["words_read"] - layer["words_written"]) / p.groups
            rows = p.weight_rows * layer["learned"]
        share = min(1.0, layer["words_written"] / rows) if rows else 1.0
        layers.append(LayerActivity(layer["events"] / samples, layer["learned"] / samples, share, met / samples))
    return Activity(source, _bytes(layers[0], _BY_INPUTS.get(plan.layers[0].inputs, _UNKNOWN)), tuple(layers))


def _bytes(layer: LayerActivity, data: _Data) -> float:
    """Of a packet: two, one for each pixel that is not zero, two for each run of others."""
    return 2 + (layer.events - 1) * (1 + 2 * data.runs)
