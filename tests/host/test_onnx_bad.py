"""Models that are damaged, hostile or more than a chip can be: each a clear error, at no cost and without a look at
other folders."""

import os
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from locallearn.host.cli import main
from locallearn.host.onnx_file import read_onnx
from locallearn.host.onnx_import import Scaling, from_onnx
from locallearn.quant.errors import ModelError
from tests.host.onnx_models import dense_model, made, node, random_weights

Model = onnx.ModelProto
Change = Callable[[Model], object]

CHANGED: dict[str, tuple[Change, str]] = {
    # The file as a whole.
    "no graph": (lambda m: m.ClearField("graph"), "there is no graph"),
    "no opset": (lambda m: m.ClearField("opset_import"), "does not say which opset"),
    "old opset": (lambda m: _opset(m, 6), "operators of opset 6; 7 to"),
    "opset of the future": (lambda m: _opset(m, 999), "operators of opset 999; 7 to"),
    "negative opset": (lambda m: _opset(m, -1), "operators of opset -1"),
    "sparse constants": (lambda m: m.graph.sparse_initializer.add(), "has sparse constants"),
    "too many nodes": (
        lambda m: m.graph.node.extend([node("Relu", "h", "r")] * 10_001),
        "at most 10000",
    ),
    "no output": (lambda m: m.graph.ClearField("output"), "has no output"),
    "an output that nothing makes": (lambda m: _set(m.graph.output[0], name="z"), "nothing makes the output 'z'"),
    # The input.
    "no input": (lambda m: m.graph.ClearField("input"), "inputs: none; a network has one"),
    "two inputs": (lambda m: m.graph.input.append(_value("z")), "inputs: x, z; a network has one"),
    "integers": (lambda m: _retype(m, TensorProto.INT64), "input x is not of floats or uint8"),
    "input of no shape": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "a shape of unknown"),
    "input of unknown size": (lambda m: _reshape(m, ["batch", "n"]), "a shape of batchxn"),
    "input of negative size": (lambda m: _reshape(m, ["batch", -12]), "a shape of batchx-12"),
    "input of five axes": (lambda m: _reshape(m, [1, 1, 1, 1, 12]), "a shape of 1x1x1x1x12"),
    "huge input": (lambda m: _reshape(m, ["batch", 1 << 40]), "needed is a batch of images of known size"),
    "no batch": (lambda m: _reshape(m, [12]), "a shape of 12"),
    "batch of none": (lambda m: _reshape(m, [0, 12]), "has a batch of 0"),
    # The graph.
    "cycle": (lambda m: _rewire(m, 0, 0, "a"), "needs 'a', which nothing before it makes: the graph has a cycle"),
    "not in order": (lambda m: _swap(m), "is not in order"),
    "itself": (lambda m: _rewire(m, 1, 0, "a"), r"Relu \(a\) needs 'a'"),
    "made twice": (lambda m: _set(m.graph.node[1], output=["h"]), "makes 'h', which is there already"),
    "a constant made": (lambda m: _set(m.graph.node[1], output=["w0"]), "makes 'w0', which is there already"),
    "missing tensor": (lambda m: _rewire(m, 2, 1, "w9"), "needs 'w9', which nothing before it makes"),
    "input left out": (lambda m: _set(m.graph.node[0], input=["x"]), r"Gemm \(h\): has no input 1"),
    # Constants.
    "not a number": (lambda m: _poke(m, "w0", np.nan), r"constant 'w0': nan at \[1, 2\]; needed are finite numbers"),
    "infinite": (lambda m: _poke(m, "w1", np.inf), r"constant 'w1': inf at \[1, 2\]"),
    "truncated constant": (lambda m: _cut(m, "w0"), "'w0': has 236 bytes, its shape needs 240"),
    "too long a constant": (lambda m: _lengthen(m, "w0"), "'w0': has 244 bytes, its shape needs 240"),
    "constant of another shape": (lambda m: _dims(m, "b0", [6]), "'b0': has 20 bytes, its shape needs 24"),
    "huge shape": (lambda m: _dims(m, "w0", [1 << 31, 1 << 31]), "no chip holds so many"),
    "negative shape": (lambda m: _dims(m, "w0", [-12, -5]), r"a shape of \(-12, -5\) is not possible"),
    "many axes": (lambda m: _dims(m, "w0", [1] * 30), "is not possible"),
    "shape of nothing": (lambda m: _empty(m, "w0"), "weights of shape"),
    "numbers in the wrong field": (lambda m: _field(m, "w0"), "'w0': has 0 numbers, its shape needs 60"),
    "text": (lambda m: _type(m, "w0", TensorProto.STRING), "is of type STRING"),
    "complex numbers": (lambda m: _type(m, "w0", TensorProto.COMPLEX64), "is of type COMPLEX64"),
    "type that is none": (lambda m: _type(m, "w0", 99), "is of type 99"),
    "matrix of another size": (
        lambda m: _replace(m, "w0", np.ones((11, 5))),
        r"weights of shape \(11, 5\) meet a tensor",
    ),
    "matrix of one axis": (lambda m: _replace(m, "w0", np.ones(12)), r"weights of shape \(12,\)"),
    "biases of another size": (lambda m: _replace(m, "b0", np.ones(4)), r"biases of shape \(4,\) for 5 outputs"),
    # Files beside it.
    "another folder": (lambda m: _outside(m, "../w.bin"), "only files in the model's own folder are read"),
    "absolute path": (lambda m: _outside(m, "/etc/passwd"), "only files in the model's own folder are read"),
    "no file beside it": (lambda m: _outside(m, "gone.bin"), "gone.bin is not in the model's folder"),
    "no name": (lambda m: _outside(m, ""), "is in ''; only files"),
    "the folder itself": (lambda m: _outside(m, "."), "only files in the model's own folder"),
    "a name with a zero": (lambda m: _outside(m, "a\0b"), "only files in the model's own folder"),
    "links in a circle": (lambda m: _outside(m, "circle.bin"), "only files in the model's own folder are read"),
    "a link to another folder": (lambda m: _outside(m, "link.bin"), "only files in the model's own folder are read"),
    "a pipe": (lambda m: _outside(m, "pipe"), "pipe is not in the model's folder"),
    "too short a file": (lambda m: _outside(m, "short.bin"), "bytes 0 to 240 of short.bin, which has 10"),
    "offset beyond the file": (lambda m: _outside(m, "short.bin", offset="999999999999"), "bytes 999999999999 to"),
    "offset that is none": (lambda m: _outside(m, "short.bin", offset="-1"), "offset = '-1'.*must be a whole number"),
    "length of another": (lambda m: _outside(m, "short.bin", length="10"), "has 10 bytes, its shape needs 240"),
    # What no chip does.
    "no ReLU": (lambda m: _kind(m, 1, "Identity"), r"Gemm \(y\): no ReLU between it and Gemm \(h\)"),
    "another activation": (
        lambda m: _kind(m, 1, "Sigmoid"),
        r"Sigmoid \(a\): cannot be imported; the chip's activation is",
    ),
    "unknown operator": (lambda m: _kind(m, 1, "Frobnicate"), r"Frobnicate \(a\): cannot be imported; the README says"),
    "unknown domain": (lambda m: _set(m.graph.node[1], domain="my"), r"my.Relu \(a\): cannot be imported"),
    "batch transposed": (lambda m: _attribute(m, 0, "transA", 1), "transA: the batch must come first"),
    "attribute of another type": (lambda m: _attribute(m, 0, "alpha", "x"), "alpha = 'x': a number is needed"),
    "a graph for an attribute": (lambda m: _attribute(m, 0, "transB", m.graph), "transB = None"),
    "ends in a ReLU": (lambda m: _set(m.graph.output[0], name="a"), "ends with a ReLU; needed is a dense layer"),
    "ends at once": (lambda m: _set(m.graph.output[0], name="x"), "ends with a ReLU; needed is"),
    "one layer": (lambda m: _set(m.graph.output[0], name="h"), r"Gemm \(h\): is all that there is"),
    "ends in a constant": (
        lambda m: _set(m.graph.output[0], name="w0"),
        "0 different things that follow from the image",
    ),
    "two answers": (lambda m: m.graph.output.append(_value("h")), "2 different things that follow from the image"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_changed_models_are_refused(case: str, tmp_path: Path) -> None:
    change, message = CHANGED[case]
    model = dense_model()
    change(model)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(240))
    (folder / "short.bin").write_bytes(bytes(10))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "circle.bin").symlink_to(folder / "circle.bin")
    os.mkfifo(folder / "pipe")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message) as raised:
        from_onnx(read_onnx(path))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


