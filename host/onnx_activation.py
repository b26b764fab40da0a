"""ReLU, pooling and averages of imported models."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from locallearn.host.onnx_file import OnnxNode
from locallearn.host.onnx_flow import Flow, check_no_averages, map_order
from locallearn.host.onnx_walk import Operator, Walk
from locallearn.quant.errors import ModelError
from locallearn.quant.layer_spec import MapShape

__all__ = ["ACTIVATION", "clamped", "global_average"]

Floats = NDArray[np.float64]


def clamped(walk: Walk, node: OnnxNode, flow: Flow, low: float, high: float, exact: bool = True) -> Flow:
    """The tensor with no number below `low` or above `high`.

    exact  the model says so; else its quantisation does, which saturates there
    """
    if flow.sums is not None:
        return _sums_clamped(walk, node, flow, low, high, exact)
    if flow.layers and flow.is_plain and not flow.cells and low <= 0 < high:
        return flow if math.isinf(high) else _activations_clamped(flow, high)
    return _checked(walk, node, flow, low, high, exact)


def _sums_clamped(walk: Walk, node: OnnxNode, flow: Flow, low: float, high: float, exact: bool) -> Flow:
    """At 0 they have their ReLU; elsewhere they wait for one."""
    before, flow = flow.sums, flow.settled(node)
    sums = flow.sums
    assert before is not None and sums is not None
    if before.high < sums.high == math.inf:
        walk.notes.append(f"{node}: what {sums.node}'s quantisation saturates at is left out; it differs by neuron")
    low, high = max(low, sums.low), min(high, sums.high)
    if exact and not low <= 0 < high:
        raise ModelError(f"{node}: clamps to {low:g} .. {high:g}; a chip's activations start at 0")
    exact = sums.exact or (exact and not (math.isinf(low) and math.isinf(high)))
    flow = replace(flow, sums=replace(sums, low=low, high=high, exact=exact))
    return flow.closed(node) if low == 0 else flow


def _activations_clamped(flow: Flow, high: float) -> Flow:
    last = flow.layers[-1]
    limit = high if last.limit is None else min(high, last.limit)
    return replace(flow, layers=(*flow.layers[:-1], replace(last, limit=limit)))


def _checked(walk: Walk, node: OnnxNode, flow: Flow, low: float, high: float, exact: bool) -> Flow:
    """Of what is neither sums nor activations nothing can be clamped; mostly there is nothing to clamp."""
    least, largest = flow.reach(0, flow.layers[-1].limit or math.inf) if flow.layers else flow.reach(*walk.pixels)
    if low <= least and largest <= high:
        return flow
    where = f"{node}: clamps to {low:.4g} .. {high:.4g} what is from {least:.4g} to {largest:.4g}"
    if exact:
        raise ModelError(f"{where}, with no linear map before it; a chip has no ReLU there")
    # Less than a hundredth is the rounding of the ends.
    if low - least > 0.01 * (high - low) or largest - high > 0.01 * (high - low):
        walk.notes.append(f"{where}; left out")
    return flow


def _relu(walk: Walk, node: OnnxNode) -> Flow:
    return clamped(walk, node, walk.real(node), 0, math.inf)


def _clip(walk: Walk, node: OnnxNode) -> Flow:
    """Integers too: with fewer bits than their type has."""
    flow = walk.flow(node)
    low = walk.number(node, 1, node.attribute("min", -math.inf))
    high = walk.number(node, 2, node.attribute("max", math.inf))
    if flow.quantised is not None:
        scale, zero = flow.quantised
        low, high = (low - zero) * scale, (high - zero) * scale
    return clamped(walk, node, flow, low, high)


def _max_pool(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.as_map(node, walk.flow(node))
    check_no_averages(node, flow)
    kernel, strides = (node.attribute(name, list[int]()) for name in ("kernel_shape", "strides"))
    others = any(node.attribute("pads", [0])) or node.attribute("ceil_mode", 0) or _auto_pads(node)
    if kernel != [2, 2] or strides != [2, 2] or others or set(node.attribute("dilations", [1])) != {1}:
        raise ModelError(
            f"{node}: kernel {kernel}, strides {strides}; needed is 2 x 2 with strides of 2, without padding, "
            "dilation, ceil_mode"
        )
    scale, offset = flow.by_neuron(node)
    if (scale <= 0).any():
        raise ModelError(f"{node}: a scale before it is not above 0; normalise behind the pooling")
    source = flow.sums or (flow.layers[-1] if flow.layers else None)
    if source is None or source.window is None or source.window.pool > 1:
        raise ModelError(f"{node}: a chip pools once behind a convolution, and nowhere else")
    window = replace(source.window, pool=2)
    if flow.sums is not None:
        flow = replace(flow, sums=replace(flow.sums, window=window))
    else:
        flow = replace(flow, layers=(*flow.layers[:-1], replace(flow.layers[-1], window=window)))
    assert flow.shape is not None
    rows, columns, channels = flow.shape
    return _by_channel(node, flow, (rows // 2, columns // 2, channels), scale, offset)


def _auto_pads(node: OnnxNode) -> bool:
    return bool(node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"))


def global_average(node: OnnxNode, flow: Flow) -> Flow:
    """Of a map."""
    assert flow.shape is not None
    return _averaged(node, flow, *flow.shape[:2])


def _average_pool(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.as_map(node, walk.real(node))
    kernel, strides = (node.attribute(name, list[int]()) for name in ("kernel_shape", "strides"))
    if len(kernel) != 2 or min(kernel) < 1 or kernel != strides or any(node.attribute("pads", [0])) or _auto_pads(node):
        raise ModelError(f"{node}: kernel {kernel}, strides {strides}; needed are the same, without padding")
    return _averaged(node, flow, kernel[0], kernel[1])


def _global_average_pool(walk: Walk, node: OnnxNode) -> Flow:
    return global_average(node, walk.as_map(node, walk.real(node)))


def _reduce_mean(walk: Walk, node: OnnxNode) -> Flow:
    """Over rows and columns, channels first or last."""
    flow = walk.real(node)
    axes = walk.axes(node)
    over = sorted(axis % 4 for axis in axes)
    if flow.index.ndim != 4 or over not in ([1, 2], [2, 3]):
        raise ModelError(f"{node}: the mean over axes {axes!r:.80}; needed is one over rows and columns")
    last = over == [1, 2]
    flow = walk.as_map(node, flow.moved(lambda values: values.transpose(0, 3, 1, 2)) if last else flow)
    flow = global_average(node, flow)
    if not node.attribute("keepdims", 1):
        return flow.moved(lambda values: values.reshape(1, -1))
    return flow.moved(lambda values: values.transpose(0, 2, 3, 1)) if last else flow


def _averaged(node: OnnxNode, flow: Flow, down: int, across: int) -> Flow:
    """Over so many pixels, of which there are as many rows as columns."""
    assert flow.shape is not None
    rows, columns, channels = flow.shape
    if flow.sums is not None or not flow.layers or flow.cells:
        raise ModelError(f"{node}: does not follow a ReLU; a chip's averages are of activations")
    if rows % down or columns % across or rows // down != columns // across:
        raise ModelError(
            f"{node}: averages over {down}x{across} of {rows}x{columns} pixels; needed are as many cells down as across"
        )
    scale, offset = flow.by_neuron(node)
    side = rows // down
    return replace(_by_channel(node, flow, (side, side, channels), scale, offset), cells=side)


def _by_channel(node: OnnxNode, flow: Flow, shape: MapShape, scale: Floats, offset: Floats) -> Flow:
    """A map of another shape with these scales and offsets of its channels."""
    if not math.prod(shape):
        raise ModelError(f"{node}: nothing is left of {flow.shape} pixels and channels")
    index = map_order(shape)
    spread = [np.broadcast_to(values[:, None, None], index.shape) for values in (scale, offset)]
    return replace(flow, index=index, scale=spread[0], offset=spread[1], shape=shape)


ACTIVATION: dict[tuple[str, str], Operator] = {
    ("", "Relu"): _relu,
    ("", "Clip"): _clip,
    ("", "MaxPool"): _max_pool,
    ("", "AveragePool"): _average_pool,
    ("", "GlobalAveragePool"): _global_average_pool,
    ("", "ReduceMean"): _reduce_mean,
}
"""By domain and type."""
