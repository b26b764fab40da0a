"""ONNX models as networks for a chip: dense and convolutional layers with ReLU, one behind another.

The graph is walked over once. What depends on the image is a `Flow`, beside which scales, offsets and changes of order
are kept until they become part of a layer's weights; what depends on constants alone is computed.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.float_network import FloatNetwork
from locallearn.host.onnx_activation import ACTIVATION
from locallearn.host.onnx_affine import AFFINE
from locallearn.host.onnx_file import OnnxFile, OnnxNode
from locallearn.host.onnx_flow import Flow, check_finite, in_order, map_order
from locallearn.host.onnx_fold import can_fold, fold
from locallearn.host.onnx_layout import LAYOUT
from locallearn.host.onnx_linear import LINEAR
from locallearn.host.onnx_quantised import QUANTISED
from locallearn.host.onnx_walk import CHANNELS, Answer, Walk
from locallearn.quant.errors import ModelError

__all__ = ["Scaling", "from_onnx"]

_OPERATORS = LINEAR | AFFINE | ACTIVATION | QUANTISED | LAYOUT

_GREY = 0.25
"""With a mean pixel above, the inputs of a convolution are signed: their zero is nearer to that with which it pads."""

_ANSWERS = {("", "Softmax"), ("", "LogSoftmax"), ("", "ArgMax"), ("", "TopK"), ("com.microsoft", "QLinearSoftmax")}
"""What scores go to in the end."""

_LABELS = ("ai.onnx.ml", "ArrayFeatureExtractor")

_BEHIND_ANSWERS = {
    *_ANSWERS,
    _LABELS,
    ("ai.onnx.ml", "ZipMap"),
    *(("", kind) for kind in ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")),
    *(("", kind) for kind in ("ReduceMax", "QuantizeLinear", "DequantizeLinear")),
}
"""What may follow these: it tells the same in another way."""

_INSTEAD = {
    **dict.fromkeys(
        [
            "LeakyRelu",
            "PRelu",
            "Elu",
            "Selu",
            "Celu",
            "Gelu",
            "Sigmoid",
            "HardSigmoid",
            "Tanh",
            "Softplus",
            "Softsign",
            "Swish",
            "HardSwish",
            "Mish",
            "Erf",
        ],
        "the chip's activation is ReLU, train with that",
    ),
    **dict.fromkeys(("Concat", "Split", "Sum", "Where", "Slice"), "layers stand one behind another, without branches"),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN"),
        "BatchNormalization becomes part of the weights, train with that",
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Attention", "Einsum"), "dense layers and convolutions are possible"),
    **dict.fromkeys(
        ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"),
        "import the float model, or one that is quantised statically, with QuantizeLinear and DequantizeLinear",
    ),
    **dict.fromkeys(("ConvTranspose", "Resize", "Upsample"), "the chip's convolutions have a stride of 1 or 2"),
    **dict.fromkeys(("Loop", "If", "Scan"), "export without control flow"),
    "Pad": "give the convolution the padding, the same on all sides",
}
"""What would do, by what does not."""


@dataclass(frozen=True)
class Scaling:
    """What a model takes for a pixel: (pixel / 255 - mean) / std, one number each or one a channel.

    With a `std` of None models of bytes take the pixels themselves, others pixel / 255 - mean.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] | None = None


_PLAIN = Scaling()


def from_onnx(file: OnnxFile, scaling: Scaling = _PLAIN) -> FloatNetwork:
    """The network in float. Raises ModelError, naming the node and what would do, for what a chip cannot compute."""
    signed = float(np.mean(scaling.mean)) > _GREY and any(node.kind in ("Conv", "QLinearConv") for node in file.nodes)
    walk = Walk(file, (-1, 127 / 128) if signed else (0, 255 / 256))
    walk.values[file.input.name] = _image(walk, scaling, signed)
    for node in file.nodes:
        made = _evaluate(walk, node)
        for number, name in enumerate(filter(None, node.outputs)):
            first = number == 0 or isinstance(made, Answer)
            walk.values[name] = made if first else ModelError(f"{node}: its output {name!r} cannot be imported")
    return _network(walk, _scores(walk), signed)


