"""Plans of single layers for benches."""

import math
from dataclasses import replace
from typing import Any

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec

__all__ = ["convolution", "layer"]

_SPEC = NetworkSpec("bench", 10, InputSpec(12), (LayerSpec(1),))


def layer(
    neurons: int = 5, lanes: int = 2, inputs: int = 12, rate_shift: int = 4, max_decay: int = 2, **changes: Any
) -> LayerPlan:
    """The plan of a layer of its own; `changes` are to the fields of `NetworkSpec`."""
    shape = {"input": InputSpec(inputs), "layers": (LayerSpec(neurons, lanes),)}
    training = TrainingSpec(rate_shift, decay=(0, max_decay))
    return LayerPlan(replace(_SPEC, training=training, **(shape | changes)), 0)


def convolution(shape: tuple[int, int, int], conv: ConvSpec, **changes: Any) -> ConvPlan:
    """The same of a convolution over an input of so many channels, rows and columns."""
    image = InputSpec(math.prod(shape), signed=True, fraction=7, shape=shape)
    spec = replace(_SPEC, training=TrainingSpec(4, decay=(0, 2)), **({"input": image, "layers": (conv,)} | changes))
    plan = NetworkPlan(spec).layers[0]
    assert isinstance(plan, ConvPlan)
    return plan
