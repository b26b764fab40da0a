"""Models as other libraries write them: scikit-learn's, those that onnxruntime quantises, PyTorch's two exporters."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

from locallearn.host.datasets import Dataset, load
from locallearn.host.float_network import FloatNetwork
from locallearn.host.onnx_file import read_onnx
from locallearn.host.onnx_import import Scaling, from_onnx
from locallearn.host.quantise import quantise, real_inputs
from locallearn.quant.fast import FastNetwork
from locallearn.quant.network import quantise_pixels


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def learned(digits: Dataset) -> MLPClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MLPClassifier((32, 24), random_state=0, max_iter=80).fit(digits.train_x / 255, digits.train_y)


@pytest.fixture(scope="module")
def exported(learned: MLPClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "sklearn.onnx"
    path.write_bytes(to_onnx(learned, np.zeros((1, 64), np.float32)).SerializeToString())
    return path


def answers(network: FloatNetwork, data: Dataset) -> NDArray[np.int64]:
    return network.logits(real_inputs(network, data.test_x)).argmax(axis=1)


def assert_integers_follow(network: FloatNetwork, data: Dataset) -> None:
    """The chip answers as the float network does, but for a few samples."""
    made = quantise(network, "made", data.train_x[:500], data.train_y[:500], 12)
    model = FastNetwork(made.spec)
    model.weights = made.arrays
    given = model.run(quantise_pixels(made.spec, data.test_x)).predicted[:, -1]
    assert (given != answers(network, data)).sum() <= 3


def test_scikit_learns_classifier(exported: Path, learned: MLPClassifier, digits: Dataset) -> None:
    network = from_onnx(read_onnx(exported))
    assert [layer.neurons for layer in network.layers] == [32, 24]
    np.testing.assert_array_equal(answers(network, digits), learned.predict(digits.test_x / 255))
    assert_integers_follow(network, digits)


class Samples(CalibrationDataReader):
    """Images one by one."""

    def __init__(self, name: str, images: NDArray[np.float32]) -> None:
        self._rest = iter({name: image[None]} for image in images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._rest, None)


@pytest.fixture(scope="module")
def plain(exported: Path) -> Path:
    """The same model up to its scores, which alone can be quantised."""
    path = exported.with_name("plain.onnx")
    model = onnx.load(exported)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    onnx.utils.extract_model(str(exported), str(path), [model.graph.input[0].name], [softmax.input[0]])
    return path


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=str)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_onnxruntime_quantises(
    plain: Path, form: QuantFormat, signed: bool, per_channel: bool, digits: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "quantised.onnx"
    name = onnx.load(plain).graph.input[0].name
    quantize_static(
        plain,
        path,
        Samples(name, (digits.train_x[:200] / 255).astype(np.float32)),
        quant_format=form,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    network = from_onnx(read_onnx(path))
    (scores,) = ort.InferenceSession(path).run(None, {name: (digits.test_x / 255).astype(np.float32)})
    given = network.logits(real_inputs(network, digits.test_x))
    # The model's activations have 8 bits, these have all that a float has.
    assert np.sqrt(np.square(given - scores).mean()) < 0.02 * np.abs(scores).max()
    assert all(layer.limit is not None for layer in network.layers)
    assert_integers_follow(network, digits)


@pytest.mark.torch
@pytest.mark.parametrize("newer", [False, True])
def test_pytorchs_exporters(newer: bool, tmp_path: Path) -> None:
    """With strides, normalisation, pooling before and behind the ReLU, dropout; of colours, normalised."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Dropout(),
        nn.Conv2d(6, 8, 4, stride=2, padding=1),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 3, 20),
        nn.ReLU(),
        nn.Linear(20, 5),
    )
    for norm in (part for part in model if isinstance(part, nn.BatchNorm2d)):
        norm.running_mean += torch.randn(6) / 10
        norm.running_var += torch.rand(6)
    model.eval()
    image, path = torch.zeros(2, 3, 16, 12), tmp_path / "model.onnx"
    if newer:
        batch = torch.export.Dim("batch")
        torch.onnx.export(model, (image,), path, dynamo=True, dynamic_shapes=({0: batch},), external_data=True)
    else:
        options: dict[str, Any] = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
        torch.onnx.export(model, (image,), path, dynamo=False, opset_version=13, **options)
    scaling = Scaling((0.5, 0.49, 0.48), (0.25, 0.24, 0.26))
    network = from_onnx(read_onnx(path), scaling)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 3 * 16 * 12), np.uint8)
    mean, std = (np.array(numbers).reshape(3, 1, 1) for numbers in (scaling.mean, scaling.std))
    images = (pixels.reshape(-1, 3, 16, 12) / 255 - mean) / std
    with torch.no_grad():
        expected = model(torch.tensor(images, dtype=torch.float32)).numpy()
    given = network.logits(real_inputs(network, pixels))
    inside = np.abs(given - expected)
    # The border is 0 here and 128 / 255 there, which differs by less than a hundredth.
    assert network.notes and inside.max() < 0.05 * np.abs(expected).max()
    assert network.layers[1].limit == 6
