"""Layers as words, and those of a description: as large as the chip's."""

import math

import pytest
import torch
from hypothesis import given

from locallearn.quant.errors import SpecError
from locallearn.quant.spec import NetworkSpec, load_spec
from locallearn.reference.hidden import described_layers, layer_of, word_of
from locallearn.reference.layers import Conv, Dense, make_layers
from tests.strategies import specs

pytestmark = pytest.mark.torch


def test_words() -> None:
    assert layer_of("128") == Dense(128)
    conv = layer_of("conv32")
    assert conv == Conv(32, kernel=5, stride=1, padding=None, pool=2, resolution=0)
    assert isinstance(conv, Conv)
    assert conv.output(9, 28) == (4, 14)
    assert [word_of(layer_of(word)) for word in ("128", "conv32")] == ["128", "conv32"]
    assert word_of(Conv(8, 3)) == "conv8 kernel 3 stride 1 padding 1 pool 2 resolution 0"
    for word in ("conv", "0", "conv8 kernel 3"):
        with pytest.raises(SpecError, match=f"{word}: no layer; 128 is a dense one, conv32 a convolution with 32"):
            layer_of(word)


@given(specs(max_convs=3))
def test_described_layers(spec: NetworkSpec) -> None:
    spec = spec.replaced({f"layers.{n}.dropout": 0.0 for n, layer in enumerate(spec.layers) if layer.dropout})
    spec = spec.replaced({"layers.*.frozen": "no"})
    hidden = described_layers(spec)
    layers = make_layers(spec.input.shape or (spec.input.size,), hidden, torch.Generator())
    for number, (own, layer) in enumerate(zip(spec.layers, layers, strict=True)):
        assert layer.weight.shape[0] == own.neurons
        assert layer.weight[0].numel() == spec.fan_in(number)
        assert math.prod(layer.outputs) == spec.outputs(number)
        assert layer.features == spec.features(number)


def test_described_windows() -> None:
    table = {"channels": 8, "kernel": 4, "stride": 2, "padding": 3, "pool": 2, "resolution": 3}
    spec = load_spec("cifar10-conv").replaced({"layers": [table, {"channels": 6, "resolution": 0}, {"neurons": 5}]})
    assert described_layers(spec) == (Conv(8, 4, 2, 3, 2, 3), Conv(6, 3, 1, 1, 1, 0), Dense(5))


def test_frozen_layers_are_refused() -> None:
    spec = load_spec("digits").replaced({"layers.0.frozen": "all"})
    message = r"^layers\[0\]\.frozen = 'all': in the references all learn, leave it out$"
    with pytest.raises(SpecError, match=message):
        described_layers(spec)


def test_dropout_is_refused() -> None:
    spec = load_spec("digits").replaced({"layers.1.dropout": 0.5})
    with pytest.raises(SpecError, match=r"^layers\[1\]\.dropout = 0\.5: the references have none, leave it out$"):
        described_layers(spec)
