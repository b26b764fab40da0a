"""The commands that take networks to ONNX and from there."""

import argparse
import json
import re
from typing import Any

from locallearn.host import datasets
from locallearn.host.commands import Outcome, data_source
from locallearn.host.connect import fastest_model
from locallearn.host.device import ModelDevice
from locallearn.host.extras import needing
from locallearn.host.files import Replacing
from locallearn.host.report import versions
from locallearn.host.run import Run
from locallearn.host.terminal import Terminal
from locallearn.quant.spec import NetworkSpec

__all__ = ["export_command", "import_command"]

_CALIBRATION = 1000
"""Samples, the first of a random order."""


def export_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    with needing("export", "onnx", "ONNX", "onnx"):
        from locallearn.host.onnx_export import to_onnx
        from locallearn.host.onnx_float import to_float_onnx

    run = Run(args.folder)
    spec, weights = run.spec, run.weights()
    made = (to_float_onnx if args.float else to_onnx)(spec, weights, args.layers, _origin(run, spec))
    with Replacing(args.model) as temporary:
        temporary.write_bytes(made.SerializeToString())
    (x,), outputs = ([end.name for end in ends] for ends in (made.graph.input, made.graph.output))
    terminal.say(f"{args.model}: from {x} to {', '.join(outputs)}; {made.ByteSize():,} bytes")
    return {"file": str(args.model), "input": x, "outputs": outputs, "bytes": made.ByteSize()}, None


def _origin(run: Run, spec: NetworkSpec) -> dict[str, str]:
    """Where a network comes from; a run that did not come to its end does not say how good it is."""
    known: dict[str, Any] = {
        "spec": spec.to_toml(),
        "fingerprint": f"{spec.fingerprint:08x}",
        "seed": spec.training.seed,
        "version": versions()["locallearn"],
    }
    if run.has_report:
        report = run.report
        known |= {name: report.get(name) for name in ("data", "held_out", "epochs", "test_accuracy[%]")}
    return {
        f"locallearn.{name}": value if isinstance(value, str) else json.dumps(value) for name, value in known.items()
    }


def import_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    with needing("import", "onnx", "ONNX", "onnx"):
        from locallearn.host.onnx_file import read_onnx
        from locallearn.host.onnx_import import Scaling, from_onnx
    # scikit-learn takes a second to import.
    from locallearn.host.quantise import quantise, real_inputs
    from locallearn.host.quantise_table import quantise_table

    file = read_onnx(args.model)
    network = from_onnx(file, Scaling(tuple(args.mean or (0.0,)), args.std and tuple(args.std)))
    args.calibration = data_source(args.calibration, network.size, "--calibration")
    data = datasets.load(args.calibration, args.data_dir)
    datasets.check_fit(data, network.size, network.shape, network.classes)
    run = Run.create(args.output)
    order = datasets.epoch_order(0, 0, len(data.train_x), _CALIBRATION)
    terminal.stage("calibrating")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", args.model.stem)
    made = quantise(network, name, data.train_x[order], data.train_y[order], args.weight_bits)
    run.save_spec(made.spec)
    run.save_weights(made.arrays)

    with ModelDevice(made.spec, fastest_model()) as device:
        device.write_weights(made.arrays)
        results = device.stream(data.test_x, None, terminal.task("test", len(data.test_x)))
    terminal.stage("testing in float")
    in_float = network.logits(real_inputs(network, data.test_x)).argmax(axis=1)
    report = {
        "spec": made.spec.name,
        "imported": str(args.model),
        "producer": file.producer,
        "opset": file.opset,
        "data": data.name,
        "data_source": args.calibration,
        "data_dir": args.data_dir and str(args.data_dir),
        "held_out": data.held_out,
        "seed": made.spec.training.seed,
        "epochs": 0,
        "float_accuracy[%]": round(float(100 * (in_float == data.test_y).mean()), 4),
        "test_accuracy[%]": results.accuracy(data.test_y),
        "other_answers": int((in_float != results.predicted[:, -1]).sum()),
        "notes": list(network.notes),
        "temperature": made.temperature,
        "score_snr": made.score_snr,
        "layers": [vars(layer) for layer in made.layers],
        "versions": versions(),
        "out": str(args.output),
    }
    run.save_report(report)
    terminal.say(
        f"{args.model}: by {file.producer}, opset {file.opset}; weights of {made.spec.weight.bits} bits, "
        f"{made.spec.weight.fraction} of them fraction; calibrated with {len(order)} training samples of {data.name}"
    )
    terminal.show(quantise_table(made.layers))
    terminal.say("scores: SNR " + ("unknown" if made.score_snr is None else f"{made.score_snr:.1f} dB"))
    for note in network.notes:
        terminal.say(f"note: {note}")
    if made.temperature != 1:
        terminal.say(f"note: the model's scores are {made.temperature:g} times the chip's: its classifier has no room")
    terminal.say(
        f"{len(results)} samples of {data.name} ({data.held_out}): float {report['float_accuracy[%]']:.2f} %, integers "
        f"{results.accuracy(data.test_y)[-1]:.2f} %; {report['other_answers']} answers are others"
    )
    terminal.say(f"spec.toml, weights.npz and report.json in {args.output}: eval, export and train --init take it")
    return report, None
