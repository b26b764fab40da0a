"""An ONNX graph in the making: nodes one behind another, constants, and exact products of integers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from locallearn.quant.conv_plan import ConvPlan

__all__ = ["BATCH", "Graph", "channels_first", "kernels"]

BATCH = "batch"
"""The first axis of every input and output."""

_OPSET, _IR_VERSION = 13, 7
"""Old enough for every runtime of the last years; the first opset in which all of these take integers."""

_ACCUMULATOR_BITS = 31
"""Magnitude of what the integer operators add up to."""


def channels_first(matrix: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A matrix (n, m) for the flat integers of a map, which have channels last, as one for ONNX's flat (n,) of a
    `shape` (channels, rows, columns); of other inputs the same."""
    if len(shape) == 1:
        return matrix
    channels, *sides = shape
    return np.moveaxis(matrix.reshape(*sides, channels, -1), -2, 0).reshape(matrix.shape)


def kernels(plan: ConvPlan, weights: NDArray[Any]) -> NDArray[Any]:
    """A convolution's weights without biases, as ONNX has them: (channels, channels of the input, row, column)."""
    side = plan.conv.kernel
    return weights.reshape(plan.neurons, side, side, -1).transpose(0, 3, 1, 2)


class Graph:
    """Names of tensors are what its methods take and return."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._ends: dict[str, list[onnx.ValueInfoProto]] = {"inputs": [], "outputs": []}

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        return self._end("inputs", name, kind, shape)

    def output(self, source: str, name: str, kind: int, shape: Sequence[int | str]) -> None:
        """A tensor that the model gives, under this name."""
        self.add("Identity", source, name=name)
        self._end("outputs", name, kind, shape)

    def _end(self, side: str, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self._ends[side].append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def add(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        """A node with one output, both of this name."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: Any, kind: Any, name: str) -> str:
        array = np.asarray(values).astype(kind)
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def cast(self, source: str, kind: Any, name: str) -> str:
        return self.add("Cast", source, name=name, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def with_constant(self, operator: str, source: str, values: Any, kind: Any, name: str) -> str:
        """An operator of a tensor and a constant of the same type."""
        return self.add(operator, source, self.constant(values, kind, f"{name}_by"), name=name)

    def flat(self, source: str, shape: tuple[int, ...], name: str) -> str:
        """(batch, size) of (batch, *shape)."""
        return self.add("Flatten", source, name=f"{name}_flat") if len(shape) > 1 else source

    def pooled(self, plan: ConvPlan, source: str, name: str) -> tuple[str, tuple[int, ...]]:
        """The largest of each pool of a convolution, and its shape without the batch."""
        if plan.conv.pool > 1:
            sides = [plan.conv.pool] * 2
            source = self.add("MaxPool", source, name=f"{name}_pooled", kernel_shape=sides, strides=sides)
        rows, columns, channels = plan.output_map
        return source, (channels, rows, columns)

    def model(self, name: str, about: str, metadata: dict[str, str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, name, self._ends["inputs"], self._ends["outputs"], list(self._constants.values())
        )
        opset = helper.make_opsetid("", _OPSET)
        made = helper.make_model(graph, producer_name="locallearn", opset_imports=[opset], ir_version=_IR_VERSION)
        made.doc_string = about
        helper.set_model_props(made, metadata)
        return made

    def exact(
        self,
        weights: NDArray[Any],
        largest: int,
        kind: Any,
        name: str,
        product: Callable[[str, str, str], str],
    ) -> str:
        """The sum of products of an 8-bit tensor with integers of any width, exact as long as it fits in `kind`.

        The operators multiply bytes: weights are cut into digits of so many bits that no sum of a digit's products
        passes 32 bits, the lowest first. All are unsigned, with the sign in the last one's zero point: runtimes
        saturate sums of two products where only one factor has a sign (onnxruntime on x86 without VNNI).

        weights  of any shape, the sum runs over all axes but one
        largest  magnitude of what the tensor adds up to, zero point taken off: of a sum's inputs together
        product  from the names of a digit, of its zero point and of the node to the name of int32 sums
        """
        bits = min(8, _ACCUMULATOR_BITS - largest.bit_length())
        digits: list[tuple[NDArray[Any], int]] = []
        rest = weights.astype(np.int64)
        while rest.min(initial=0) < -(1 << bits - 1) or rest.max(initial=0) >= 1 << bits - 1:
            digits.append((rest & (1 << bits) - 1, 0))
            rest >>= bits
        digits.append((rest + (1 << bits - 1), 1 << bits - 1))
        total = ""
        for number, (digit, zero) in enumerate(digits):
            here = f"{name}_digit_{number}"
            part = product(
                self.constant(digit, np.uint8, f"{here}_of"), self.constant(zero, np.uint8, f"{here}_zero"), here
            )
            part = self.cast(part, kind, f"{here}_wide")
            if number:
                part = self.with_constant("Mul", part, 1 << bits * number, kind, f"{here}_shifted")
                part = self.add("Add", total, part, name=f"{here}_sum")
            total = part
        return total
