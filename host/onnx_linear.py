"""Linear maps of imported models: dense layers and convolutions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.onnx_file import OnnxNode
from locallearn.host.onnx_flow import Flow, Sums, check_finite, check_no_averages, in_order, map_order
from locallearn.host.onnx_walk import Operator, Walk, described
from locallearn.quant.errors import ModelError, SpecError
from locallearn.quant.layer_spec import ConvSpec, MapShape
from locallearn.quant.spec import MAX_INPUTS

__all__ = ["LINEAR", "convolution", "dense"]

Floats = NDArray[np.float64]


def dense(walk: Walk, node: OnnxNode, flow: Flow, matrix: NDArray[Any], biases: NDArray[Any] | None) -> Flow:
    """Of (batch, n) with (n, m)."""
    matrix = matrix.astype(np.float64)
    if matrix.ndim != 2 or flow.index.ndim != 2 or flow.index.shape[1] != len(matrix) or not matrix.size:
        raise ModelError(
            f"{node}: weights of shape {matrix.shape} meet a tensor of {described(flow)}; needed is (n, m)"
        )
    outputs = matrix.shape[1]
    weights = np.zeros((outputs, flow.index.size))
    weights[:, flow.index[0]] = (matrix * flow.scale[0][:, None]).T
    offsets = flow.offset[0] @ matrix + _biases(node, biases, outputs)
    return _with_sums(flow, Sums(node, weights, offsets, resolution=flow.cells), in_order(outputs), None)


def convolution(walk: Walk, node: OnnxNode, flow: Flow, kernels: NDArray[Any], biases: NDArray[Any] | None) -> Flow:
    """With kernels (channels, channels of the input, rows, columns)."""
    flow = walk.as_map(node, flow)
    check_no_averages(node, flow)
    shape = flow.shape
    assert shape is not None
    group = node.attribute("group", 1)
    if kernels.ndim != 4 or not kernels.size or kernels.shape[1] != shape[2] or group != 1:
        raise ModelError(
            f"{node}: kernels of shape {kernels.shape} in {group} groups meet {shape[2]} channels; needed are kernels "
            f"(channels, {shape[2]}, rows, columns) in 1 group"
        )
    window = _window(node, kernels.shape, shape)
    scale, offset = flow.by_neuron(node)
    if offset.any() and window.border:
        walk.notes.append(
            f"{node}: pads with zeros behind an offset of up to {abs(offset).max():.3g}; the chip's border is another, "
            "which only the pixels at the edges see"
        )
    # In the order row, column, channel.
    ordered = kernels.astype(np.float64).transpose(0, 2, 3, 1)
    weights = (ordered * scale).reshape(len(kernels), -1)
    offsets = (ordered * offset).sum(axis=(1, 2, 3)) + _biases(node, biases, len(kernels))
    output = window.output(shape)
    return _with_sums(flow, Sums(node, weights, offsets, window), map_order(output), output)


def _biases(node: OnnxNode, biases: NDArray[Any] | None, outputs: int) -> Floats:
    if biases is None:
        return np.zeros(outputs)
    ahead = biases.shape[:-1]
    if math.prod(ahead) != 1 or biases.size not in (1, outputs):
        raise ModelError(f"{node}: biases of shape {biases.shape} for {outputs} outputs; one each is needed")
    spread: Floats = np.broadcast_to(biases.astype(np.float64).ravel(), outputs)
    return spread


def _with_sums(flow: Flow, sums: Sums, index: NDArray[np.int64], shape: MapShape | None) -> Flow:
    if flow.sums is not None:
        raise ModelError(f"{sums.node}: no ReLU between it and {flow.sums.node}; a chip has one behind every layer")
    check_finite(sums.node, sums.weights, sums.biases)
    return Flow(flow.layers, index, np.ones(index.shape), np.zeros(index.shape), shape, sums)


def _window(node: OnnxNode, kernels: Sequence[int], shape: MapShape) -> ConvSpec:
    """Raises ModelError for what no chip's window does."""
    channels, _, *sides = kernels
    strides, dilations = (node.attribute(name, [1, 1]) for name in ("strides", "dilations"))
    pads = _pads(node, sides, strides, shape)
    if len(set(sides)) != 1 or len(set(strides)) != 1 or len(set(pads)) != 1 or set(dilations) != {1}:
        raise ModelError(
            f"{node}: kernel {sides}, strides {strides}, pads {pads}, dilations {dilations}; needed is a square "
            "kernel, the same stride and padding on all sides, no dilation"
        )
    try:
        window = ConvSpec(channels, sides[0], strides[0], pads[0], resolution=0)
        window.check("convolution")
        window.check_map("convolution", shape)
    except SpecError as error:
        raise ModelError(f"{node}: {error}") from None
    size = math.prod(window.output(shape))
    if size > MAX_INPUTS:
        raise ModelError(f"{node}: makes {size} numbers of an image, at most {MAX_INPUTS} are possible")
    return window


def _pads(node: OnnxNode, sides: Sequence[int], strides: Sequence[int], shape: MapShape) -> list[int]:
    """At the start of each axis, then at the end."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        pads: list[int] = node.attribute("pads", [0, 0, 0, 0])
        return pads
    if len(strides) != 2 or min(strides) < 1:
        raise ModelError(f"{node}: strides {strides}; needed are two of 1 or 2")
    missing = [
        max(0, (-(-side // stride) - 1) * stride + kernel - side)
        for side, stride, kernel in zip(shape[:2], strides, sides, strict=True)
    ]
    few, many = [number // 2 for number in missing], [-(-number // 2) for number in missing]
    return [*few, *many] if mode == "SAME_UPPER" else [*many, *few]


def _gemm(walk: Walk, node: OnnxNode) -> Flow:
    if node.attribute("transA", 0):
        raise ModelError(f"{node}: transA: the batch must come first")
    matrix = walk.array(node, 1) * node.attribute("alpha", 1.0)
    biases = walk.array(node, 2) * node.attribute("beta", 1.0) if node.has_input(2) else None
    return dense(walk, node, walk.real(node), matrix.T if node.attribute("transB", 0) else matrix, biases)


def _matmul(walk: Walk, node: OnnxNode) -> Flow:
    return dense(walk, node, walk.real(node), walk.array(node, 1), None)


def _conv(walk: Walk, node: OnnxNode) -> Flow:
    biases = walk.array(node, 2) if node.has_input(2) else None
    return convolution(walk, node, walk.real(node), walk.array(node, 1), biases)


LINEAR: dict[tuple[str, str], Operator] = {("", "Gemm"): _gemm, ("", "MatMul"): _matmul, ("", "Conv"): _conv}
"""By domain and type."""
