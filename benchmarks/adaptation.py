"""A network that was trained elsewhere meets other images: it adapts on the simulated chip, from few samples.

    python benchmarks/exporters.py torch-mlp torch-conv --data-dir DIR --out MODELS
    python benchmarks/adaptation.py MODELS --data-dir DIR

Needs the extras [onnx], [fast] and [torch]. MODELS/torch-mlp and torch-conv have learned MNIST's upright digits, white
on black. They are imported, and learn from digits that are turned by 45 degrees, or are black on white: `locallearn
import`, `train --init`, `export`. The same float network learns from the same samples by backpropagation (Adam, batches
of 16, as many epochs; of three rates the one that is best on the test set). Writes results/adaptation.md, a row a
model, change and number of samples, as soon as it is known; rows that are there are not made again.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate
from tables import read_rows, save_table
from torch import Tensor, nn

from locallearn.host import datasets
from locallearn.host.cli import main
from locallearn.host.datasets import Dataset
from locallearn.host.device import ModelDevice
from locallearn.host.float_network import FloatNetwork
from locallearn.host.onnx_export import PIXELS
from locallearn.host.onnx_file import read_onnx
from locallearn.host.onnx_import import Scaling, from_onnx
from locallearn.host.quantise import real_inputs
from locallearn.host.run import Run
from locallearn.quant.fast import FastNetwork

TABLE = Path(__file__).parent / "results" / "adaptation.md"

TITLES = (
    *("model", "images", "samples", "epochs", "before [%]", "chip [%]", "backpropagation [%]"),
    *("upright, chip [%]", "upright, backpropagation [%]", "cycles a sample", "million cycles"),
)

RATES = (0.0003, 0.001, 0.003)

_SHOWN = 200
"""Test samples that the simulated chip sees after each epoch; all 10,000 are for its golden model, which is equal."""

Images = NDArray[np.uint8]


def turned(images: Images) -> Images:
    """By 45 degrees, counter-clockwise."""
    found = rotate(images.astype(np.float32), 45, (1, 2), reshape=False, order=1)
    return np.clip(np.round(found), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Images], Images]] = {
    "turned by 45 degrees": turned,
    "black on white": lambda images: (255 - images).astype(np.uint8),
}


class Network(nn.Module):
    """A float network of the importer's in PyTorch, of grey images; maps have their channels last in its weights."""

    def __init__(self, network: FloatNetwork) -> None:
        super().__init__()
        self._shape = network.shape if network.layers[0].window is not None else None
        parts: list[nn.Module] = []
        for layer, shape in zip(network.layers, network.maps(), strict=False):
            window = layer.window
            part: nn.Linear | nn.Conv2d = nn.Linear(layer.weights.shape[1], layer.neurons)
            weights = layer.weights
            if window is not None and shape is not None:
                part = nn.Conv2d(shape[2], layer.neurons, window.kernel, window.stride, window.border)
                weights = weights.reshape(layer.neurons, window.kernel, window.kernel, -1).transpose(0, 3, 1, 2)
            parts += [_filled(part, weights, layer.biases), nn.ReLU()]
            if window is not None and window.pool > 1:
                parts.append(nn.MaxPool2d(window.pool))
        parts.append(_filled(nn.Linear(*network.matrix.shape), network.matrix.T, network.biases))
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        if self._shape is not None:
            x = x.reshape(-1, *self._shape)
        for part in self.parts:
            if isinstance(part, nn.Linear) and x.ndim == 4:
                x = x.permute(0, 2, 3, 1).flatten(1)
            x = part(x)
        return x


def _filled(part: nn.Linear | nn.Conv2d, weights: NDArray[Any], biases: NDArray[Any]) -> nn.Module:
    assert part.bias is not None
    part.weight.data = torch.tensor(np.ascontiguousarray(weights), dtype=torch.float32)
    part.bias.data = torch.tensor(biases, dtype=torch.float32)
    return part


def backpropagation(
    network: FloatNetwork, pixels: Images, labels: NDArray[np.int64], epochs: int, rate: float
) -> Callable[[Images], NDArray[np.int64]]:
    """Returns what says the classes of pixels (n, size)."""
    torch.manual_seed(1)
    model = Network(network)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    x, y = torch.tensor(real_inputs(network, pixels)), torch.tensor(labels)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(16):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()

    @torch.no_grad()
    def predict(seen: Images) -> NDArray[np.int64]:
        logits = [model(part).argmax(1) for part in torch.tensor(real_inputs(network, seen)).split(500)]
        return torch.cat(logits).numpy()

    return predict


