"""A trained network in float, for those who go on with it elsewhere: what the integers stand for, without rounding."""

from collections.abc import Sequence
from math import log

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from locallearn.host.onnx_graph import BATCH, Graph, channels_first, kernels
from locallearn.quant import classifier
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["IMAGES", "to_float_onnx"]

IMAGES = "images"
"""The input: float32 in the shape of the integer model's, the numbers that the input's integers stand for."""

_OCTAVES = log(2) / 4
"""A unit of the chip's softmax: it goes by quarter octaves."""


def to_float_onnx(
    spec: NetworkSpec, weights: Sequence[NDArray[np.int32]], layers: bool, metadata: dict[str, str]
) -> onnx.ModelProto:
    """The network with these weights, as `NetworkPlan.arrays` lists them: Gemm, Conv, Clip, MaxPool, AveragePool.

    The output is `logits`, float32 (batch, classes): the chip's softmax is about theirs. With `layers` also `logits_N`
    of every layer N. Nothing is rounded: last digits, and with them now and then an answer, are others than the chip's.
    """
    plan, graph = NetworkPlan(spec), Graph()
    arrays = dict(zip(plan.arrays, weights, strict=True))
    shape: tuple[int, ...] = spec.input.shape or (spec.input.size,)
    x = graph.input(IMAGES, TensorProto.FLOAT, (BATCH, *shape))
    logits: list[str] = []
    for layer in plan.layers:
        x, shape = _layer(graph, layer, x, shape, arrays[f"layer_{layer.index}"])
        logits.append(_logits(graph, layer, x, shape, arrays.get(f"classifier_{layer.index}")))
        if layers:
            graph.output(logits[-1], f"logits_{layer.index}", TensorProto.FLOAT, (BATCH, spec.classes))
    last = graph.add("Add", *logits[-2:], name="summed") if spec.sum_scores else logits[-1]
    graph.output(last, "logits", TensorProto.FLOAT, (BATCH, spec.classes))
    about = "In float: the numbers that the integers of a network stand for that locallearn trained."
    return graph.model(spec.name or "network", about, metadata)


def _layer(
    graph: Graph, plan: LayerPlan, x: str, shape: tuple[int, ...], weights: NDArray[np.int32]
) -> tuple[str, tuple[int, ...]]:
    """Its activations, and their shape without the batch."""
    name = f"layer_{plan.index}"
    numbers = weights / 2.0**plan.weight_format.fraction
    # The constant input of a bias is 0.5.
    biases = graph.constant(numbers[:, -1] / 2, np.float32, f"{name}_biases")
    if isinstance(plan, ConvPlan):
        kernel = graph.constant(kernels(plan, numbers[:, :-1]), np.float32, f"{name}_weights")
        strides, pads = [plan.conv.stride] * 2, [plan.conv.border] * 4
        y = graph.add("Conv", x, kernel, biases, name=f"{name}_sums", strides=strides, pads=pads)
    else:
        matrix = graph.constant(channels_first(numbers[:, :-1].T, shape).T, np.float32, f"{name}_weights")
        y = graph.add("Gemm", graph.flat(x, shape, name), matrix, biases, name=f"{name}_sums", transB=1)
    form = plan.output_format
    ends = [graph.constant(end / 2.0**form.fraction, np.float32, f"{name}_{end}") for end in (form.min, form.max)]
    y = graph.add("Clip", y, *ends, name=f"{name}_output")
    return graph.pooled(plan, y, name) if isinstance(plan, ConvPlan) else (y, (plan.neurons,))


def _logits(graph: Graph, plan: LayerPlan, y: str, shape: tuple[int, ...], learned: NDArray[np.int32] | None) -> str:
    name = f"classifier_{plan.index}"
    drop = plan.score_drop if plan.classifier.learns else 0
    unit = 2.0 ** (plan.output_format.fraction - plan.score_unit - drop)
    matrix = classifier.matrix(plan, learned) * unit * _OCTAVES
    if isinstance(plan, ConvPlan) and plan.cell != (1, 1):
        rows, columns, channels = plan.feature_map
        sides = list(plan.cell)
        y = graph.add("AveragePool", y, name=f"{name}_features", kernel_shape=sides, strides=sides)
        # The chip divides a cell's sum by a power of two.
        matrix *= plan.cell[0] * plan.cell[1] / 2.0**plan.cell_shift
        shape = (channels, rows, columns)
    weights = graph.constant(channels_first(matrix, shape), np.float32, f"{name}_weights")
    return graph.add("Gemm", graph.flat(y, shape, name), weights, name=f"{name}_logits")
