"""Plans of single layers for benches."""

from dataclasses import replace
from typing import Any

from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.spec import InputSpec, LayerSpec, NetworkSpec, TrainingSpec

__all__ = ["layer"]

_SPEC = NetworkSpec("bench", 10, InputSpec(12), (LayerSpec(1),))


def layer(
    neurons: int = 5, lanes: int = 2, inputs: int = 12, rate_shift: int = 4, max_decay: int = 2, **changes: Any
) -> LayerPlan:
    """The plan of a layer of its own; `changes` are to the fields of `NetworkSpec`."""
    shape = {"input": InputSpec(inputs), "layers": (LayerSpec(neurons, lanes),)}
    training = TrainingSpec(rate_shift, decay=(0, max_decay))
    return LayerPlan(replace(_SPEC, training=training, **(shape | changes)), 0)
