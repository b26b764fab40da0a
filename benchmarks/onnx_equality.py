"""Exported networks in onnxruntime against the golden model: every output of every layer, on whole test sets.

    python benchmarks/onnx_equality.py --data-dir DIR RUN [RUN ...]

RUN is a folder that `locallearn train` made. At batch 1 and 256 all activations, scores and answers must be the
compiled golden model's, and those of the file in float are counted where they differ. Writes results/onnx.md, a row a
run and batch; ends with an error at the first integer that is another.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from rich.progress import track

from locallearn.host import datasets
from locallearn.host.onnx_export import PIXELS, to_onnx
from locallearn.host.onnx_float import IMAGES, to_float_onnx
from locallearn.host.run import Run
from locallearn.quant import classifier
from locallearn.quant.conv import average
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.fast import FastNetwork
from locallearn.quant.network import quantise_pixels

TABLE = Path(__file__).parent / "results" / "onnx.md"

_AT_ONCE = 512
"""Samples of which all activations are held."""

Arrays = dict[str, NDArray[Any]]


def golden_outputs(model: FastNetwork, matrices: list[NDArray[Any]], x: NDArray[Any]) -> Arrays:
    """By the names that the exported model has."""
    batch, found = model.run(x), {}
    for plan, matrix, activations in zip(model.plan.layers, matrices, batch.activations, strict=True):
        index, wide = plan.index, activations.astype(np.int64)
        features, shown = wide, activations
        if isinstance(plan, ConvPlan):
            features = np.array([average(plan, one) for one in wide])
            shown = activations.reshape(-1, *plan.output_map).transpose(0, 3, 1, 2)
        scores = classifier.scores(plan, matrix, features)
        found |= {f"activations_{index}": shown, f"scores_{index}": scores}
        found[f"predicted_{index}"] = scores.argmax(axis=1)
    if model.spec.sum_scores:
        below, last = model.plan.layers[-2:]
        scores = classifier.summed(last, scores, below, found[f"scores_{below.index}"])
    return found | {"scores": scores, "predicted": batch.predicted[:, -1]}


def compare(run: Run, data: datasets.Dataset, batch: int) -> dict[str, Any]:
    """Raises SystemExit at the first difference."""
    spec, weights = run.spec, run.weights()
    model = FastNetwork(spec)
    model.weights = weights
    arrays = dict(zip(model.plan.arrays, weights, strict=True))
    matrices = [classifier.matrix(plan, arrays.get(f"classifier_{plan.index}")) for plan in model.plan.layers]
    made = to_onnx(spec, weights, layers=True, metadata={})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(made, path)
        onnx.checker.check_model(path, full_check=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(path, options)
    in_float = ort.InferenceSession(to_float_onnx(spec, weights, False, {}).SerializeToString(), options)
    x = quantise_pixels(spec, data.test_x)
    images = data.test_x.reshape(-1, *(spec.input.shape or (spec.input.size,)))
    drop = np.uint8(8 - spec.input.bits)
    numbers = (images >> drop).astype(np.float32) - (128 >> drop if spec.input.signed else 0)
    numbers /= np.float32(2.0**spec.input.fraction)
    names = [output.name for output in session.get_outputs()]
    integers = other = right = 0
    seconds = 0.0
    for begin in track(range(0, len(x), _AT_ONCE), f"{spec.name}, batch {batch}"):
        expected = golden_outputs(model, matrices, x[begin : begin + _AT_ONCE])
        for at in range(begin, min(begin + _AT_ONCE, len(x)), batch):
            end = min(at + batch, begin + _AT_ONCE)
            since = time.perf_counter()
            found = session.run(names, {PIXELS: images[at:end]})
            seconds += time.perf_counter() - since
            for name, actual in zip(names, found, strict=True):
                wanted = expected[name][at - begin : end - begin]
                integers += wanted.size
                if not np.array_equal(wanted, actual):
                    where = tuple(int(axis[0]) for axis in np.nonzero(wanted != actual))
                    raise SystemExit(
                        f"{run.path}: {name}{where} of samples {at} to {end - 1}: expected {wanted[where]}, "
                        f"actual {actual[where]}"
                    )
            answers = expected["predicted"][at - begin : end - begin]
            (logits,) = in_float.run(["logits"], {IMAGES: numbers[at:end]})
            other += int((logits.argmax(axis=1) != answers).sum())
            right += int((answers == data.test_y[at:end]).sum())
    return {
        "run": run.path.name,
        "data": data.name,
        "samples": len(x),
        "batch": batch,
        "accuracy [%]": f"{100 * right / len(x):.2f}",
        "integers compared, all equal": f"{integers:,}",
        "answers that differ in float": other,
        "samples/s, one thread": f"{len(x) / seconds:,.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    rows = []
    for folder in args.runs:
        run = Run(folder)
        data = datasets.load(run.report["data_source"], args.data_dir)
        rows += [compare(run, data, batch) for batch in (1, 256)]
    head = f"| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}\n"
    text = "".join(f"| {' | '.join(map(str, row.values()))} |\n" for row in rows)
    TABLE.write_text(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}.\n\n{head}{text}")
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
