"""Quantised forms of imported models: QuantizeLinear, DequantizeLinear and the QLinear operators.

The chip has steps of its own. Of a model's only the ends count: an activation's largest, and 0 as the smallest, in
which exporters hide the ReLU.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from locallearn.host.onnx_activation import clamped, global_average
from locallearn.host.onnx_affine import with_offset
from locallearn.host.onnx_file import OnnxNode
from locallearn.host.onnx_flow import Flow
from locallearn.host.onnx_linear import convolution, dense
from locallearn.host.onnx_walk import Operator, Walk
from locallearn.quant.errors import ModelError

__all__ = ["QUANTISED"]

Floats = NDArray[np.float64]


def _quantise(walk: Walk, node: OnnxNode) -> Flow:
    return _quantised(walk, node, walk.real(node), 1)


def _dequantise(walk: Walk, node: OnnxNode) -> Flow:
    return _dequantised(walk, node, walk.flow(node), 1)


def _quantised(walk: Walk, node: OnnxNode, flow: Flow, number: int) -> Flow:
    """By the scale that is the node's input of this number, and the zero point behind it."""
    scale = walk.number(node, number)
    zero = walk.array(node, number + 1) if node.has_input(number + 1) else _no_zero_point(node)
    if zero.size != 1 or zero.dtype.kind not in "iu" or not 0 < scale < math.inf:
        raise ModelError(
            f"{node}: a scale of {scale:g}, a zero point of shape {zero.shape} and {zero.dtype}; needed are a number "
            "above 0 and an integer"
        )
    point, ends = int(zero.reshape(())), np.iinfo(zero.dtype)
    flow = clamped(walk, node, flow, (int(ends.min) - point) * scale, (int(ends.max) - point) * scale, exact=False)
    return replace(flow, quantised=(scale, point))


def _no_zero_point(node: OnnxNode) -> NDArray[Any]:
    """0, of the type that the node names."""
    kind = node.attribute("output_dtype", 0) or TensorProto.UINT8
    if kind not in (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16):
        raise ModelError(f"{node}: output_dtype = {kind}; needed are integers of 8 or 16 bits")
    return np.zeros((), helper.tensor_dtype_to_np_dtype(kind))


def _dequantised(walk: Walk, node: OnnxNode, flow: Flow, number: int) -> Flow:
    """The same back."""
    scale, zero = given = (walk.number(node, number), walk.number(node, number + 1, 0))
    is_image = not flow.layers and flow.sums is None
    if is_image and flow.quantised is None and walk.file.input.is_bytes:
        return replace(flow, scale=flow.scale * scale, offset=(flow.offset - zero) * scale)
    if flow.quantised != given:
        raise ModelError(f"{node}: its scale and zero point {given} are not those of its input, {flow.quantised}")
    return replace(flow, quantised=None)


def _weights(walk: Walk, node: OnnxNode, number: int, axis: int) -> Floats:
    """The input of this number by its scale and zero point behind it, of all numbers or of each along an axis."""
    values, *steps = [walk.array(node, number + i).astype(np.float64) for i in range(3)]
    if any(step.size != 1 and step.shape != values.shape[axis : axis + 1] for step in steps):
        shapes = ", ".join(str(step.shape) for step in steps)
        raise ModelError(f"{node}: scale and zero point of shapes {shapes} for numbers of {values.shape}")
    ahead = [1] * (values.ndim - axis - 1)
    scale, zero = [step.reshape(-1, *ahead) if step.size > 1 else step.reshape(()) for step in steps]
    weights: Floats = (values - zero) * scale
    return weights


def _biases(walk: Walk, node: OnnxNode, number: int) -> Floats | None:
    """Integers in units of the input's scale, which is input 1, times the weights', which is input 4."""
    if not node.has_input(number):
        return None
    biases, by = walk.array(node, number).astype(np.float64), walk.array(node, 4).astype(np.float64)
    if biases.ndim != 1 or by.size not in (1, biases.size):
        raise ModelError(f"{node}: scales of shape {by.shape} for biases of {biases.shape}")
    units: Floats = biases * walk.number(node, 1) * by.ravel()
    return units


def _qlinear_conv(walk: Walk, node: OnnxNode) -> Flow:
    flow = _dequantised(walk, node, walk.flow(node), 1)
    flow = convolution(walk, node, flow, _weights(walk, node, 3, 0), _biases(walk, node, 8))
    return _quantised(walk, node, flow, 6)


def _qlinear_matmul(walk: Walk, node: OnnxNode) -> Flow:
    flow = _dequantised(walk, node, walk.flow(node), 1)
    return _quantised(walk, node, dense(walk, node, flow, _weights(walk, node, 3, 1), None), 6)


def _qgemm(walk: Walk, node: OnnxNode) -> Flow:
    if node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1:
        raise ModelError(f"{node}: transA or alpha; the batch must come first, and alpha be 1")
    flow = _dequantised(walk, node, walk.flow(node), 1)
    transposed = node.attribute("transB", 0)
    matrix = _weights(walk, node, 3, 0 if transposed else 1)
    flow = dense(walk, node, flow, matrix.T if transposed else matrix, _biases(walk, node, 6))
    return _quantised(walk, node, flow, 7) if node.has_input(7) else flow


def _qlinear_add(walk: Walk, node: OnnxNode) -> Flow:
    """Of a flow and a constant, in any order."""
    first = node.has_input(0) and isinstance(walk.value(node.inputs[0]), np.ndarray)
    at, other = (3, 0) if first else (0, 3)
    flow = _dequantised(walk, node, walk.flow(node, at), at + 1)
    return _quantised(walk, node, with_offset(node, flow, _weights(walk, node, other, 0)), 6)


def _qlinear_global_average_pool(walk: Walk, node: OnnxNode) -> Flow:
    flow = _dequantised(walk, node, walk.flow(node), 1)
    if node.attribute("channels_last", 0):
        raise ModelError(f"{node}: has the channels last; needed are channels first")
    return _quantised(walk, node, global_average(node, walk.as_map(node, flow)), 3)


_MICROSOFT = "com.microsoft"

QUANTISED: dict[tuple[str, str], Operator] = {
    ("", "QuantizeLinear"): _quantise,
    ("", "DequantizeLinear"): _dequantise,
    (_MICROSOFT, "QuantizeLinear"): _quantise,
    (_MICROSOFT, "DequantizeLinear"): _dequantise,
    ("", "QLinearConv"): _qlinear_conv,
    ("", "QLinearMatMul"): _qlinear_matmul,
    (_MICROSOFT, "QGemm"): _qgemm,
    (_MICROSOFT, "QLinearAdd"): _qlinear_add,
    (_MICROSOFT, "QLinearGlobalAveragePool"): _qlinear_global_average_pool,
}
"""By domain and type; com.microsoft's are what onnxruntime's quantiser makes."""
