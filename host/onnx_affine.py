"""Scales and offsets of imported models, which become part of weights and biases."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.onnx_file import OnnxNode
from locallearn.host.onnx_flow import Flow
from locallearn.host.onnx_walk import Operator, Walk, described
from locallearn.quant.errors import ModelError

__all__ = ["AFFINE", "with_offset"]

Floats = NDArray[np.float64]


def with_offset(node: OnnxNode, flow: Flow, values: NDArray[Any]) -> Flow:
    return replace(flow, offset=flow.offset + _spread(node, flow, values))


def _spread(node: OnnxNode, flow: Flow, values: NDArray[Any]) -> Floats:
    """A constant in the shape of the tensor."""
    try:
        fitting: Floats = np.broadcast_to(values.astype(np.float64), flow.index.shape)
    except ValueError:
        raise ModelError(f"{node}: a constant of shape {values.shape} meets a tensor of {described(flow)}") from None
    return fitting


def _either(walk: Walk, node: OnnxNode) -> tuple[Flow, NDArray[Any], bool]:
    """A flow and a constant, and whether the constant comes first."""
    first = node.has_input(0) and isinstance(walk.value(node.inputs[0]), np.ndarray)
    return walk.real(node, int(first)), walk.array(node, int(not first)), first


def _add(walk: Walk, node: OnnxNode) -> Flow:
    flow, values, _ = _either(walk, node)
    return with_offset(node, flow, values)


def _sub(walk: Walk, node: OnnxNode) -> Flow:
    flow, values, first = _either(walk, node)
    if first:
        return with_offset(node, replace(flow, scale=-flow.scale, offset=-flow.offset), values)
    return with_offset(node, flow, -values.astype(np.float64))


def _mul(walk: Walk, node: OnnxNode) -> Flow:
    flow, values, _ = _either(walk, node)
    by = _spread(node, flow, values)
    return replace(flow, scale=flow.scale * by, offset=flow.offset * by)


def _div(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.real(node)
    by = _spread(node, flow, walk.array(node, 1))
    return replace(flow, scale=flow.scale / by, offset=flow.offset / by)


def _normalise(walk: Walk, node: OnnxNode) -> Flow:
    """(x - mean) / sqrt(variance + epsilon) * gain + shift, channel by channel."""
    flow = walk.real(node)
    # With more outputs an old one normalises by the batch.
    if node.attribute("training_mode", 0) or len(node.outputs) > 1:
        raise ModelError(f"{node}: is in training mode; export the model in eval mode")
    arrays = [walk.array(node, number).astype(np.float64) for number in range(1, 5)]
    if any(values.shape != flow.index.shape[1:2] for values in arrays):
        shapes = ", ".join(str(values.shape) for values in arrays)
        raise ModelError(f"{node}: constants of shapes {shapes} meet a tensor of {described(flow)}")
    gain, shift, mean, variance = (values.reshape(-1, *[1] * (flow.index.ndim - 2)) for values in arrays)
    by = gain / np.sqrt(variance + node.attribute("epsilon", 1e-5))
    return replace(flow, scale=flow.scale * by, offset=(flow.offset - mean) * by + shift)


AFFINE: dict[tuple[str, str], Operator] = {
    ("", "Add"): _add,
    ("", "Sub"): _sub,
    ("", "Mul"): _mul,
    ("", "Div"): _div,
    ("", "BatchNormalization"): _normalise,
}
"""By domain and type."""
