"""Hidden layers as words and as descriptions of networks have them."""

import re

from locallearn.quant.errors import SpecError
from locallearn.quant.spec import ConvSpec, NetworkSpec
from locallearn.reference.layers import Conv, Dense

__all__ = ["described_layers", "layer_of", "word_of"]


def layer_of(word: str) -> Dense | Conv:
    """128 is a dense layer, conv32 a convolution with 32 channels. Raises SpecError for other words."""
    found = re.fullmatch(r"(conv)?([1-9]\d*)", word)
    if not found:
        raise SpecError(f"{word}: no layer; 128 is a dense one, conv32 a convolution with 32 channels")
    return Conv(int(found[2])) if found[1] else Dense(int(found[2]))


def word_of(layer: Dense | Conv) -> str:
    """That word; of a convolution that has none, all that it is."""
    if isinstance(layer, Dense):
        return str(layer.neurons)
    word = f"conv{layer.channels}"
    if layer == Conv(layer.channels):
        return word
    return (
        f"{word} kernel {layer.kernel} stride {layer.stride} padding {layer.border} pool {layer.pool} "
        f"resolution {layer.resolution}"
    )


def described_layers(spec: NetworkSpec) -> tuple[Dense | Conv, ...]:
    """The same layers as the chip's in float: formats, rates and classifiers are not taken over.

    Raises SpecError where a layer has dropout or is frozen, which no reference has.
    """
    layers: list[Dense | Conv] = []
    for number, layer in enumerate(spec.layers):
        if layer.dropout:
            raise SpecError(f"layers[{number}].dropout = {layer.dropout}: the references have none, leave it out")
        if layer.frozen != "no":
            raise SpecError(f"layers[{number}].frozen = {layer.frozen!r}: in the references all learn, leave it out")
        if isinstance(layer, ConvSpec):
            conv = Conv(layer.channels, layer.kernel, layer.stride, layer.border, layer.pool, layer.resolution)
            layers.append(conv)
        else:
            layers.append(Dense(layer.neurons))
    return tuple(layers)
