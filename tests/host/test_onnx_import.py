"""Imported models against onnxruntime: the float network has the model's scores, whatever form its operators have."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from locallearn.host.float_network import FloatNetwork
from locallearn.host.onnx_file import read_onnx
from locallearn.host.onnx_float import to_float_onnx
from locallearn.host.onnx_import import Scaling, from_onnx
from locallearn.host.onnx_walk import CHANNELS
from locallearn.host.quantise import real_inputs
from locallearn.quant.network import GoldenNetwork
from locallearn.quant.spec import NetworkSpec
from tests.host.onnx_models import made, node, random_weights
from tests.strategies import from_whole_range, specs

IMAGE = (1, 8, 6)
PLAIN = Scaling()


def imported(model: onnx.ModelProto, folder: Path, scaling: Scaling = PLAIN) -> FloatNetwork:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return from_onnx(read_onnx(path), scaling)


def assert_scores(model: onnx.ModelProto, folder: Path, scaling: Scaling = PLAIN, noted: bool = False) -> FloatNetwork:
    """Of random images the importer's scores are the model's first output; if `noted`, unless a note says otherwise."""
    network = imported(model, folder, scaling)
    if noted and network.notes:
        return network
    (x,) = model.graph.input
    sides = [side.dim_value for side in x.type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (5, int(np.prod(sides))), np.uint8)
    fed: NDArray[Any] = pixels
    if x.type.tensor_type.elem_type != TensorProto.UINT8:
        channels = network.shape[0] if network.shape is not None else 1
        numbers = (np.broadcast_to(v, channels) for v in (scaling.mean, scaling.std or (1.0,)))
        mean, std = (np.repeat(v, pixels.shape[1] // channels) for v in numbers)
        fed = ((pixels / 255 - mean) / std).astype(np.float32)
    if len(sides) == 3 and sides[0] not in (1, 3):
        # The data's images have their channels first.
        fed = fed.reshape(-1, sides[2], *sides[:2]).transpose(0, 2, 3, 1)
    expected = ort.InferenceSession(model.SerializeToString()).run(None, {"x": fed.reshape(-1, *sides)})[0]
    given = network.logits(real_inputs(network, pixels))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(given, expected.reshape(given.shape), 1e-3, 1e-3 * np.abs(expected).max())
    return network


DENSE = random_weights(w0=(12, 5), b0=(5,), w1=(5, 3), b1=(3,))
HEAD = [node("Relu", "h", "a"), node("MatMul", "a w1", "m"), node("Add", "m b1", "y")]
"""From the sums `h` of 5 neurons to the scores."""

DENSE_FORMS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], dict[str, Any]]] = {
    "Gemm": ([node("Gemm", "x w0 b0", "h"), *HEAD], {}, {}),
    "Gemm, transposed, alpha, beta": (
        [node("Gemm", "x t b0", "h", transB=1, alpha=0.5, beta=2.0), *HEAD],
        {"t": DENSE["w0"].T},
        {},
    ),
    "Gemm without biases": ([node("Gemm", "x w0", "h"), *HEAD], {}, {"opset": 13}),
    "bias before the product's other side": ([node("MatMul", "x w0", "p"), node("Add", "b0 p", "h"), *HEAD], {}, {}),
    "scale and offset of the image": (
        [node("Sub", "x mean", "c"), node("Div", "c std", "n"), node("Gemm", "n w0 b0", "h"), *HEAD],
        {"mean": np.float32(0.3), "std": np.float32(0.4)},
        {},
    ),
    "offset minus": (
        [node("Gemm", "x w0 b0", "p"), node("Sub", "one p", "q"), node("Mul", "q scale", "h"), *HEAD],
        {"one": np.float32(1), "scale": np.arange(1, 6, dtype=np.float32)},
        {},
    ),
    "normalised before the ReLU": (
        [node("Gemm", "x w0 b0", "p"), node("BatchNormalization", "p g s mu v", "h", epsilon=1e-3), *HEAD],
        random_weights(2, g=(5,), s=(5,), mu=(5,)) | {"v": np.arange(1, 6) / 4},
        {},
    ),
    "normalised behind the ReLU": (
        [
            node("Gemm", "x w0 b0", "h"),
            node("Relu", "h", "r"),
            node("BatchNormalization", "r g s mu v", "a"),
            *HEAD[1:],
        ],
        random_weights(2, g=(5,), s=(5,), mu=(5,)) | {"v": np.arange(1, 6) / 4},
        {},
    ),
    "clamped": (
        [node("Gemm", "x w0 b0", "h"), node("Clip", "h low high", "a"), *HEAD[1:]],
        {"low": np.float32(0), "high": np.float32(1.5)},
        {},
    ),
    "clamped, by attributes": (
        [node("Gemm", "x w0 b0", "h"), node("Clip", "h", "a", min=0.0, max=1.5), *HEAD[1:]],
        {},
        {"opset": 9},
    ),
    "clamped once more": (
        [node("Gemm", "x w0 b0", "h"), node("Relu", "h", "r"), node("Clip", "r low high", "a"), *HEAD[1:]],
        {"low": np.float32(-3), "high": np.float32(1.5)},
        {},
    ),
    "shapes that are computed": (
        [
            node("Shape", "x", "shape"),
            node("Gather", "shape zero", "n", axis=0),
            node("Unsqueeze", "n axis", "n1"),
            node("Concat", "n1 rest", "to", axis=0),
            node("Reshape", "x to", "flat"),
            node("Gemm", "flat w0 b0", "h"),
            *HEAD,
        ],
        {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([-1])},
        {"shape": ("batch", 3, 4)},
    ),
    "order of pixels": (
        [node("Transpose", "x", "t", perm=[0, 2, 1]), node("Flatten", "t", "f"), node("Gemm", "f w0 b0", "h"), *HEAD],
        {},
        {"shape": ("batch", 3, 4)},
    ),
    "axes that come and go": (
        [
            node("Unsqueeze", "x", "u", axes=[2, 1]),
            node("Squeeze", "u", "q", axes=[-2, 1]),
            node("Identity", "q", "i"),
            node("Dropout", "i", "d mask"),
            node("Gemm", "d w0 b0", "h"),
            *HEAD,
        ],
        {},
        {"opset": 11},
    ),
    "a batch of a fixed size": (
        [node("Reshape", "x to", "f"), node("Gemm", "f w0 b0", "h"), *HEAD],
        {"to": np.array([5, 12])},
        {"shape": (5, 3, 4)},
    ),
    "softmax, class and probability": (
        [
            node("Gemm", "x w0 b0", "h"),
            *HEAD[:2],
            node("Add", "m b1", "s"),
            node("Softmax", "s", "p", axis=-1),
            node("ArgMax", "p", "best", axis=1),
            node("Cast", "best", "c", to=TensorProto.INT64),
        ],
        {},
        {"output": "s p c"},
    ),
    "float16": (
        [node("Cast", "w16", "w", to=TensorProto.FLOAT), node("Gemm", "x w b0", "h"), *HEAD],
        {"w16": DENSE["w0"].astype(np.float16)},
        {},
    ),
    "activations quantised, the ReLU in the zero point": (
        [
            node("Gemm", "x w0 b0", "h"),
            node("QuantizeLinear", "h fine zero", "q"),
            node("DequantizeLinear", "q fine zero", "a"),
            *HEAD[1:],
        ],
        {"fine": np.float32(1 / 1024), "zero": np.uint8(0)},
        {},
    ),
    "activations quantised, with fewer bits": (
        [
            node("Gemm", "x w0 b0", "h"),
            node("Relu", "h", "r"),
            node("QuantizeLinear", "r fine zero", "q"),
            node("Clip", "q low high", "c"),
            node("DequantizeLinear", "c fine zero", "a"),
            *HEAD[1:],
        ],
        {"fine": np.float32(1 / 1024), "zero": np.int8(-128), "low": np.int8(-128), "high": np.int8(72)},
        {},
    ),
    "weights quantised": (
        [node("DequantizeLinear", "q scale zero", "w", axis=1), node("Gemm", "x w b0", "h"), *HEAD],
        {
            "q": np.arange(-30, 30, dtype=np.int8).reshape(12, 5),
            "scale": np.arange(1, 6, dtype=np.float32) / 32,
            "zero": np.zeros(5, np.int8),
        },
        {},
    ),
    "bytes": (
        [node("Cast", "x", "f", to=TensorProto.FLOAT), node("Mul", "f by", "n"), node("Gemm", "n w0 b0", "h"), *HEAD],
        {"by": np.float32(1 / 128)},
        {"kind": TensorProto.UINT8},
    ),
    "bytes, dequantised": (
        [node("DequantizeLinear", "x by zero", "n"), node("Gemm", "n w0 b0", "h"), *HEAD],
        {"by": np.float32(1 / 64), "zero": np.uint8(100)},
        {"kind": TensorProto.UINT8},
    ),
}


@pytest.mark.parametrize("form", DENSE_FORMS)
def test_dense_forms_have_the_models_scores(form: str, tmp_path: Path) -> None:
    nodes, constants, options = DENSE_FORMS[form]
    used = {name for each in nodes for name in each.input}
    constants = {name: values for name, values in (DENSE | constants).items() if name in used}
    assert_scores(made(nodes, constants, **options), tmp_path)


CONV = random_weights(k0=(4, 1, 3, 3), c0=(4,), k1=(5, 4, 3, 3), c1=(5,), g=(4,), s=(4,), m=(4,)) | {
    "v": np.arange(1, 5) / 3
}
FLAT = [node("Flatten", "a", "f"), node("Gemm", "f w b", "y")]
"""From activations to the scores; `w` fits what there are."""

CONV_FORMS: dict[str, tuple[list[onnx.NodeProto], int, dict[str, Any]]] = {
    "padding": ([node("Conv", "x k0 c0", "h", pads=[1] * 4), node("Relu", "h", "a"), *FLAT], 4 * 48, {}),
    "no padding, no biases": ([node("Conv", "x k0", "h"), node("Relu", "h", "a"), *FLAT], 4 * 24, {}),
    "stride": ([node("Conv", "x k0 c0", "h", strides=[2, 2]), node("Relu", "h", "a"), *FLAT], 4 * 6, {}),
    "padding by itself": (
        [node("Conv", "x k0 c0", "h", auto_pad="SAME_UPPER"), node("Relu", "h", "a"), *FLAT],
        4 * 48,
        {},
    ),
    "pooled behind the ReLU": (
        [
            node("Conv", "x k0 c0", "h"),
            node("Relu", "h", "r"),
            node("MaxPool", "r", "a", kernel_shape=[2, 2], strides=[2, 2]),
            *FLAT,
        ],
        4 * 6,
        {},
    ),
    "normalised, pooled before the ReLU": (
        [
            node("Conv", "x k0 c0", "h", pads=[1] * 4),
            node("BatchNormalization", "h gain s m v", "n"),
            node("MaxPool", "n", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("Relu", "p", "a"),
            *FLAT,
        ],
        4 * 12,
        {},
    ),
    "two, the second on what is normalised": (
        [
            node("Conv", "x k0 c0", "h", pads=[1] * 4),
            node("Relu", "h", "r"),
            node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("BatchNormalization", "p g s m v", "n"),
            node("Conv", "n k1 c1", "h1"),
            node("Relu", "h1", "a"),
            *FLAT,
        ],
        5 * 2,
        {},
    ),
    "averaged": (
        [
            node("Conv", "x k0 c0", "h", pads=[1] * 4),
            node("Relu", "h", "r"),
            node("GlobalAveragePool", "r", "a"),
            *FLAT,
        ],
        4,
        {},
    ),
    "averages of cells": (
        [
            node("Conv", "x k0 c0", "h", pads=[1] * 4),
            node("Relu", "h", "r"),
            node("AveragePool", "r", "a", kernel_shape=[4, 3], strides=[4, 3]),
            *FLAT,
        ],
        4 * 4,
        {},
    ),
    "mean over axes": (
        [
            node("Conv", "x k0 c0", "h"),
            node("Relu", "h", "r"),
            node("ReduceMean", "r", "a", axes=[2, -1], keepdims=0),
            node("Gemm", "a w b", "y"),
        ],
        4,
        {},
    ),
    "channels last": (
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t k0 c0", "h"),
            node("Transpose", "h", "u", perm=[0, 2, 3, 1]),
            node("Relu", "u", "a"),
            *FLAT,
        ],
        4 * 24,
        {"shape": ("batch", 8, 6, 1)},
    ),
    "channels last, averaged": (
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t k0 c0", "h"),
            node("Relu", "h", "r"),
            node("Transpose", "r", "u", perm=[0, 2, 3, 1]),
            node("ReduceMean", "u", "a", axes=[1, 2], keepdims=1),
            *FLAT,
        ],
        4,
        {"shape": ("batch", 8, 6, 1)},
    ),
    "a flat image that gets its shape": (
        [node("Reshape", "x to", "i"), node("Conv", "i k0 c0", "h"), node("Relu", "h", "a"), *FLAT],
        4 * 24,
        {"shape": ("batch", 48)},
    ),
}


@pytest.mark.parametrize("form", CONV_FORMS)
def test_convolutional_forms_have_the_models_scores(form: str, tmp_path: Path) -> None:
    nodes, features, options = CONV_FORMS[form]
    constants: dict[str, Any] = CONV | {"gain": np.abs(CONV["g"]), "to": np.array([0, *IMAGE])}
    constants |= random_weights(5, w=(features, 3), b=(3,))
    used = {name for each in nodes for name in each.input}
    constants = {name: values for name, values in constants.items() if name in used}
    network = assert_scores(made(nodes, constants, **({"shape": ("batch", *IMAGE)} | options)), tmp_path)
    assert network.shape == IMAGE
    assert not network.notes


def test_images_of_colours_have_their_channels_first_or_last(tmp_path: Path) -> None:
    """With a mean and a deviation for each channel; the chip's zero is a middle grey then."""
    constants = random_weights(k0=(4, 3, 3, 3), c0=(4,), w=(4 * 24, 3), b=(3,))
    head = [node("Conv", "i k0 c0", "h"), node("Relu", "h", "a"), *FLAT]
    scaling = Scaling((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    first = made([node("Identity", "x", "i"), *head], constants, ("batch", 3, 8, 6))
    last = made([node("Transpose", "x", "i", perm=[0, 3, 1, 2]), *head], constants, ("batch", 8, 6, 3))
    networks = [assert_scores(model, tmp_path, scaling) for model in (first, last)]
    assert all(network.signed and network.shape == (3, 8, 6) for network in networks)
    np.testing.assert_array_equal(networks[0].layers[0].weights, networks[1].layers[0].weights)


def test_dense_layers_see_colours_in_the_models_order(tmp_path: Path) -> None:
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w0 b0", "h"), node("Relu", "h", "a"), node("Gemm", "a w1", "y")]
    assert_scores(made(nodes, random_weights(w0=(24, 5), b0=(5,), w1=(5, 3)), ("batch", 3, 2, 4)), tmp_path)


def test_a_border_that_is_another_is_noted(tmp_path: Path) -> None:
    nodes = [node("Conv", "x k0 c0", "h", pads=[1] * 4), node("Relu", "h", "a"), *FLAT]
    constants = random_weights(k0=(4, 1, 3, 3), c0=(4,), w=(4 * 48, 3), b=(3,))
    network = imported(made(nodes, constants, ("batch", *IMAGE)), tmp_path, Scaling((0.1,), (0.3,)))
    (note,) = network.notes
    assert "Conv (h): pads with zeros behind an offset of up to 0.333" in note


@settings(max_examples=40, deadline=None)
@given(spec=specs(max_classes=4) | specs(max_convs=2, max_classes=4), seed=st.integers(0, 1000))
def test_what_was_exported_in_float_comes_back(
    spec: NetworkSpec, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Weights that are whole numbers of 2^-fraction come back as they were, limits too."""
    spec = _with_one_answer(spec)
    shape = spec.input.shape
    assume(shape is None or shape[0] in CHANNELS or shape[2] not in CHANNELS)
    golden = GoldenNetwork(spec)
    weights = from_whole_range(golden.plan, np.random.default_rng(seed))
    model = to_float_onnx(spec, weights, layers=False, metadata={})
    # What the integers stand for, as if it were (pixel / 255 - mean) / std.
    by = 2.0 ** (spec.input.fraction + 8 - spec.input.bits) / 255
    network = imported(model, tmp_path_factory.mktemp("model"), Scaling((spec.input.zero / 255,), (by,)))
    assert network.size == spec.input.size
    for plan, values, layer in zip(golden.plan.layers, weights, network.layers, strict=False):
        numbers = values / 2.0**plan.weight_format.fraction
        # Of a signed input zero is another than the import's, where it cannot know.
        scale = 1.0 if plan.index else 2.0 ** (8 - network.signed) / (255 * by)
        np.testing.assert_allclose(layer.weights, numbers[:, :-1] * scale, rtol=1e-5, atol=1e-7)
        assert layer.limit is not None
        np.testing.assert_allclose(layer.limit, plan.output_format.max / 2.0**plan.output_format.fraction, rtol=1e-6)


def _with_one_answer(spec: NetworkSpec) -> NetworkSpec:
    """Without what the importer has no place for: scores of two layers added."""
    return spec.replaced({"sum_scores": False, "early_exit": False})
