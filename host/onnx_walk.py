"""What is known of an imported model's tensors while its nodes are walked over, and how operators ask for it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.onnx_file import OnnxFile, OnnxNode
from locallearn.host.onnx_flow import Flow, map_order
from locallearn.quant.errors import ModelError

__all__ = ["CHANNELS", "Answer", "Operator", "Walk", "described"]

CHANNELS = (1, 3)
"""Of images; where these come last, and others first, a model has its channels last."""


@dataclass(frozen=True)
class Answer:
    """What follows from scores: nothing that a chip computes."""

    scores: Flow


@dataclass
class Walk:
    """The tensors so far, by name.

    values  what depends on the image, what follows from scores, constants; or why a constant is not known
    pixels  the least and the largest number of the chip's input
    image   channels, rows and columns, where the model sees them
    notes   what is not quite as the model has it
    """

    file: OnnxFile
    pixels: tuple[float, float]
    values: dict[str, Flow | Answer | NDArray[Any] | ModelError] = field(default_factory=dict)
    image: tuple[int, int, int] | None = None
    notes: list[str] = field(default_factory=list)

    def value(self, name: str) -> Flow | Answer | NDArray[Any]:
        """Raises ModelError where it is not known."""
        if name not in self.values:
            self.values[name] = self.file.constants[name]
        value = self.values[name]
        if isinstance(value, ModelError):
            raise value
        return value

    def flow(self, node: OnnxNode, number: int = 0) -> Flow:
        """An input that depends on the image."""
        value = self.value(node.inputs[number]) if node.has_input(number) else None
        if not isinstance(value, Flow):
            raise ModelError(f"{node}: its input {number} does not depend on the image; needed is one that does")
        return value

    def real(self, node: OnnxNode, number: int = 0) -> Flow:
        """The same, of real numbers, not the integers that stand for them."""
        flow = self.flow(node, number)
        if flow.quantised is not None:
            raise ModelError(f"{node}: takes integers; a DequantizeLinear is needed before it")
        return flow

    def array(self, node: OnnxNode, number: int) -> NDArray[Any]:
        """An input that is a constant."""
        if not node.has_input(number):
            raise ModelError(f"{node}: has no input {number}")
        value = self.value(node.inputs[number])
        if not isinstance(value, np.ndarray):
            raise ModelError(f"{node}: its input {number} is not a constant")
        return value

    def number(self, node: OnnxNode, number: int, default: float | None = None) -> float:
        """A constant of a single number."""
        if default is not None and not node.has_input(number):
            return default
        values = self.array(node, number)
        if values.size != 1:
            raise ModelError(f"{node}: input {number} of shape {values.shape}: a single number is needed")
        return float(values.reshape(()))

    def axes(self, node: OnnxNode) -> list[int]:
        """An attribute in old opsets, the second input in new ones; none at all is possible."""
        given: list[int] = node.attribute("axes", list[int]())
        return given or (self.array(node, 1).ravel().tolist() if node.has_input(1) else [])

    def as_map(self, node: OnnxNode, flow: Flow) -> Flow:
        """A tensor of channels, rows and columns in the chip's order, its shape known."""
        if flow.shape is None and not flow.layers and flow.sums is None and flow.index.ndim == 4:
            # A flat image that the model gives its shape; of several channels the chip has another order.
            _, channels, rows, columns = flow.index.shape
            if channels == 1:
                self.image = (channels, rows, columns)
                flow = replace(flow, shape=(rows, columns, channels))
        shape = flow.shape
        if shape is None or flow.index.shape != (1, shape[2], *shape[:2]) or (flow.index != map_order(shape)).any():
            raise ModelError(
                f"{node}: a tensor of {described(flow)}; needed is an image or a convolution's output, with the batch "
                "first, then channels, rows, columns"
            )
        return flow


Operator = Callable[[Walk, OnnxNode], Flow]
"""What a node makes of its inputs. Raises ModelError, naming it, for what a chip cannot compute."""


def described(flow: Flow) -> str:
    """The shape of a tensor."""
    return "batch x " + " x ".join(map(str, flow.index.shape[1:]))
