"""What nodes make of constants alone: exporters leave shapes and quantised weights to be computed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from locallearn.host.onnx_file import OnnxFile, OnnxNode
from locallearn.quant.errors import ModelError

__all__ = ["can_fold", "fold"]

_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Pow", "Min", "Max", "Clip", "Round", "Cast", "Identity"}
_QUANTISERS = {"QuantizeLinear", "DequantizeLinear"}
_LAYOUT = {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Gather"}


def can_fold(node: OnnxNode) -> bool:
    return not node.domain and (node.kind == "Constant" or node.kind in _ELEMENTWISE | _QUANTISERS | _LAYOUT)


def fold(file: OnnxFile, node: OnnxNode, inputs: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """The first output of a node that can be folded, floats as float64. Raises ModelError where there is none."""
    if node.kind == "Constant":
        return _constant(file, node)
    given = [values for values in inputs if values is not None]
    file.constants.spend(str(node), _most(node, given))
    names = [name for name in node.inputs if name]
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(node.proto, opsets={"": file.opset}).run(
                None, dict(zip(names, given, strict=True))
            )
    except Exception as error:  # of any kind: what NumPy says of arrays that do not fit
        raise ModelError(f"{node}: cannot be computed from constants of shapes {_shapes(given)}: {error}") from None
    result: NDArray[Any] = np.asarray(next(iter(made)))
    return result.astype(np.float64) if result.dtype.kind == "f" else result


def _constant(file: OnnxFile, node: OnnxNode) -> NDArray[Any]:
    for name, value in node.attributes.items():
        if name == "value" and value is not None:
            return file.constants.array(value)
        if name in ("value_int", "value_ints", "value_float", "value_floats"):
            return np.asarray(value, np.int64 if "int" in name else np.float64)
    raise ModelError(f"{node}: has no value that is an array of numbers")


def _most(node: OnnxNode, arrays: Sequence[NDArray[Any]]) -> int:
    """Numbers that it can make of these: little may become much."""
    sizes = [values.size for values in arrays]
    if node.kind == "Gather":
        return math.prod(sizes)
    if node.kind not in _ELEMENTWISE | _QUANTISERS:
        return sum(sizes)
    try:
        return math.prod(np.broadcast_shapes(*(values.shape for values in arrays)))
    except ValueError:
        # By axis; what does not fit at all is the operator's to say.
        return max(sizes, default=0)


def _shapes(arrays: Sequence[NDArray[Any]]) -> str:
    return ", ".join(str(values.shape) for values in arrays)
