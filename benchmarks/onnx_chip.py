"""Exported networks in onnxruntime against the simulated chip, on whole test sets.

    python benchmarks/onnx_chip.py --data-dir DIR RUN [RUN ...]

RUN is a folder that `locallearn train` made. After each sample the chip is asked for all that it can show: the scores
and the answer of every layer, and what goes into each dense layer, which are the activations of the layer before it.
All must be the integers that the exported model gives in onnxruntime. (Between two convolutions the chip keeps
activations to itself; their scores follow from all of them.) Writes results/onnx-chip.md, a row a run, as soon as it is
done; runs that are there are left out. Ends with an error at the first integer that is another. `cifar10-conv` takes
most of an hour.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.progress import track

from locallearn.host import datasets
from locallearn.host.connect import connect
from locallearn.host.device import ChipDevice
from locallearn.host.onnx_export import PIXELS, to_onnx
from locallearn.host.run import Run
from locallearn.host.verify import read_events
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.registers import Kind

TABLE = Path(__file__).parent / "results" / "onnx-chip.md"
TITLES = ("run", "data", "samples", "integers compared, all equal", "cycles a sample")

_AT_ONCE = 256
"""Samples that onnxruntime takes."""


def shown(device: ChipDevice) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """All that the chip shows of the last sample, by the names of the exported model."""
    for plan in device.plan.layers:
        if plan.index and not isinstance(plan, ConvPlan):
            index, value = read_events(device, plan)[:-1].T
            activations = np.zeros(plan.inputs, np.int64)
            activations[index] = value
            below = device.plan.layers[plan.index - 1]
            if isinstance(below, ConvPlan):
                activations = activations.reshape(below.output_map).transpose(2, 0, 1)
            yield f"activations_{below.index}", activations
        yield f"scores_{plan.index}", device.read(plan.index, Kind.SCORES)[:, 0]


def compare(run: Run, data: datasets.Dataset) -> list[str]:
    """A row. Raises SystemExit at the first difference."""
    spec, weights = run.spec, run.weights()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(to_onnx(spec, weights, True, {}).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    images = data.test_x.reshape(-1, *(spec.input.shape or (spec.input.size,)))
    compared = 0
    with connect(spec, "sim", print) as device:
        assert isinstance(device, ChipDevice)
        device.reset()
        device.write_weights(weights)
        for at in track(range(len(images)), spec.name):
            if at % _AT_ONCE == 0:
                found = dict(zip(names, session.run(names, {PIXELS: images[at : at + _AT_ONCE]}), strict=True))
            predicted = device.stream(data.test_x[at : at + 1], None).predicted[0]
            given = dict(shown(device))
            # The last layer's answer is the network's, the others' their own.
            given |= {f"predicted_{index}": predicted[index] for index in range(len(predicted) - 1)}
            given["predicted"] = predicted[-1]
            for name, actual in given.items():
                expected = found[name][at % _AT_ONCE]
                compared += expected.size
                if not np.array_equal(expected, actual):
                    raise SystemExit(f"{run.path}: {name} of sample {at}: expected {expected}, actual {actual}")
        cycles = device.counters().cycles or 0
    return [run.path.name, data.name, str(len(images)), f"{compared:,}", f"{cycles / len(images):.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    for folder in args.runs:
        rows = [line.strip("| \n").split(" | ") for line in TABLE.open()][2:] if TABLE.exists() else []
        run = Run(folder)
        if any(row[0] == folder.name for row in rows):
            continue
        rows.append(compare(run, datasets.load(run.report["data_source"], args.data_dir)))
        lines = [list(TITLES), ["---"] * 2 + ["---:"] * (len(TITLES) - 2), *rows]
        TABLE.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


if __name__ == "__main__":
    main()
