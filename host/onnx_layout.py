"""Order and shape in imported models: no number changes."""

import math
from collections.abc import Sequence

from locallearn.host.onnx_constants import FLOATS
from locallearn.host.onnx_file import OnnxNode
from locallearn.host.onnx_flow import Flow
from locallearn.host.onnx_walk import Operator, Walk, described
from locallearn.quant.errors import ModelError

__all__ = ["LAYOUT"]


def _same(walk: Walk, node: OnnxNode) -> Flow:
    return walk.flow(node)


def _dropout(walk: Walk, node: OnnxNode) -> Flow:
    if node.has_input(2) and walk.number(node, 2):
        raise ModelError(f"{node}: is in training mode; export the model in eval mode")
    return walk.flow(node)


def _cast(walk: Walk, node: OnnxNode) -> Flow:
    if node.attribute("to", 0) not in FLOATS:
        raise ModelError(f"{node}: makes integers of what it gets; QuantizeLinear can be imported")
    return walk.flow(node)


def _reshape(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.flow(node)
    shape = walk.array(node, 1).ravel().tolist()
    if not node.attribute("allowzero", 0):
        now = flow.index.shape
        shape = [now[axis] if side == 0 and axis < len(now) else side for axis, side in enumerate(shape)]
    # Of a fixed batch the first image stands for all.
    if shape[:1] == [walk.file.input.batch]:
        shape[0] = 1
    return _shaped(node, flow, shape)


def _flatten(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.flow(node)
    axis, rank = node.attribute("axis", 1), flow.index.ndim
    axis = rank if axis == rank else _checked(node, flow, [axis], rank)[0]
    return _shaped(node, flow, [math.prod(flow.index.shape[:axis]), -1])


def _squeeze(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.flow(node)
    axes = _checked(node, flow, walk.axes(node), flow.index.ndim)
    if not axes:
        axes = [axis for axis, side in enumerate(flow.index.shape) if side == 1 and axis]
    return _shaped(node, flow, [side for axis, side in enumerate(flow.index.shape) if axis not in axes])


def _unsqueeze(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.flow(node)
    # By how many axes there are more is known only from them.
    given = node.attribute("axes", list[int]()) or walk.array(node, 1).ravel().tolist()
    axes = _checked(node, flow, given, flow.index.ndim + len(given))
    shape = list(flow.index.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return _shaped(node, flow, shape)


def _transpose(walk: Walk, node: OnnxNode) -> Flow:
    flow = walk.flow(node)
    order = node.attribute("perm", list[int]()) or [*range(flow.index.ndim)][::-1]
    if sorted(order) != [*range(flow.index.ndim)] or order[0] != 0:
        raise ModelError(f"{node}: perm {order!r:.80} of a tensor of {described(flow)}; the batch must stay first")
    return flow.moved(lambda values: values.transpose(order))


def _checked(node: OnnxNode, flow: Flow, axes: Sequence[int], rank: int) -> list[int]:
    """Counted from 0."""
    if len(axes) > rank or any(not -rank <= axis < rank for axis in axes) or rank > 8:
        raise ModelError(f"{node}: axes {axes!r:.80} of a tensor of {described(flow)}")
    return [int(axis) % rank for axis in axes]


def _shaped(node: OnnxNode, flow: Flow, shape: Sequence[int]) -> Flow:
    try:
        made = flow.moved(lambda values: values.reshape(shape))
    except (ValueError, TypeError, OverflowError):
        raise ModelError(f"{node}: a shape of {shape!r:.80} for a tensor of {described(flow)}") from None
    if made.index.ndim < 2 or len(made.index) != 1:
        raise ModelError(
            f"{node}: a shape of {shape!r:.80} for a tensor of {described(flow)}; the batch must stay first"
        )
    return made


LAYOUT: dict[tuple[str, str], Operator] = {
    ("", "Identity"): _same,
    ("", "Dropout"): _dropout,
    ("", "Cast"): _cast,
    ("", "Reshape"): _reshape,
    ("", "Flatten"): _flatten,
    ("", "Squeeze"): _squeeze,
    ("", "Unsqueeze"): _unsqueeze,
    ("", "Transpose"): _transpose,
}
"""By domain and type."""