def _image(walk: Walk, scaling: Scaling, signed: bool) -> Flow:
    """The input, by the chip's: pixel / 256, or if signed (pixel - 128) / 128."""
    shape = walk.file.input.shape
    channels_last = len(shape) == 3 and shape[0] not in CHANNELS and shape[2] in CHANNELS
    if len(shape) > 1:
        channels, *sides = (shape[2], *shape[:2]) if channels_last else shape if len(shape) == 3 else (1, *shape)
        walk.image = (channels, sides[0], sides[1])
        index = map_order((sides[0], sides[1], channels))
    else:
        channels, index = 1, in_order(shape[0])
    deviation = scaling.std or (1 / 255 if walk.file.input.is_bytes else 1.0,)
    for name, values in (("mean", scaling.mean), ("std", deviation)):
        if len(values) not in (1, channels):
            raise ModelError(f"{name}: {len(values)} numbers for {channels} channels; needed is one, or one each")
    mean, std = (np.broadcast_to(values, channels) for values in (scaling.mean, deviation))
    zero = 128 if signed else 0
    step, start = (256 - zero) / 255 / std, (zero / 255 - mean) / std
    spread = [np.broadcast_to(v[:, None, None] if walk.image else v, index.shape) for v in (step, start)]
    size = walk.image and (*walk.image[1:], walk.image[0])
    flow = Flow((), index, spread[0], spread[1], size)
    if channels_last:
        flow = flow.moved(lambda values: values.transpose(0, 2, 3, 1))
    return flow.moved(lambda values: values.reshape(1, *shape))


def _evaluate(walk: Walk, node: OnnxNode) -> Flow | Answer | NDArray[Any] | ModelError:
    """What the node makes. Constants that cannot be computed are an error only where they are wanted."""
    inputs = [walk.values.get(name) for name in node.inputs]
    answers = [value for value in inputs if isinstance(value, Answer)]
    flows = [value for value in inputs if isinstance(value, Flow)]
    kind = (node.domain, node.kind)
    if answers:
        if kind not in _BEHIND_ANSWERS:
            raise ModelError(f"{node}: stands behind the softmax or the best class; there a chip has come to its end")
        if kind == _LABELS:
            _note_labels(walk, node, answers[0])
        return answers[0]
    if not flows:
        return _constant(walk, node)
    if kind == ("", "Shape") and not node.attributes:
        return np.array(flows[0].index.shape)
    if kind in _ANSWERS:
        if not node.attribute("largest", 1):
            raise ModelError(f"{node}: asks for the smallest scores; a chip's answer is the largest")
        return Answer(flows[0])
    operator = _OPERATORS.get(kind)
    if operator is None:
        raise ModelError(f"{node}: cannot be imported; {_INSTEAD.get(node.kind, 'the README says what can')}")
    if len(flows) > 1:
        raise ModelError(f"{node}: joins two branches; layers stand one behind another, without branches")
    with np.errstate(all="ignore"):
        made = operator(walk, node)
    check_finite(node, made.scale, made.offset)
    walk.file.constants.spend(str(node), made.index.size)
    return made


def _note_labels(walk: Walk, node: OnnxNode, answer: Answer) -> None:
    """Of classes that are not called by their numbers."""
    try:
        labels = walk.array(node, 0).ravel()
        counted = np.array_equal(labels, np.arange(answer.scores.index.shape[-1]))
    except ModelError:  # texts
        counted = False
    if not counted:
        walk.notes.append(f"{node}: calls the classes by other names; here they are counted from 0, in the same order")


def _constant(walk: Walk, node: OnnxNode) -> NDArray[Any] | ModelError:
    if not can_fold(node):
        return ModelError(f"{node}: cannot be computed; constants must be stored, or follow from such")
    try:
        values = [walk.value(name) if name else None for name in node.inputs]
        return fold(walk.file, node, [value for value in values if isinstance(value, np.ndarray | None)])
    except ModelError as error:
        return error


def _scores(walk: Walk) -> Flow:
    """What the outputs follow from."""
    scores: list[Flow] = []
    for name in walk.file.outputs:
        value = walk.value(name)
        flow = value.scores if isinstance(value, Answer) else value
        if isinstance(flow, Flow) and all(flow is not other for other in scores):
            scores.append(flow)
    if len(scores) != 1:
        names = ", ".join(map(str, walk.file.outputs))
        raise ModelError(
            f"{walk.file.path}: {len(scores)} different things that follow from the image are its outputs ({names}); "
            "needed is one, the scores of the classes"
        )
    return scores[0]


def _network(walk: Walk, flow: Flow, signed: bool) -> FloatNetwork:
    sums = flow.sums
    if sums is not None and sums.exact:
        raise ModelError(f"{sums.node}: its sums, the scores, are clamped; a chip's are not")
    if sums is None or sums.window is not None or flow.index.ndim != 2:
        last = "a ReLU" if sums is None else str(sums.node)
        raise ModelError(f"{walk.file.path}: ends with {last}; needed is a dense layer with a sum for each class")
    if not flow.layers:
        raise ModelError(f"{sums.node}: is all that there is; at least one layer with ReLU is needed before it")
    order, scale, offset = flow.index[0], flow.scale[0], flow.offset[0]
    matrix, biases = (sums.weights[order] * scale[:, None]).T, sums.biases[order] * scale + offset
    check_finite(sums.node, matrix, biases)
    size = math.prod(walk.file.input.shape)
    return FloatNetwork(walk.image, size, signed, flow.layers, matrix, biases, sums.resolution, tuple(walk.notes))
