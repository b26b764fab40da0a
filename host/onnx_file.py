"""An ONNX file as the importer takes it: its input, its nodes and its constants.

Files come from anywhere: what one says of itself is checked before memory or time is spent on it, and nothing outside
its folder is read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto
from onnx.defs import onnx_opset_version

from locallearn.host.onnx_constants import FLOATS, Constants
from locallearn.quant.errors import ModelError
from locallearn.quant.spec import MAX_INPUTS

__all__ = ["OnnxFile", "OnnxInput", "OnnxNode", "read_onnx"]

_MAX_BYTES = 1 << 24
"""Of the file: four million weights, many times what an FPGA with open tools has block RAM for. Reading one
can take a hundred times its bytes."""

_MAX_NODES = 10_000

_OLDEST_OPSET = 7
"""From here on operators broadcast as NumPy does."""


@dataclass(frozen=True)
class OnnxNode:
    """One operator: its type, where it stands, and the names of its tensors; an input left out is ''."""

    kind: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: onnx.NodeProto
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.domain}{'.' * bool(self.domain)}{self.kind} ({self.name})"

    def attribute(self, name: str, default: Any) -> Any:
        """Raises ModelError where it is of another type than the default."""
        value = self.attributes.get(name, default)
        fits = type(value) is type(default)
        if not fits or (isinstance(value, list) and not all(isinstance(number, int) for number in value)):
            raise ModelError(f"{self}: {name} = {value!r:.80}: {_type_name(default)} is needed")
        return value

    def has_input(self, number: int) -> bool:
        return number < len(self.inputs) and bool(self.inputs[number])


@dataclass(frozen=True)
class OnnxInput:
    """What a model takes: the shape without the batch, and whether it is the pixels' bytes."""

    name: str
    batch: int | None
    shape: tuple[int, ...]
    is_bytes: bool


class OnnxFile:
    """The parts of a model."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.path = path
        self.producer = f"{model.producer_name} {model.producer_version}".strip() or "unknown"
        self.opset = _opset(path, model)
        self.constants = Constants(path, graph.initializer)
        if graph.sparse_initializer:
            raise ModelError(f"{path}: has sparse constants; needed are dense ones")
        if len(graph.node) > _MAX_NODES:
            raise ModelError(f"{path}: has {len(graph.node)} nodes, at most {_MAX_NODES} are read")
        self.nodes = [self._node(node) for node in graph.node]
        self.input = self._input([value for value in graph.input if value.name not in self.constants.names])
        self.outputs = [value.name for value in graph.output]
        self._check_order()

    def _node(self, node: onnx.NodeProto) -> OnnxNode:
        name = node.name or next(iter(node.output), "") or "without a name"
        domain = "" if node.domain == "ai.onnx" else node.domain
        attributes = {a.name: _attribute(a) for a in node.attribute}
        return OnnxNode(node.op_type, domain, name, tuple(node.input), tuple(node.output), node, attributes)

    def _input(self, inputs: list[onnx.ValueInfoProto]) -> OnnxInput:
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise ModelError(f"{self.path}: inputs: {names}; a network has one, the images")
        (value,) = inputs
        kind = value.type.tensor_type
        if kind.elem_type not in FLOATS | {TensorProto.UINT8}:
            raise ModelError(f"{self.path}: input {value.name} is not of floats or uint8")
        sides = list(kind.shape.dim)
        shape = tuple(side.dim_value for side in sides[1:])
        known = kind.HasField("shape") and 1 <= len(shape) <= 3 and min(shape) > 0
        if not known or math.prod(shape) > MAX_INPUTS:
            given = "x".join(side.dim_param or str(side.dim_value) for side in sides) or "unknown"
            raise ModelError(
                f"{self.path}: input {value.name} has a shape of {given}; needed is a batch of images of known size, "
                f"batch x numbers, or batch x channels x rows x columns, of at most {MAX_INPUTS} numbers each"
            )
        batch = sides[0].dim_value if sides[0].HasField("dim_value") else None
        if batch is not None and batch < 1:
            raise ModelError(f"{self.path}: input {value.name} has a batch of {batch}")
        return OnnxInput(value.name, batch, shape, kind.elem_type == TensorProto.UINT8)

    def _check_order(self) -> None:
        """Every tensor comes from one place, and before it is needed: so no graph has a cycle."""
        known = {self.input.name, *self.constants.names, ""}
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ModelError(
                        f"{self.path}: {node} needs {name!r}, which nothing before it makes: the graph has a cycle, "
                        "is not in order, or is incomplete"
                    )
            for name in filter(None, node.outputs):
                if name in known:
                    raise ModelError(f"{self.path}: {node} makes {name!r}, which is there already")
                known.add(name)
        for name in self.outputs:
            if name not in known:
                raise ModelError(f"{self.path}: nothing makes the output {name!r}")
        if not self.outputs:
            raise ModelError(f"{self.path}: has no output")


def read_onnx(path: Path) -> OnnxFile:
    """The model in a file. Raises ModelError where it is none, is damaged, or more than any chip could hold."""
    try:
        # A pipe or a device would never end.
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelError(f"{path}: {size:,} bytes, at most {_MAX_BYTES:,} are read: no chip holds such a network")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, UnicodeDecodeError):
        raise ModelError(f"{path}: not an ONNX file, or damaged") from None
    if not model.HasField("graph"):
        raise ModelError(f"{path}: not an ONNX file, or damaged: there is no graph")
    return OnnxFile(path, model)


def _opset(path: Path, model: onnx.ModelProto) -> int:
    versions = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    if "" not in versions:
        raise ModelError(f"{path}: does not say which opset its operators are of")
    newest = onnx_opset_version()
    if not _OLDEST_OPSET <= versions[""] <= newest:
        raise ModelError(
            f"{path}: operators of opset {versions['']}; {_OLDEST_OPSET} to {newest} are read, export with one of these"
        )
    return int(versions[""])


def _attribute(attribute: AttributeProto) -> Any:
    """Tensors as they are: they become arrays when they are asked for."""
    kind = attribute.type
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.FLOAT:
        return attribute.f
    if kind == AttributeProto.STRING:
        return attribute.s.decode(errors="replace")
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    if kind == AttributeProto.TENSOR:
        return attribute.t
    # Graphs and what else there is: no operator that can be imported has them.
    return None


def _type_name(value: object) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", list: "a list of whole numbers"}
    return names[type(value)]