def command(*arguments: object) -> None:
    code = main([str(argument) for argument in arguments])
    if code:
        raise SystemExit(code)


def answers(run: Run, pixels: Images) -> NDArray[np.int64]:
    """Of the golden model."""
    with ModelDevice(run.spec, FastNetwork) as device:
        device.write_weights(run.weights())
        return device.stream(pixels, None).predicted[:, -1]


def adapt(
    model: Path, data: Dataset, data_dir: Path, change: str, samples: int, epochs: int, device: str
) -> dict[str, Any]:
    """A row of the table."""
    known = json.loads(model.with_suffix(".json").read_text())
    chosen = np.random.default_rng(1).permutation(len(data.train_x))[:samples]
    parts = {"x": data.train_x[chosen], "x_test": data.test_x}
    changed = {name: CHANGES[change](part.reshape(-1, 28, 28)) for name, part in parts.items()}
    labels = data.train_y[chosen]
    test, right = changed["x_test"].reshape(-1, 784), data.test_y
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scaling = ("--mean", known["mean"], "--std", known["std"])
        command("import", model, "-o", folder / "imported", *scaling, "--data-dir", data_dir)
        shown = {"x_test": changed["x_test"][:_SHOWN], "y_test": right[:_SHOWN]}
        np.savez(folder / "changed.npz", x=changed["x"], y=labels, **shown)
        wanted = ("--data", folder / "changed.npz", "--epochs", epochs, "--device", device)
        command("train", "--init", folder / "imported", *wanted, "--out", folder / "adapted")
        before, after = Run(folder / "imported"), Run(folder / "adapted")
        if after.report["weights_equal_golden"] is not True:
            raise SystemExit("the chip's weights are not the golden model's")
        predicted = answers(after, test)
        command("export", after.path, folder / "adapted.onnx")
        (exported,) = ort.InferenceSession(folder / "adapted.onnx").run(
            ["predicted"], {PIXELS: test.reshape(-1, 1, 28, 28)}
        )
        if (exported != predicted).any():
            raise SystemExit("the exported model's answers are not the golden model's")
        lines = [json.loads(line) for line in (after.path / "metrics.jsonl").read_text().splitlines()]
        cycles = sum(line["cycles_per_sample"] * line["samples"] for line in lines if line["samples"])
        accuracies = [100 * (given == right).mean() for given in (answers(before, test), predicted)]
        upright = 100 * (answers(after, data.test_x) == right).mean()
    network = from_onnx(read_onnx(model), Scaling((known["mean"],), (known["std"],)))
    rivals = [backpropagation(network, changed["x"].reshape(-1, 784), labels, epochs, rate) for rate in RATES]
    scores = [100 * (predict(test) == right).mean() for predict in rivals]
    best = int(np.argmax(scores))
    kept = 100 * (rivals[best](data.test_x) == right).mean()
    values = [model.stem, change, samples, epochs, *(f"{value:.2f}" for value in (*accuracies, scores[best]))]
    values += [f"{upright:.2f}", f"{kept:.2f}", f"{cycles / (samples * epochs):.0f}", f"{cycles / 1e6:.1f}"]
    return dict(zip(TITLES, values, strict=True))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="the folder with torch-mlp.onnx and torch-conv.onnx")
    parser.add_argument("--data-dir", type=Path, required=True, help="where MNIST is")
    parser.add_argument("--samples", type=int, nargs="+", default=[100, 300], help="to learn from (default: 100 300)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over them (default: 20)")
    parser.add_argument("--device", default="sim", help="as for locallearn train (default: sim)")
    parser.add_argument("--names", nargs="+", default=["torch-mlp", "torch-conv"], help="of the models (default: both)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = datasets.load("mnist", args.data_dir)
    rows = read_rows(TABLE)
    for name in args.names:
        for change in CHANGES:
            for samples in args.samples:
                if any(row[:4] == [name, change, str(samples), str(args.epochs)] for row in rows):
                    continue
                row = adapt(
                    args.models / f"{name}.onnx", data, args.data_dir, change, samples, args.epochs, args.device
                )
                rows.append([str(row[title]) for title in TITLES])
                save_table(TABLE, TITLES, 2, rows)


if __name__ == "__main__":
    run()