DENSE = random_weights(w0=(12, 5), b0=(5,), w1=(5, 3), b1=(3,))
HEAD = [node("Relu", "h", "a"), node("Gemm", "a w1 b1", "y")]
CONV = random_weights(k=(4, 1, 3, 3), wide=(4, 1, 7, 7), oblong=(4, 1, 3, 5), two=(4, 2, 3, 3), w=(4 * 24, 3))
IMAGE = ("batch", 1, 8, 6)
CONV_HEAD = [node("Relu", "h", "a"), node("Flatten", "a", "f"), node("Gemm", "f w", "y")]
EMPTY = helper.make_graph([], "empty", [], [])
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}

REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], Sequence[int | str], str]] = {
    "skip connection": (
        [node("Gemm", "x w0 b0", "h"), node("Relu", "h", "r"), node("Add", "r h", "a"), HEAD[1]],
        {},
        ("batch", 12),
        r"Add \(a\): joins two branches",
    ),
    "weights beyond all numbers": (
        [
            *(node("Mul", f"{'v' * n} {'v' * n}", "v" * (n + 1)) for n in range(1, 5)),
            node("Gemm", "x vvvvv b0", "h"),
            *HEAD,
        ],
        {"v": np.full((12, 5), 1e30, np.float32)},
        ("batch", 12),
        "not finite",
    ),
    "branches side by side": (
        [node("Gemm", "x w0 b0", "p"), node("Concat", "p p", "h", axis=1), *HEAD],
        {},
        ("batch", 12),
        r"Concat \(h\): cannot be imported; layers stand one behind another",
    ),
    "a ReLU of what was scaled": (
        [node("Gemm", "x w0 b0", "p"), node("Relu", "p", "q"), node("Sub", "q b0", "h"), *HEAD],
        {},
        ("batch", 12),
        r"Relu \(a\): clamps to 0 .. inf what is from -.*, with no linear map before it; a chip has no ReLU there",
    ),
    "a clamp elsewhere": (
        [node("Gemm", "x w0 b0", "h"), node("Clip", "h low", "a"), HEAD[1]],
        {"low": np.float32(0.5)},
        ("batch", 12),
        r"Clip \(a\): clamps to 0.5 .. inf; a chip's activations start at 0",
    ),
    "a layer behind a softmax": (
        [node("Gemm", "x w0 b0", "h"), node("Softmax", "h", "a"), HEAD[1]],
        {},
        ("batch", 12),
        r"Gemm \(y\): stands behind the softmax or the best class",
    ),
    "weights that are made at random": (
        [node("RandomNormal", "", "r", shape=[12, 5]), node("Gemm", "x r b0", "h"), *HEAD],
        {},
        ("batch", 12),
        r"RandomNormal \(r\): cannot be computed; constants must be stored",
    ),
    "constants that grow": (
        [node("Add", "col row", "r"), node("Gemm", "x r b0", "h"), *HEAD],
        {"col": np.ones((6000, 1)), "row": np.ones((1, 6000))},
        ("batch", 12),
        r"Add \(r\): with it there are more than 33554432 numbers; no chip holds so many",
    ),
    "a look-up that grows": (
        [node("Gather", "col ones", "r"), node("Gemm", "x r b0", "h"), *HEAD],
        {"col": np.ones((1, 6000)), "ones": np.zeros(6000, np.int64)},
        ("batch", 12),
        r"Gather \(r\): with it there are more than 33554432 numbers",
    ),
    "constants that double": (
        [
            *(node("Concat", f"{'c' * n} {'c' * n}", "c" * (n + 1), axis=0) for n in range(1, 40)),
            node("Gemm", f"x {'c' * 40} b0", "h"),
            *HEAD,
        ],
        {"c": np.ones((1, 5))},
        ("batch", 12),
        "with it there are more than 33554432 numbers",
    ),
    "constants that do not fit": (
        [node("Add", "b0 b1", "r"), node("Gemm", "x w0 r", "h"), *HEAD],
        {},
        ("batch", 12),
        r"Add \(r\): cannot be computed from constants of shapes \(5,\), \(3,\)",
    ),
    "a constant that cannot be reshaped": (
        [node("Reshape", "b0 b1", "r"), node("Gemm", "x w0 r", "h"), *HEAD],
        {},
        ("batch", 12),
        r"Reshape \(r\): cannot be computed from constants of shapes",
    ),
    "an offset of another shape": (
        [node("Add", "x b0", "p"), node("Gemm", "p w0 b0", "h"), *HEAD],
        {},
        ("batch", 12),
        r"Add \(p\): a constant of shape \(5,\) meets a tensor of batch x 12",
    ),
    "a division by 0": (
        [node("Div", "x zero", "p"), node("Gemm", "p w0 b0", "h"), *HEAD],
        {"zero": np.float32(0)},
        ("batch", 12),
        "not finite",
    ),
    "normalisation of another size": (
        [node("Gemm", "x w0 b0", "p"), node("BatchNormalization", "p b1 b1 b1 b1", "h"), *HEAD],
        {},
        ("batch", 12),
        r"BatchNormalization \(h\): constants of shapes \(3,\)",
    ),
    "normalisation in training": (
        [node("Gemm", "x w0 b0", "p"), node("BatchNormalization", "p b0 b0 b0 b0", "h", training_mode=1), *HEAD],
        {},
        ("batch", 12),
        "is in training mode; export the model in eval mode",
    ),
    "a negative variance": (
        [node("Gemm", "x w0 b0", "p"), node("BatchNormalization", "p b0 b0 b0 v", "h"), *HEAD],
        {"v": -np.ones(5)},
        ("batch", 12),
        "not finite",
    ),
    "dynamic quantisation": (
        [node("DynamicQuantizeLinear", "x", "q s z"), node("Gemm", "q w0 b0", "h"), *HEAD],
        {},
        ("batch", 12),
        "import the float model, or one that is quantised statically",
    ),
    "a step of 0": (
        [
            node("QuantizeLinear", "x zero", "q"),
            node("DequantizeLinear", "q zero", "p"),
            node("Gemm", "p w0", "h"),
            *HEAD,
        ],
        {"zero": np.float32(0)},
        ("batch", 12),
        r"QuantizeLinear \(q\): a scale of 0",
    ),
    "steps that differ": (
        [node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q t", "p"), node("Gemm", "p w0", "h"), *HEAD],
        {"s": np.float32(0.5), "t": np.float32(0.25)},
        ("batch", 12),
        r"its scale and zero point \(0.25, 0\) are not those of its input, \(0.5, 0\)",
    ),
    "integers into floats": (
        [node("QuantizeLinear", "x s", "q"), node("Gemm", "q w0", "h"), *HEAD],
        {"s": np.float32(0.5)},
        ("batch", 12),
        r"Gemm \(h\): takes integers; a DequantizeLinear is needed before it",
    ),
    "the batch elsewhere": (
        [node("Transpose", "x", "t", perm=[1, 0]), node("Gemm", "t w0", "h"), *HEAD],
        {},
        ("batch", 12),
        r"Transpose \(t\): perm \[1, 0\].*the batch must stay first",
    ),
    "the batch lost": (
        [node("Reshape", "x to", "t"), node("Gemm", "t w0", "h"), *HEAD],
        {"to": np.array([12])},
        ("batch", 12),
        "the batch must stay first",
    ),
    "a shape of another size": (
        [node("Reshape", "x to", "t"), node("Gemm", "t w0", "h"), *HEAD],
        {"to": np.array([1 << 62, 1 << 62])},
        ("batch", 12),
        r"Reshape \(t\): a shape of \[4611686018427387904",
    ),
    "axes that are not there": (
        [node("Squeeze", "x axes", "t"), node("Gemm", "t w0", "h"), *HEAD],
        {"axes": np.array([7])},
        ("batch", 12),
        r"Squeeze \(t\): axes \[7\] of a tensor of batch x 12",
    ),
    "a matrix for a map": (
        [node("Conv", "x k", "h"), node("Relu", "h", "a"), node("Gemm", "a w", "y")],
        {},
        IMAGE,
        r"Gemm \(y\): weights of shape \(96, 3\) meet a tensor of batch x 4 x 6 x 4",
    ),
    "a convolution of what is flat": (
        [node("Flatten", "x", "flat"), node("Conv", "flat k", "h"), *CONV_HEAD],
        {},
        IMAGE,
        r"Conv \(h\): a tensor of batch x 48; needed is an image or a convolution's output",
    ),
    "a large kernel": ([node("Conv", "x wide", "h"), *CONV_HEAD], {}, IMAGE, "kernel = 7: must be between 1 and 5"),
    "an oblong kernel": ([node("Conv", "x oblong", "h"), *CONV_HEAD], {}, IMAGE, "needed is a square kernel"),
    "a long stride": (
        [node("Conv", "x k", "h", strides=[3, 3]), *CONV_HEAD],
        {},
        IMAGE,
        "stride = 3: must be between 1 and 2",
    ),
    "no stride": ([node("Conv", "x k", "h", strides=[0, 0]), *CONV_HEAD], {}, IMAGE, "stride = 0: must be between"),
    "padding on one side": (
        [node("Conv", "x k", "h", pads=[0, 0, 1, 1]), *CONV_HEAD],
        {},
        IMAGE,
        "the same stride and padding on all sides",
    ),
    "more padding than kernel": (
        [node("Conv", "x k", "h", pads=[9] * 4), *CONV_HEAD],
        {},
        IMAGE,
        "padding = 9: must be between 0 and 2",
    ),
    "holes in the kernel": ([node("Conv", "x k", "h", dilations=[2, 2]), *CONV_HEAD], {}, IMAGE, "no dilation"),
    "groups": ([node("Conv", "x two", "h", group=2), *CONV_HEAD], {}, IMAGE, "in 2 groups meet 1 channels"),
    "nothing left": (
        [node("Conv", "x k", "h"), *CONV_HEAD],
        {},
        ("batch", 1, 2, 2),
        "nothing is left of 2x2 pixels by a kernel of 3",
    ),
    "pooling by 3": (
        [
            node("Conv", "x k", "h"),
            node("MaxPool", "h", "p", kernel_shape=[3, 3]),
            node("Relu", "p", "a"),
            *CONV_HEAD[1:],
        ],
        {},
        IMAGE,
        r"MaxPool \(p\): kernel \[3, 3\], strides \[\]; needed is 2 x 2",
    ),
    "pooling twice": (
        [
            node("Conv", "x k", "h"),
            node("MaxPool", "h", "p", **POOL),
            node("MaxPool", "p", "q", **POOL),
            node("Relu", "q", "a"),
            *CONV_HEAD[1:],
        ],
        {},
        IMAGE,
        r"MaxPool \(q\): a chip pools once behind a convolution",
    ),
    "pooling the image": (
        [node("MaxPool", "x", "p", **POOL), node("Conv", "p k", "h"), *CONV_HEAD],
        {},
        IMAGE,
        r"MaxPool \(p\): a chip pools once behind a convolution, and nowhere else",
    ),
    "pooling what is negated": (
        [
            node("Conv", "x k", "h"),
            node("Mul", "h minus", "n"),
            node("MaxPool", "n", "p", **POOL),
            node("Relu", "p", "a"),
            *CONV_HEAD[1:],
        ],
        {"minus": np.float32(-1)},
        IMAGE,
        "a scale before it is not above 0",
    ),
    "a convolution of averages": (
        [
            node("Conv", "x k", "h"),
            node("Relu", "h", "r"),
            node("AveragePool", "r", "p", kernel_shape=[6, 4], strides=[6, 4]),
            node("Conv", "p point", "i"),
            node("Relu", "i", "a"),
            node("Flatten", "a", "f"),
            node("Gemm", "f last", "y"),
        ],
        random_weights(point=(6, 4, 1, 1), last=(6, 3)),
        IMAGE,
        r"Conv \(i\): works on averages; on a chip only the last layer can",
    ),
    "pooling averages": (
        [
            node("Conv", "x k", "h"),
            node("Relu", "h", "r"),
            node("AveragePool", "r", "p", kernel_shape=[3, 2], strides=[3, 2]),
            node("MaxPool", "p", "a", **POOL),
            *CONV_HEAD[1:],
        ],
        {},
        IMAGE,
        r"MaxPool \(a\): works on averages",
    ),
    "a limit of averages": (
        [
            node("Conv", "x k", "h"),
            node("Relu", "h", "r"),
            node("GlobalAveragePool", "r", "p"),
            node("Clip", "p low high", "a"),
            *CONV_HEAD[1:],
        ],
        {"low": np.float32(0), "high": np.float32(1)},
        IMAGE,
        r"Clip \(a\): clamps to 0 .. 1 what is from 0 to inf, with no linear map before it",
    ),
    "negated behind the pooling": (
        [
            node("Conv", "x k", "h"),
            node("MaxPool", "h", "p", **POOL),
            node("Mul", "p minus", "n"),
            node("Relu", "n", "a"),
            *CONV_HEAD[1:],
        ],
        {"minus": np.float32(-1)},
        IMAGE,
        r"Relu \(a\): a scale below 0 behind the pooling of Conv \(h\)",
    ),
    "a map that is too large": (
        [node("Conv", "x k", "h", pads=[1] * 4), *CONV_HEAD],
        {},
        ("batch", 1, 200, 200),
        r"Conv \(h\): makes 160000 numbers of an image, at most 65536",
    ),
    "thousands of large tensors": (
        [
            *(node("Identity", f"t{n}" if n else "x", f"t{n + 1}") for n in range(2000)),
            node("Gemm", "t2000 w0", "h"),
            *HEAD,
        ],
        {},
        ("batch", 1, 200, 200),
        "with it there are more than 33554432 numbers",
    ),
    "limits that differ by neuron": (
        [
            node("Gemm", "x w0 b0", "p"),
            node("Clip", "p low high", "q"),
            node("Add", "q b0", "h"),
            *HEAD,
        ],
        {"low": np.float32(-1), "high": np.float32(1)},
        ("batch", 12),
        r"Relu \(a\): what Gemm \(p\) was clamped at is not the same for all neurons behind it",
    ),
    "scores that are clamped": (
        [node("Gemm", "x w0 b0", "h"), HEAD[0], node("Gemm", "a w1 b1", "s"), node("Clip", "s low high", "y")],
        {"low": np.float32(-1), "high": np.float32(1)},
        ("batch", 12),
        r"Gemm \(s\): its sums, the scores, are clamped; a chip's are not",
    ),
    "an image below 0": (
        [node("Sub", "x half", "s"), node("Relu", "s", "r"), node("Gemm", "r w0 b0", "h"), *HEAD],
        {"half": np.float32(0.5)},
        ("batch", 12),
        r"Relu \(r\): clamps to 0 .. inf what is from -0.5 to 0.5, with no linear map before it",
    ),
    "the smallest score": (
        [node("Gemm", "x w0 b0", "h"), HEAD[0], node("Gemm", "a w1 b1", "s"), node("TopK", "s one", "y i", largest=0)],
        {"one": np.array([1])},
        ("batch", 12),
        r"TopK \(y\): asks for the smallest scores",
    ),
    "classes in another order": (
        [
            node("Gemm", "x w0 b0", "h"),
            HEAD[0],
            node("Gemm", "a w1 b1", "s"),
            node("Softmax", "s", "p"),
            node("Gather", "p order", "y", axis=1),
        ],
        {"order": np.array([2, 0, 1])},
        ("batch", 12),
        r"Gather \(y\): stands behind the softmax",
    ),
    "somebody's softmax": (
        [node("Gemm", "x w0 b0", "h"), HEAD[0], node("Gemm", "a w1 b1", "s"), node("Softmax", "s", "y", domain="my")],
        {},
        ("batch", 12),
        r"my.Softmax \(y\): cannot be imported",
    ),
    "dropout in training": (
        [node("Dropout", "x half yes", "d"), node("Gemm", "d w0 b0", "h"), *HEAD],
        {"half": np.float32(0.5), "yes": np.array(True)},
        ("batch", 12),
        r"Dropout \(d\): is in training mode",
    ),
    "a bias for each sample": (
        [node("Gemm", "x w0 column", "h"), *HEAD],
        {"column": np.ones((5, 1))},
        ("batch", 12),
        r"Gemm \(h\): biases of shape \(5, 1\) for 5 outputs; one each is needed",
    ),
    "axes with fractions": (
        [node("Transpose", "x", "t", perm=[0.0, 1.0]), node("Gemm", "t w0", "h"), *HEAD],
        {},
        ("batch", 12),
        r"Transpose \(t\): perm = \[0.0, 1.0\]: a list of whole numbers is needed",
    ),
    "an average inside": (
        [
            node("Conv", "x k", "h"),
            node("Relu", "h", "r"),
            node("GlobalAveragePool", "r", "p"),
            node("Flatten", "p", "g"),
            node("Gemm", "g inner", "i"),
            node("Relu", "i", "a"),
            node("Gemm", "a last", "y"),
        ],
        random_weights(inner=(4, 6), last=(6, 3)),
        IMAGE,
        r"Gemm \(i\): works on averages; on a chip only the last layer can",
    ),
    "an average of sums": (
        [node("Conv", "x k", "h"), node("GlobalAveragePool", "h", "a"), *CONV_HEAD[1:]],
        {},
        IMAGE,
        r"GlobalAveragePool \(a\): does not follow a ReLU",
    ),
    "pixels that differ": (
        [node("Conv", "x k", "p"), node("Add", "p by", "h"), *CONV_HEAD],
        {"by": np.arange(24.0).reshape(6, 4)},
        IMAGE,
        r"Relu \(a\): is not the same for all pixels of a channel",
    ),
    "ends in a convolution": (
        [node("Conv", "x k", "h"), node("Flatten", "h", "y")],
        {},
        IMAGE,
        r"ends with Conv \(h\); needed is a dense layer",
    ),
    "a subgraph": (
        [
            node("Gemm", "x w0 b0", "h"),
            node(
                "If",
                "h",
                "a",
                then_branch=helper.make_graph([], "t", [], []),
                else_branch=helper.make_graph([], "e", [], []),
            ),
            HEAD[1],
        ],
        {},
        ("batch", 12),
        r"If \(a\): cannot be imported; export without control flow",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_chip_does_is_refused(case: str, tmp_path: Path) -> None:
    nodes, constants, shape, message = REFUSED[case]
    every: dict[str, Any] = DENSE | CONV | constants
    used = {name for each in nodes for name in each.input}
    path = tmp_path / "model.onnx"
    model = made(nodes, {name: values for name, values in every.items() if name in used}, shape)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        from_onnx(read_onnx(path))


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match="there is no such file"):
        read_onnx(path)
    with pytest.raises(ModelError, match="there is no such file"):
        read_onnx(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="there is no such file"):
        read_onnx(tmp_path / "pipe.onnx")
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="there is no graph"):
        read_onnx(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="not an ONNX file, or damaged"):
        read_onnx(path)
    with path.open("wb") as file:
        file.truncate((1 << 24) + 1)
    with pytest.raises(ModelError, match="at most 16,777,216 are read"):
        read_onnx(path)


def test_numbers_for_other_channels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(dense_model().SerializeToString())
    with pytest.raises(ModelError, match="mean: 3 numbers for 1 channels; needed is one"):
        from_onnx(read_onnx(path), Scaling((0.1, 0.2, 0.3)))


def test_constants_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    model = dense_model()
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(model.SerializeToString())
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert (tmp_path / "weights.bin").stat().st_size
    given, expected = (from_onnx(read_onnx(path)) for path in (tmp_path / "model.onnx", plain))
    np.testing.assert_array_equal(given.layers[0].weights, expected.layers[0].weights)
    np.testing.assert_array_equal(given.matrix, expected.matrix)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    model = dense_model()
    # Without the others it would be whole.
    del model.opset_import[1:]
    content = model.SerializeToString()
    path = tmp_path / "model.onnx"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError):
            from_onnx(read_onnx(path))


