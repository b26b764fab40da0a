"""Models of other libraries, imported: accuracy in float and in integers.

    python benchmarks/exporters.py --data-dir DIR --out MODELS
    python benchmarks/onnx_import.py MODELS --data-dir DIR

Needs the extras [onnx] and [fast]. Every MODELS/NAME.onnx, of which NAME.json knows what it was made by, goes through
`locallearn import`, calibrated with 1,000 training samples of MNIST. Writes results/onnx-import.md, a row a model: the
accuracy on the test set in onnxruntime, as the float network that was read from the file, and as the chip's integers.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from tables import save_table

from locallearn.host.cli import main

TABLE = Path(__file__).parent / "results" / "onnx-import.md"


def imported(model: Path, data_dir: Path) -> dict[str, Any]:
    """A row of the table."""
    known = json.loads(model.with_suffix(".json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "imported"
        scaling = ["--mean", str(known["mean"]), "--std", str(known["std"])]
        if main(["import", str(model), "-o", str(folder), "--data-dir", str(data_dir), *scaling]):
            raise SystemExit(1)
        report = json.loads((folder / "report.json").read_text())
    integers, origin = report["test_accuracy[%]"][-1], known["accuracy[%]"]
    return {
        "model": model.stem,
        "what it is": known["about"],
        "exporter": known["exporter"],
        "opset": report["opset"],
        "onnxruntime [%]": f"{origin:.2f}",
        "imported, float [%]": f"{report['float_accuracy[%]']:.2f}",
        "imported, integers [%]": f"{integers:.2f}",
        "lost [%]": f"{origin - integers:.2f}",
        "answers other than in float": report["other_answers"],
        "lowest SNR of activations [dB]": f"{min(layer['activation_snr'] for layer in report['layers']):.1f}",
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="the folder that exporters.py made")
    parser.add_argument("--data-dir", type=Path, required=True, help="where MNIST is")
    args = parser.parse_args()
    rows = [imported(model, args.data_dir) for model in sorted(args.models.glob("*.onnx"))]
    save_table(TABLE, list(rows[0]), 4, (row.values() for row in rows))


if __name__ == "__main__":
    run()
