"""ONNX files as other libraries write them: small networks that learn MNIST in PyTorch, Keras, scikit-learn and
Brevitas, by each one's own exporter, and some of the files quantised by onnxruntime.

    pip install '.[onnx]' onnxruntime
    pip install torch onnxscript                    # torch-*, and the files that ort-* quantises
    pip install brevitas onnxoptimizer              # brevitas-*; they need torch
    pip install scikit-learn skl2onnx               # sklearn-mlp
    pip install tensorflow-cpu keras tf2onnx        # keras-*
    python benchmarks/exporters.py --data-dir DIR --out MODELS
    python benchmarks/exporters.py torch-mlp ort-qdq --data-dir DIR --out MODELS --epochs 10

One environment does for all of them; these versions were tried: Python 3.11, torch 2.13.0, onnxscript 0.7.2, brevitas
0.13.4, onnxoptimizer 0.4.2, scikit-learn 1.9.1, skl2onnx 1.20.0, tensorflow-cpu 2.21.0, keras 3.15.1, tf2onnx 1.17.0,
onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.

Writes MODELS/NAME.onnx, where the exporter does so with NAME.onnx.data beside it, and MODELS/NAME.json: what is in the
file, what its input stands for, and its accuracy on the test set, in onnxruntime and before it was exported. A network
whose JSON file is there is not made again. What PyTorch learned is kept in MODELS/*.pt: two files are made of some. All
of it takes five minutes on one core.
"""

import argparse
import importlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from rich.console import Console
from rich.progress import track

from locallearn.host import datasets

# Each is imported where it is used: all but one may be missing.
if TYPE_CHECKING:
    import keras
    from torch import nn

SEED = 1
BATCH = 128
AT_ONCE = 500
"""Images of a run of a trained network."""

IMAGES, LOGITS = "images", "logits"

NAMED: dict[str, Any] = {
    "opset_version": 13,
    "input_names": [IMAGES],
    "output_names": [LOGITS],
    "dynamic_axes": {IMAGES: {0: "batch"}, LOGITS: {0: "batch"}},
}
"""What PyTorch's first exporter is told."""

PACKAGES = {"sklearn": "scikit-learn", "tensorflow": "tensorflow-cpu"}
"""What pip calls the libraries that Python calls otherwise."""


@dataclass(frozen=True)
class Made:
    """What only the library knows."""

    parameters: int  # that were learned
    accuracy: float  # percent, before the export