FUZZ_SEEDS = 40


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(s, marks=pytest.mark.slow) for s in range(4, FUZZ_SEEDS))])
def test_mutated_files_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """Bytes changed, moved, left out, repeated: a network or a clear error, within little memory."""
    rng = np.random.default_rng(seed)
    path = tmp_path / "model.onnx"
    sources = [model.SerializeToString() for model in _valid_models()]
    tracemalloc.start()
    refused = 0
    for _ in range(300):
        content = bytearray(sources[rng.integers(len(sources))])
        for _ in range(rng.integers(1, 6)):
            _mutate(content, rng)
        path.write_bytes(content)
        try:
            from_onnx(read_onnx(path))
        except ModelError as error:
            refused += 1
            assert len(str(error)) < 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused
    assert peak < 64 << 20


def _mutate(content: bytearray, rng: np.random.Generator) -> None:
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 9))
    kind = rng.integers(5)
    if kind == 0:
        content[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        content[at : at + length] = rng.bytes(length)
    elif kind == 2:
        del content[at : at + length]
    elif kind == 3:
        content[at:at] = content[at : at + length]
    else:
        # The largest numbers that there are.
        content[at : at + length] = b"\xff" * length


def _valid_models() -> list[Model]:
    quantised = made(
        [
            node("QuantizeLinear", "x s z", "q"),
            node("DequantizeLinear", "q s z", "p"),
            node("Gemm", "p w0 b0", "h"),
            node("Relu", "h", "a"),
            node("Shape", "a", "shape"),
            node("Reshape", "a shape", "r"),
            node("Gemm", "r w1 b1", "y"),
        ],
        DENSE | {"s": np.float32(0.01), "z": np.uint8(3)},
    )
    convolutional = made(
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t k", "c", pads=[1] * 4),
            node("BatchNormalization", "c g g g g", "h"),
            node("Relu", "h", "r"),
            node("MaxPool", "r", "a", **POOL),
            node("Squeeze", "a axes", "b"),
            *CONV_HEAD[1:],
        ],
        random_weights(k=(4, 1, 3, 3), w=(4 * 12, 3)) | {"g": np.ones(4), "axes": np.zeros(0, np.int64)},
        ("batch", 8, 6, 1),
    )
    return [dense_model(), quantised, convolutional]


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    assert main(["import", str(path), "-o", str(tmp_path / "out")]) == ModelError.exit_code
    assert capsys.readouterr().err == f"locallearn: {path}: not an ONNX file, or damaged\n"
    assert not (tmp_path / "out").exists()


