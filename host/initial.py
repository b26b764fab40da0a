"""What a training run can begin with in place of the seed's weights: those of another run."""

import numpy as np
from numpy.typing import NDArray

from locallearn.host.run import Run
from locallearn.quant.errors import RunError
from locallearn.quant.spec import ConvSpec, NetworkSpec

__all__ = ["initial_weights"]


def initial_weights(run: Run, spec: NetworkSpec) -> list[NDArray[np.int32]]:
    """All that `run` has learned, as `NetworkPlan.arrays` lists it, for a network of `spec` to learn on.

    Raises RunError, naming what differs, where its integers would mean something else there: another input, format or
    layer, or a fixed classifier other than the one that they were learned by. How to learn may differ.
    """
    theirs, ours = _meaning(run.spec), _meaning(spec)
    for name, value in theirs.items():
        if ours.get(name) != value:
            hint = f"; fixed classifiers are made from it, --seed {value} makes the same" * (name == "training.seed")
            raise RunError(f"{run.path}: there {name} is {value}, here {ours.get(name)}{hint}")
    return run.weights()


def _meaning(spec: NetworkSpec) -> dict[str, object]:
    """What says what the integers of a run stand for; of two networks, both have the names before the first that
    differs."""
    shape = "not given" if spec.input.shape is None else list(spec.input.shape)
    found: dict[str, object] = {
        "classes": spec.classes,
        "input.size": spec.input.size,
        "input.shape": shape,
        "input": spec.input.format,
        "activation": spec.activation,
        "weight": spec.weight,
        "the number of layers": len(spec.layers),
    }
    for number, layer in enumerate(spec.layers):
        where, own = f"layers[{number}]", layer.classifier
        convolution = isinstance(layer, ConvSpec)
        found[where] = "a convolution" if convolution else "dense"
        found[f"{where}.{'channels' if convolution else 'neurons'}"] = layer.neurons
        if isinstance(layer, ConvSpec):
            found |= {f"{where}.{name}": value for name, value in layer.window.items()}
        found[f"{where}.classifier.matrix"] = own.matrix
        found[f"{where}.classifier.bits"] = own.format.bits if own.learns else len(own.matrix_weights)
    if not all(layer.classifier.learns for layer in spec.layers):
        found["training.seed"] = spec.training.seed
    return found