@dataclass(frozen=True)
class Network:
    """A file to be made."""

    about: str
    exporter: str
    libraries: tuple[str, ...]
    make: Callable[["Task"], Made]  # writes the file
    shape: tuple[int, ...] = (1, 28, 28)
    mean: float = 0.0
    std: float = 1.0
    epochs: int = 5
    source: str | None = None  # the network whose file this one is made from

    def inputs(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        numbers = (pixels.reshape(-1, *self.shape) / np.float32(255) - np.float32(self.mean)) / np.float32(self.std)
        return numbers.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Task:
    """A network, and what it is made of."""

    name: str
    network: Network
    data: datasets.Dataset
    folder: Path
    epochs: int

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.onnx"

    def training(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self.network.inputs(self.data.train_x), self.data.train_y

    def test(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Inputs and labels, some at once."""
        for at in range(0, len(self.data.test_x), AT_ONCE):
            yield self.network.inputs(self.data.test_x[at : at + AT_ONCE]), self.data.test_y[at : at + AT_ONCE]

    def batches(self) -> Iterable[NDArray[np.int64]]:
        """Which samples are learned from together."""
        size = len(self.data.train_x)
        orders = [datasets.epoch_order(SEED, epoch, size, None) for epoch in range(self.epochs)]
        parts = [order[at : at + BATCH] for order in orders for at in range(0, size, BATCH)]
        return track(parts, f"{self.name}: learns", transient=True)

    def accuracy(self, scores: Callable[[NDArray[np.float32]], NDArray[Any]]) -> float:
        """In percent, of a function that gives scores (n, classes) or answers (n,)."""
        right = 0
        for x, labels in self.test():
            found = scores(x)
            right += int(((found if found.ndim == 1 else found.argmax(axis=1)) == labels).sum())
        return round(100 * right / len(self.data.test_x), 2)


def mlp() -> "nn.Module":
    from torch import nn

    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.2)),
        nn.Linear(128, 10),
    )


def conv() -> "nn.Module":
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(1568, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )


def strided_conv() -> "nn.Module":
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Flatten(),
        *(nn.Linear(1568, 64), nn.ReLU()),
        nn.Linear(64, 10),
    )


def quantised_mlp() -> "nn.Module":
    """Its input and its biases stay in float."""
    from brevitas.nn import QuantLinear, QuantReLU
    from torch import nn

    return nn.Sequential(
        nn.Flatten(),
        *(QuantLinear(784, 128, weight_bit_width=8), QuantReLU(bit_width=8)),
        *(QuantLinear(128, 128, weight_bit_width=8), QuantReLU(bit_width=8)),
        QuantLinear(128, 10, weight_bit_width=8),
    )


def quantised_conv() -> "nn.Module":
    """Its input has 8 bits, the biases of its dense layers 32."""
    from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import Int32Bias, Uint8ActPerTensorFloat
    from torch import nn

    activation = partial(QuantReLU, bit_width=4, return_quant_tensor=True)
    convolution = partial(QuantConv2d, kernel_size=3, padding=1, bias=False, weight_bit_width=4)
    linear = partial(QuantLinear, bias_quant=Int32Bias, weight_bit_width=4)
    return nn.Sequential(
        QuantIdentity(Uint8ActPerTensorFloat, bit_width=8, return_quant_tensor=True),
        *(convolution(1, 16), nn.BatchNorm2d(16), activation(), nn.MaxPool2d(2)),
        *(convolution(16, 32), nn.BatchNorm2d(32), activation(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(linear(1568, 64), activation()),
        linear(64, 10),
    )


def with_torch(build: Callable[[], "nn.Module"], export: Callable[["nn.Module", Task], None], task: Task) -> Made:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    module = build()
    weights = task.folder / f"{build.__name__}.pt"
    if weights.exists():
        module.load_state_dict(torch.load(weights))
    else:
        learn(module, task)
        torch.save(module.state_dict(), weights)
    module.eval()
    with torch.no_grad():
        accuracy = task.accuracy(lambda x: module(torch.from_numpy(x)).numpy())
    export(module, task)
    return Made(sum(parameter.numel() for parameter in module.parameters()), accuracy)


def learn(module: "nn.Module", task: Task) -> None:
    import torch

    x, y = map(torch.from_numpy, task.training())
    optimiser = torch.optim.Adam(module.parameters())
    for batch in task.batches():
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
        optimiser.step()


def by_tracing(module: "nn.Module", task: Task, **options: Any) -> None:
    """PyTorch's first exporter, which most files come from."""
    import torch

    torch.onnx.export(module, example(task), task.path, dynamo=False, **NAMED, **options)


def by_tracing_unchanged(module: "nn.Module", task: Task) -> None:
    """Batch normalisations stay what they are."""
    from torch.onnx import TrainingMode

    by_tracing(module, task, training=TrainingMode.PRESERVE, do_constant_folding=False)


def by_dynamo(module: "nn.Module", task: Task) -> None:
    import torch

    torch.onnx.export(
        module,
        *(example(task), task.path),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[IMAGES],
        output_names=[LOGITS],
        verbose=False,
    )


def by_brevitas(module: "nn.Module", task: Task) -> None:
    from brevitas.export import export_onnx_qcdq

    export_onnx_qcdq(module, example(task), str(task.path), dynamo=False, **NAMED)


def example(task: Task) -> tuple[Any, ...]:
    """Two samples: PyTorch takes the batch of one for a constant."""
    import torch

    return (torch.from_numpy(task.network.inputs(task.data.test_x[:2])),)


def keras_mlp() -> "keras.Model":
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((784,), name=IMAGES),
            *(layers.Dense(128), layers.BatchNormalization(), layers.ReLU()),
            *(layers.Dense(64), layers.BatchNormalization(), layers.ReLU()),
            layers.Dense(10, activation="softmax"),
        ]
    )


def keras_conv() -> "keras.Model":
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((28, 28, 1), name=IMAGES),
            *(layers.Conv2D(16, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()),
            layers.MaxPooling2D(),
            *(layers.Conv2D(32, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def with_keras(build: Callable[[], "keras.Model"], export: Callable[["keras.Model", Task], None], task: Task) -> Made:
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(SEED)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = task.training()
    for batch in task.batches():
        model.train_on_batch(x[batch], y[batch])
    accuracy = task.accuracy(model.predict_on_batch)
    export(model, task)
    return Made(sum(int(np.prod(weight.shape)) for weight in model.trainable_weights), accuracy)


def by_tf2onnx(model: "keras.Model", task: Task) -> None:
    """Not by its `from_keras`, which fails with Keras 3: it looks for outputs by names that they no longer have."""
    import tensorflow as tf
    import tf2onnx

    signature = (tf.TensorSpec((None, *task.network.shape), tf.float32, name=IMAGES),)
    called = tf.function(lambda images: model(images, training=False), input_signature=signature)
    tf2onnx.convert.from_function(called, signature, output_path=str(task.path))


def by_keras(model: "keras.Model", task: Task) -> None:
    """Calls tf2onnx."""
    model.export(str(task.path), format="onnx", verbose=False)


def with_sklearn(task: Task) -> Made:
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    x, y = task.training()
    model = MLPClassifier((128, 64), batch_size=BATCH, random_state=SEED)
    with threadpool_limits(1):
        for _ in track(range(task.epochs), f"{task.name}: learns", transient=True):
            model.partial_fit(x, y, classes=range(task.data.classes))
        accuracy = task.accuracy(model.predict)
    onnx.save(to_onnx(model, x[:1]), task.path)
    return Made(sum(array.size for array in (*model.coefs_, *model.intercepts_)), accuracy)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Training images, one by one."""

    def __init__(self, task: Task, images: int = 500) -> None:
        self._images = iter(task.network.inputs(task.data.train_x[:images]))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {IMAGES: image[None]}


def with_onnxruntime(options: dict[str, Any], task: Task) -> Made:
    """Quantises another network's file."""
    source = task.folder / f"{task.network.source}.onnx"
    quantize_static(source, task.path, Calibration(task), **options)
    known = json.loads(source.with_suffix(".json").read_text())
    return Made(known["parameters"], known["accuracy[%]"])


TRACED, DYNAMO = "torch.onnx.export(dynamo=False)", "torch.onnx.export(dynamo=True)"
QCDQ, STATIC = "brevitas.export.export_onnx_qcdq", "onnxruntime.quantization.quantize_static"

NORMALISED: dict[str, Any] = {"mean": 0.1307, "std": 0.3081}

QDQ = {"quant_format": QuantFormat.QDQ}
QOPERATOR = {
    "quant_format": QuantFormat.QOperator,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
}

NETWORKS = {
    "torch-mlp": Network(
        "784-128-128-10 with dropout",
        *(TRACED, ("torch",), partial(with_torch, mlp, by_tracing)),
        **NORMALISED,
    ),
    "torch-mlp-dynamo": Network(
        "the weights of torch-mlp, by the newer exporter",
        *(DYNAMO, ("torch", "onnxscript"), partial(with_torch, mlp, by_dynamo)),
        **NORMALISED,
    ),
    "torch-conv": Network(
        "two convolutions with batch normalisation, which stays a node, and pooling; 64-10",
        *(TRACED, ("torch",), partial(with_torch, conv, by_tracing_unchanged)),
        epochs=3,
    ),
    "torch-conv-dynamo": Network(
        "the weights of torch-conv, by the newer exporter",
        *(DYNAMO, ("torch", "onnxscript"), partial(with_torch, conv, by_dynamo)),
        epochs=3,
    ),
    "torch-conv-normalized": Network(
        "a convolution with pooling, one of stride 2, batch normalisation folded into both; 64-10",
        *(TRACED, ("torch",), partial(with_torch, strided_conv, by_tracing)),
        **NORMALISED,
        epochs=3,
    ),
    "keras-mlp": Network(
        "784-128-64-10 with batch normalisation and softmax",
        *("tf2onnx.convert.from_function", ("tensorflow", "keras", "tf2onnx")),
        partial(with_keras, keras_mlp, by_tf2onnx),
        shape=(784,),
    ),
    "keras-conv": Network(
        "two convolutions, channels last, with batch normalisation and pooling; 64-10 with softmax",
        *("keras.Model.export(format='onnx')", ("tensorflow", "keras", "tf2onnx")),
        partial(with_keras, keras_conv, by_keras),
        shape=(28, 28, 1),
        epochs=3,
    ),
    "sklearn-mlp": Network(
        "784-128-64-10, which answers by class and probabilities",
        *("skl2onnx.to_onnx", ("sklearn", "skl2onnx"), with_sklearn),
        shape=(784,),
    ),
    "brevitas-mlp": Network(
        "784-128-128-10 with weights and activations of 8 bits",
        *(QCDQ, ("torch", "brevitas", "onnxoptimizer"), partial(with_torch, quantised_mlp, by_brevitas)),
    ),
    "brevitas-conv": Network(
        "two convolutions with batch normalisation and pooling; 64-10; weights and activations of 4 bits, input of 8",
        *(QCDQ, ("torch", "brevitas", "onnxoptimizer"), partial(with_torch, quantised_conv, by_brevitas)),
        epochs=2,
    ),
    "ort-qdq": Network(
        "torch-mlp with 8 bits as QuantizeLinear and DequantizeLinear",
        *(STATIC, ("onnxruntime",), partial(with_onnxruntime, QDQ)),
        **NORMALISED,
        source="torch-mlp",
    ),
    "ort-qoperator": Network(
        "torch-conv-normalized with 8 bits as QLinearConv and the like",
        *(STATIC, ("onnxruntime",), partial(with_onnxruntime, QOPERATOR)),
        **NORMALISED,
        epochs=3,
        source="torch-conv-normalized",
    ),
    "ort-qoperator-mlp": Network(
        "torch-mlp with 8 bits as QGemm",
        *(STATIC, ("onnxruntime",), partial(with_onnxruntime, QOPERATOR)),
        **NORMALISED,
        source="torch-mlp",
    ),
}


def measure(task: Task) -> float:
    """The file's accuracy in onnxruntime, by the first of its outputs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # Without its warnings: Brevitas lists constants among the inputs.
    options.log_severity_level = 3
    session = ort.InferenceSession(task.path, options)
    (images,) = session.get_inputs()
    return task.accuracy(lambda x: session.run(None, {images.name: x})[0])


def record(task: Task, made: Made) -> dict[str, Any]:
    """What its JSON file says."""
    network = task.network
    model = onnx.load(task.path, load_external_data=False)
    return {
        "name": task.name,
        "about": network.about,
        "exporter": network.exporter,
        "versions": {library: importlib.import_module(library).__version__ for library in network.libraries},
        "opset": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "ir_version": model.ir_version,
        "operators": [f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node],
        "parameters": made.parameters,
        "input_shape": network.shape,
        "mean": network.mean,
        "std": network.std,
        "epochs": task.epochs,
        "seed": SEED,
        "accuracy[%]": measure(task),
        "library_accuracy[%]": made.accuracy,
    }


def left_out(network: Network, folder: Path) -> str | None:
    """Why a network cannot be made."""
    missing = [library for library in network.libraries if find_spec(library) is None]
    if missing:
        return f"pip install {' '.join(PACKAGES.get(library, library) for library in missing)}"
    if network.source and not (folder / f"{network.source}.json").exists():
        return f"it is made from {network.source}"
    return None


def with_sources(names: Iterable[str]) -> list[str]:
    """Each behind the network that it is made from."""
    return list(dict.fromkeys(each for name in names for each in (NETWORKS[name].source, name) if each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NETWORKS)}")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="MODELS")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: 5, of convolutions 3 or 2")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NETWORKS]:
        parser.error(f"{', '.join(unknown)}: needed are some of {', '.join(NETWORKS)}")
    # Of exporters that are on their way out, and of libraries that none of these needs.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    data = datasets.load("mnist", args.data_dir)
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    for name in with_sources(args.names or NETWORKS):
        network, file = NETWORKS[name], args.out / f"{name}.json"
        if file.exists():
            console.print(f"{name}: is there")
        elif reason := left_out(network, args.out):
            console.print(f"{name} left out: {reason}")
        else:
            begun = time.monotonic()
            task = Task(name, network, data, args.out, args.epochs or network.epochs)
            found = record(task, network.make(task))
            file.write_text(json.dumps(found, indent=1) + "\n")
            console.print(
                f"{name}: {found['accuracy[%]']} % in onnxruntime, {found['library_accuracy[%]']} % before, "
                f"{time.monotonic() - begun:.0f} s"
            )


if __name__ == "__main__":
    main()