# -- changes ----------------------------------------------------------------------------------------------------


def _tensor(model: Model, name: str) -> TensorProto:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor


def _replace(model: Model, name: str, values: Any) -> None:
    _tensor(model, name).CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def _poke(model: Model, name: str, value: float) -> None:
    values = numpy_helper.to_array(_tensor(model, name)).copy()
    values[1, 2] = value
    _replace(model, name, values)


def _cut(model: Model, name: str) -> None:
    tensor = _tensor(model, name)
    tensor.raw_data = tensor.raw_data[:-4]


def _lengthen(model: Model, name: str) -> None:
    _tensor(model, name).raw_data += bytes(4)


def _dims(model: Model, name: str, dims: Sequence[int]) -> None:
    _tensor(model, name).dims[:] = dims


def _empty(model: Model, name: str) -> None:
    _replace(model, name, np.zeros((12, 0), np.float32))


def _field(model: Model, name: str) -> None:
    tensor = _tensor(model, name)
    tensor.ClearField("raw_data")
    tensor.int32_data[:] = range(60)


def _type(model: Model, name: str, kind: int) -> None:
    _tensor(model, name).data_type = kind


def _outside(model: Model, location: str, **entries: str) -> None:
    tensor = _tensor(model, "w0")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)


def _opset(model: Model, version: int) -> None:
    model.opset_import[0].version = version


def _set(message: Any, **fields: Any) -> None:
    for name, value in fields.items():
        if isinstance(value, list):
            message.ClearField(name)
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 12])


def _retype(model: Model, kind: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = kind


def _reshape(model: Model, shape: Sequence[int | str]) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))


def _rewire(model: Model, number: int, slot: int, name: str) -> None:
    model.graph.node[number].input[slot] = name


def _swap(model: Model) -> None:
    nodes = list(model.graph.node)[::-1]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


def _kind(model: Model, number: int, kind: str) -> None:
    model.graph.node[number].op_type = kind


def _attribute(model: Model, number: int, name: str, value: Any) -> None:
    model.graph.node[number].attribute.append(helper.make_attribute(name, value))
