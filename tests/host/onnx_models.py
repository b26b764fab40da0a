"""ONNX models in the making, for tests of the importer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["dense_model", "made", "node", "random_weights"]

BATCH = "batch"


def node(kind: str, inputs: str, outputs: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node, called after its first output; names of tensors stand apart by spaces, '-' is an input left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), outputs.split()[0], domain=domain, **attributes)


def made(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, ArrayLike],
    shape: Sequence[int | str] = (BATCH, 12),
    output: str = "y",
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model with the input `x`; constants of float64 become float32."""
    tensors = []
    for name, values in constants.items():
        array = np.asarray(values)
        tensors.append(numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name))
    x = helper.make_tensor_value_info("x", kind, list(shape))
    # Their types follow.
    ends = [onnx.ValueInfoProto(name=name) for name in output.split()]
    graph = helper.make_graph(list(nodes), "graph", [x], ends, tensors)
    opsets = [
        helper.make_opsetid("", opset),
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("ai.onnx.ml", 3),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def random_weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Normal numbers by name, of float32's precision."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32).astype(np.float64) for name, shape in shapes.items()}


def dense_model() -> onnx.ModelProto:
    """12 inputs, a hidden layer of 5, 3 classes."""
    nodes = [node("Gemm", "x w0 b0", "h"), node("Relu", "h", "a"), node("Gemm", "a w1 b1", "y")]
    return made(nodes, random_weights(w0=(12, 5), b0=(5,), w1=(5, 3), b1=(3,)))
