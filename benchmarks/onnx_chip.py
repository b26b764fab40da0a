"""Exported networks in onnxruntime against the simulated chip, on whole test sets.

    python benchmarks/onnx_chip.py --data-dir DIR RUN [RUN ...]
    python benchmarks/onnx_chip.py --data-dir DIR --stride 16 RUN [RUN ...]

RUN is a folder that `locallearn train` made. Of each sample the chip says the answer of every layer. After each one, or
after each 16th, it is asked for all that it can show: the scores of every layer, and what goes into each dense layer,
which are the activations of the layer before it. All must be the integers that the exported model gives in onnxruntime.
(Between two convolutions the chip keeps activations to itself; their scores follow from all of them.) In between,
layers work on different samples at the same time, which is quicker. Keeps its place in results/onnx-chip/, a file a
run: the same command again goes on. Writes results/onnx-chip.md, a row a run. Ends with an error at the first integer
that is another.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.progress import track
from tables import save_table

from locallearn.host import datasets
from locallearn.host.connect import connect
from locallearn.host.device import ChipDevice
from locallearn.host.files import write_record
from locallearn.host.onnx_export import PIXELS, to_onnx
from locallearn.host.run import Run
from locallearn.host.verify import read_events
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.registers import Kind

TABLE = Path(__file__).parent / "results" / "onnx-chip.md"
PLACES = TABLE.with_suffix("")
TITLES = ("run", "data", "samples", "with all scores", "integers compared, all equal", "cycles a sample")


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


def compare(run: Run, data: datasets.Dataset, stride: int) -> None:
    """Goes on where it was, and keeps its place. Raises SystemExit at the first difference."""
    spec, weights, place = run.spec, run.weights(), PLACES / f"{run.path.name}.json"
    done = {"data": data.name, "samples": 0, "of": len(data.test_x), "with all scores": 0, "integers": 0, "cycles": 0}
    if place.exists():
        done = json.loads(place.read_text())
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(to_onnx(spec, weights, True, {}).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    images = data.test_x.reshape(-1, *(spec.input.shape or (spec.input.size,)))
    if done["samples"] == len(images):
        return
    with connect(spec, "sim", print) as device:
        assert isinstance(device, ChipDevice)
        device.reset()
        device.write_weights(weights)
        for at in track(range(done["samples"], len(images), stride), spec.name):
            part = slice(at, at + stride)
            found = dict(zip(names, session.run(names, {PIXELS: images[part]}), strict=True))
            device.clear_counters()
            predicted = device.stream(data.test_x[part], None).predicted
            # The last layer's answer is the network's, the others' their own.
            given = {f"predicted_{index}": predicted[:, index] for index in range(len(spec.layers) - 1)}
            given["predicted"] = predicted[:, -1]
            pairs = [(name, found[name], actual) for name, actual in given.items()]
            pairs += [(name, found[name][-1], actual) for name, actual in shown(device)]
            for name, expected, actual in pairs:
                done["integers"] += expected.size
                if not np.array_equal(expected, actual):
                    raise SystemExit(f"{run.path}: {name} from sample {at} on: expected {expected}, actual {actual}")
            done["samples"] += len(predicted)
            done["with all scores"] += 1
            done["cycles"] += device.counters().cycles
            write_record(place, done)


def save() -> None:
    """The table, of all runs that there are."""
    rows = []
    for place in sorted(PLACES.glob("*.json")):
        done = json.loads(place.read_text())
        samples = f"{done['samples']} of {done['of']}" if done["samples"] < done["of"] else str(done["samples"])
        cycles = f"{done['cycles'] / done['samples']:.0f}"
        rows.append([place.stem, done["data"], samples, str(done["with all scores"]), f"{done['integers']:,}", cycles])
    save_table(TABLE, TITLES, 2, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--stride", type=int, default=1, help="samples from one with all scores to the next (default: 1)"
    )
    args = parser.parse_args()
    PLACES.mkdir(exist_ok=True)
    for folder in args.runs:
        run = Run(folder)
        compare(run, datasets.load(run.report["data_source"], args.data_dir), args.stride)
    save()


if __name__ == "__main__":
    main()
