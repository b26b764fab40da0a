"""A trained network as standard ONNX operators on integers: every output is the golden model's, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

__all__ = ["PIXELS", "to_onnx"]

Ints = NDArray[np.int64]

PIXELS = "pixels"
"""The input: uint8, (batch, size), or (batch, channels, rows, columns) where the network knows a shape."""


def to_onnx(
    spec: NetworkSpec, weights: Sequence[NDArray[np.int32]], layers: bool, metadata: dict[str, str]
) -> onnx.ModelProto:
    """The network with these weights, as `NetworkPlan.arrays` lists them.

    Outputs are `predicted`, int64 (batch,), and the `scores`, (batch, classes), it follows from; with `layers` also
    `activations_N`, uint8, of every layer N (a convolution's channels first), `scores_N`, int32, and `predicted_N`.
    No sample stops early.
    """
    return _Export(spec, weights, layers).model(metadata)


@dataclass(frozen=True)
class _Tensor:
    """uint8 in the graph: (batch, size), or (batch, channels, rows, columns); what is subtracted to be its integers."""

    name: str
    zero: int
    shape: tuple[int, ...]


class _Export:
    def __init__(self, spec: NetworkSpec, weights: Sequence[NDArray[np.int32]], layers: bool) -> None:
        self._plan = plan = NetworkPlan(spec)
        self._graph = Graph()
        arrays = dict(zip(plan.arrays, weights, strict=True))
        x = self._input(spec)
        scores: list[str] = []
        for layer in plan.layers:
            name = f"layer_{layer.index}"
            x = self._layer(layer, x, arrays[name].astype(np.int64), name)
            matrix = arrays.get(f"classifier_{layer.index}")
            scores.append(self._scores(layer, x, matrix, f"classifier_{layer.index}"))
            if layers:
                self._graph.output(x.name, f"activations_{layer.index}", TensorProto.UINT8, (BATCH, *x.shape))
                self._answer(scores[-1], f"scores_{layer.index}", f"predicted_{layer.index}", TensorProto.INT32)
        if not spec.sum_scores:
            self._answer(scores[-1], "scores", "predicted", TensorProto.INT32)
            return
        below, last = plan.layers[-2:]
        unit = max(below.score_unit, last.score_unit)
        shifted = [
            self._graph.with_constant(
                "Mul",
                self._graph.cast(name, np.int64, f"{name}_wide"),
                1 << unit - layer.score_unit,
                np.int64,
                f"{name}_in_units",
            )
            for layer, name in zip((below, last), scores[-2:], strict=True)
        ]
        self._answer(self._graph.add("Add", *shifted, name="summed"), "scores", "predicted", TensorProto.INT64)

    def model(self, metadata: dict[str, str]) -> onnx.ModelProto:
        about = "Integers throughout: a network that locallearn trained, with the outputs that the chip has."
        return self._graph.model(self._plan.spec.name or "network", about, metadata)

    def _input(self, spec: NetworkSpec) -> _Tensor:
        """Low bits are dropped."""
        shape = spec.input.shape or (spec.input.size,)
        x = self._graph.input(PIXELS, TensorProto.UINT8, (BATCH, *shape))
        drop = 8 - spec.input.bits
        if drop:
            by = self._graph.constant(drop, np.uint8, "dropped_bits")
            x = self._graph.add("BitShift", x, by, name="input", direction="RIGHT")
        return _Tensor(x, 128 >> drop if spec.input.signed else 0, shape)

    def _layer(self, plan: LayerPlan, x: _Tensor, weights: Ints, name: str) -> _Tensor:
        """Accumulate, round half up, ReLU, clamp; pool."""
        graph = self._graph
        kind = np.int32 if plan.accumulator_bits <= 32 else np.int64
        largest = max(plan.input_format.max, -plan.input_format.min) * (plan.fan_in - 1)
        inputs, biases = weights[:, :-1], weights[:, -1]
        if isinstance(plan, ConvPlan):
            zero = graph.constant(x.zero, np.uint8, f"{name}_input_zero")
            source, stride = self._with_border(plan, x, name), plan.conv.stride

            def convolve(digit: str, digit_zero: str, here: str) -> str:
                return graph.add("ConvInteger", source, digit, zero, digit_zero, name=here, strides=[stride, stride])

            total = graph.exact(kernels(plan, inputs), largest, kind, name, convolve)
            shape: tuple[int, ...] = (plan.neurons, 1, 1)
        else:
            total = self._product(x, inputs.T, largest, kind, name)
            shape = (plan.neurons,)
        shift = plan.requantise_shift
        rest = biases * plan.input_format.half + (1 << shift >> 1)
        total = graph.with_constant("Add", total, rest.reshape(shape), kind, f"{name}_accumulator")
        # What is not negative can be divided by any runtime's rounding.
        total = graph.with_constant("Max", total, 0, kind, f"{name}_relu")
        total = graph.with_constant("Div", total, 1 << shift, kind, f"{name}_requantised")
        total = graph.with_constant("Min", total, plan.output_format.max, kind, f"{name}_clamped")
        y = graph.cast(total, np.uint8, f"{name}_output")
        if not isinstance(plan, ConvPlan):
            return _Tensor(y, 0, (plan.neurons,))
        y, map_shape = graph.pooled(plan, y, name)
        return _Tensor(y, 0, map_shape)

    def _with_border(self, plan: ConvPlan, x: _Tensor, name: str) -> str:
        border = plan.conv.border
        if not border:
            return x.name
        pads = self._graph.constant([0, 0, border, border] * 2, np.int64, f"{name}_border")
        value = self._graph.constant(x.zero, np.uint8, f"{name}_border_value")
        return self._graph.add("Pad", x.name, pads, value, name=f"{name}_padded")

    def _product(self, x: _Tensor, matrix: Ints, largest: int, kind: Any, name: str) -> str:
        """Of (batch, n) with (n, m)."""
        graph = self._graph
        zero = graph.constant(x.zero, np.uint8, f"{name}_zero")
        source = graph.flat(x.name, x.shape, name)

        def multiply(digit: str, digit_zero: str, here: str) -> str:
            return graph.add("MatMulInteger", source, digit, zero, digit_zero, name=here)

        return graph.exact(channels_first(matrix, x.shape), largest, kind, name, multiply)

    def _scores(self, plan: LayerPlan, y: _Tensor, learned: NDArray[np.int32] | None, name: str) -> str:
        """int32 (batch, classes), as the classifier compares them."""
        graph = self._graph
        matrix = classifier.matrix(plan, learned)
        features = self._features(plan, y, name) if isinstance(plan, ConvPlan) else y
        largest = plan.features * plan.output_format.max
        bound = largest * int(np.abs(matrix).max(initial=1))
        kind = np.int32 if bound.bit_length() < 31 else np.int64
        total = self._product(features, matrix, largest, kind, name)
        if plan.classifier.learns:
            # A division of what cannot be negative rounds down.
            lift = -(-bound >> plan.score_drop)
            total = graph.with_constant("Add", total, lift << plan.score_drop, kind, f"{name}_lifted")
            total = graph.with_constant("Div", total, 1 << plan.score_drop, kind, f"{name}_dropped")
            total = graph.with_constant("Sub", total, lift, kind, f"{name}_lowered")
        return graph.cast(total, np.int32, f"{name}_scores")

    def _features(self, plan: ConvPlan, y: _Tensor, name: str) -> _Tensor:
        """The sums of cells, shifted to averages, halves up."""
        down, across = plan.cell
        if (down, across) == (1, 1):
            return y
        graph, (rows, columns, channels) = self._graph, plan.feature_map
        cells = graph.constant([0, channels, rows, down, columns, across], np.int64, f"{name}_cells")
        total = graph.add("Reshape", graph.cast(y.name, np.int32, f"{name}_wide"), cells, name=f"{name}_in_cells")
        axes = graph.constant([3, 5], np.int64, f"{name}_within")
        total = graph.add("ReduceSum", total, axes, name=f"{name}_sums", keepdims=0)
        total = graph.with_constant("Add", total, 1 << plan.cell_shift >> 1, np.int32, f"{name}_half")
        total = graph.with_constant("Div", total, 1 << plan.cell_shift, np.int32, f"{name}_averages")
        return _Tensor(graph.cast(total, np.uint8, f"{name}_features"), 0, (channels, rows, columns))

    def _answer(self, source: str, scores: str, predicted: str, kind: int) -> None:
        """Of equal scores the first counts."""
        self._graph.output(source, scores, kind, (BATCH, self._plan.spec.classes))
        best = self._graph.add("ArgMax", source, name=f"{predicted}_class", axis=1, keepdims=0)
        self._graph.output(best, predicted, TensorProto.INT64, (BATCH,))
