"""The command line."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host import datasets
from locallearn.host.connect import connect
from locallearn.host.datasets import Dataset
from locallearn.host.device import ChipDevice
from locallearn.host.run import Run
from locallearn.host.terminal import Terminal, accuracies
from locallearn.host.train import train
from locallearn.host.verify import verify
from locallearn.quant.errors import DataError, DeviceError, InterruptedRun, LocalLearnError, Mismatch, RunError
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec, load_spec, preset_names

__all__ = ["main"]

Outcome = tuple[dict[str, Any], LocalLearnError | None]
"""A command's summary, and what makes it a failure all the same."""

Command = Callable[[argparse.Namespace, Terminal], Outcome]

_DEFAULT_DATA = {64: "digits", 784: "mnist"}
"""What a network of so many inputs trains on where no data set is named."""


def _load_data(args: argparse.Namespace, spec: NetworkSpec) -> Dataset:
    source = args.data or _DEFAULT_DATA.get(spec.input.size)
    if source is None:
        raise DataError(f"no data set has {spec.input.size} inputs by default: name one with --data")
    args.data = source
    data = datasets.load(source, args.data_dir)
    datasets.check(data, spec.input.size, spec.classes)
    return data


def _train(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    spec = load_spec(args.spec)
    if args.seed is not None:
        spec = replace(spec, training=replace(spec.training, seed=args.seed))
    data = _load_data(args, spec)
    run = Run.create(args.out) if args.out else Run.create_under(Path("runs"), spec.name)
    epochs = args.epochs or spec.training.epochs
    terminal.say(
        f"{spec.name}: {spec.input.size} inputs, layers of {', '.join(str(layer.neurons) for layer in spec.layers)}, "
        f"{spec.classes} classes; {len(data.train_x)} training samples of {data.name}, "
        f"{len(data.test_x)} held out ({data.held_out})"
    )
    with connect(spec, args.device, terminal.stage) as device:
        origin = {"data_source": args.data, "data_dir": args.data_dir and str(args.data_dir)}
        report = train(device, data, run, epochs, args.limit, terminal, origin)
    terminal.say(f"weights, metrics and report in {run.path}")
    if report["interrupted"]:
        return report, InterruptedRun(f"interrupted; everything learned until then is in {run.path}")
    if report["weights_equal_golden"] is False:
        return report, Mismatch(f"weights differ from the golden model's: {report['first_difference']}")
    if report["weights_equal_golden"]:
        terminal.say("all weights read back from the chip are equal to the golden model's")
    return report, None


def _eval(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    run = Run(args.folder)
    spec, weights = run.spec, run.weights()
    if args.data is None:
        # Only a run that came to its end says what it was trained on.
        report = run.report
        args.data = report.get("data_source")
        if args.data_dir is None and report.get("data_dir") is not None:
            args.data_dir = Path(report["data_dir"])
    data = _load_data(args, spec)
    with connect(spec, args.device, terminal.stage) as device:
        device.reset()
        device.write_weights(weights)
        results = device.stream(data.test_x, None, terminal.task("test", len(data.test_x)))
        name = device.name
    accuracy = results.accuracy(data.test_y)
    terminal.say(f"{len(results)} samples of {data.name}   {accuracies(accuracy)}")
    return {"device": name, "data": data.name, "samples": len(results), "test_accuracy[%]": accuracy}, None


def _verify(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    spec = load_spec(args.spec)
    if args.device == "model":
        raise DeviceError("verify compares a chip with the golden model: --device is sim or the address of a chip")
    if args.data is None:
        pixels, labels = _made_samples(spec, args.samples)
    else:
        data = _load_data(args, spec)
        pixels, labels = data.train_x[: args.samples], data.train_y[: args.samples]
    with connect(spec, args.device, terminal.stage) as device:
        assert isinstance(device, ChipDevice)
        summary = {"device": device.name} | verify(device, pixels, labels, terminal.task("verify", len(pixels)))
    if not summary["equal"]:
        return summary, Mismatch(f"chip and golden model differ: {summary['first_difference']}")
    terminal.say(
        f"{spec.name}: chip and golden model are equal after each of {summary['samples']} samples: "
        "events, scores, errors, weights, noise, counters"
    )
    return summary, None


def _made_samples(spec: NetworkSpec, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random samples of every density, from an empty image to one without a single zero."""
    rng = np.random.default_rng(spec.training.seed)
    pixels = rng.integers(1, 256, (count, spec.input.size))
    density = rng.random((count, 1)).round(1)
    kept = rng.random(pixels.shape) < density
    return (pixels * kept).astype(np.uint8), rng.integers(0, spec.classes, count)


def _generate(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.rtl.chip import Chip
    from locallearn.sim.export import to_rtlil, to_verilog

    spec = load_spec(args.spec)
    terminal.stage("writing RTL")
    text = (to_verilog if args.output.suffix == ".v" else to_rtlil)(Chip(spec))
    try:
        args.output.write_text(text)
    except OSError as error:
        raise RunError(f"{args.output}: cannot be written: {error.strerror}") from None
    plan = NetworkPlan(spec)
    terminal.say(
        f"{args.output}: module top, fingerprint {spec.fingerprint:08x}; {plan.weight_bits} bits of weights, "
        f"{plan.event_bits} of events; {plan.dense_cycles} cycles for a forward pass without a single zero"
    )
    return {
        "file": str(args.output),
        "fingerprint": f"{spec.fingerprint:08x}",
        "weight_memory[bits]": plan.weight_bits,
        "event_memory[bits]": plan.event_bits,
        "dense_cycles": plan.dense_cycles,
    }, None


def _data_fetch(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.host.fetch import fetch

    folder = fetch(args.name, args.data_dir, args.mirror)
    terminal.say(f"{args.name} is in {folder}")
    return {"name": args.name, "folder": str(folder)}, None


def _data_list(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    for name, description in datasets.NAMES.items():
        terminal.say(f"{name:14} {description}")
    return dict(datasets.NAMES), None


# -- arguments -------------------------------------------------------------------------------------------

_ANYWHERE = "sim (the RTL in Verilator), model (golden model), or a chip's port: /dev/ttyUSB0, socket://host:port"


class _Help(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they were typed; defaults are shown where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
            return f"{action.help} (default: %(default)s)"
        return action.help


def _whole(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < low:
            raise argparse.ArgumentTypeError(f"{text}: must be at least {low}")
        return int(text)

    number.__name__ = "whole number"  # as argparse names it in its errors
    return number


def _rtl_file(text: str) -> Path:
    if not text.endswith((".v", ".il")):
        raise argparse.ArgumentTypeError(f"{text}: must end in .v (Verilog) or .il (RTLIL)")
    return Path(text)


def _add_spec(command: argparse.ArgumentParser) -> None:
    presets = ", ".join(preset_names())
    command.add_argument(
        "spec", nargs="?", default="digits", metavar="PRESET|SPEC.toml", help=f"{presets}, or a file (default: digits)"
    )


def _add_data(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--data",
        metavar="NAME|DIR|FILE",
        help=f"{', '.join(datasets.NAMES)}; a folder of IDX, CIFAR, SVHN or STL-10 files; or an .npz with x and y "
        f"(default: {default})",
    )
    _add_data_dir(command, "where data sets are")


def _add_data_dir(command: argparse.ArgumentParser, text: str) -> None:
    folder = datasets.default_data_dir()
    command.add_argument("--data-dir", metavar="DIR", type=Path, help=f"{text} (default: {folder})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="locallearn",
        description="Train neural networks inside an FPGA.",
        formatter_class=_Help,
        epilog="exit codes: 0 done, 2 wrong arguments, 3 impossible description, 4 data, 5 missing or failed tool,\n"
        "6 device, 7 run folder, 8 chip and golden model differ, 130 interrupted\n\n"
        "example: locallearn train",
    )
    parser.add_argument("--version", action="version", version=metadata.version("locallearn"))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, text: str, example: str, parent: Any = commands) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = parent.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example: {example}",
            formatter_class=_Help,
        )
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="end with the summary as one line of JSON")
        return command

    command = add(
        "train",
        _train,
        "train a network, on the simulated chip unless told otherwise",
        "locallearn train mnist --data-dir ~/data --epochs 3",
    )
    _add_spec(command)
    _add_data(command, "digits for 64 inputs, mnist for 784")
    command.add_argument("--device", metavar="DEVICE", default="sim", help=_ANYWHERE)
    command.add_argument(
        "--epochs", type=_whole(1), metavar="N", help="passes over the data (default: the spec's decay has one each)"
    )
    command.add_argument("--limit", type=_whole(1), metavar="N", help="samples an epoch, at random (default: all)")
    command.add_argument(
        "--seed", type=_whole(0), metavar="N", help="of weights, classifiers, noise, order (default: the spec's)"
    )
    command.add_argument("--out", type=Path, metavar="RUN", help="a new folder (default: runs/NAME-DATE-TIME)")

    command = add(
        "eval", _eval, "measure a trained network's held-out accuracy", "locallearn eval runs/digits --device sim"
    )
    command.add_argument("folder", type=Path, metavar="RUN", help="a folder that train made")
    _add_data(command, "what the run was trained on")
    command.add_argument("--device", metavar="DEVICE", default="model", help=_ANYWHERE)

    command = add(
        "verify",
        _verify,
        "compare a chip with the golden model after every sample",
        "locallearn verify mnist --samples 5",
    )
    _add_spec(command)
    command.add_argument(
        "--samples", type=_whole(1), metavar="N", default=20, help="how many; every fourth goes without its label"
    )
    _add_data(command, "made at random")
    command.add_argument(
        "--device", metavar="DEVICE", default="sim", help="sim (the RTL in Verilator) or a chip's port"
    )

    command = add("generate", _generate, "write a network's RTL", "locallearn generate mnist -o mnist.v")
    _add_spec(command)
    command.add_argument(
        "-o", "--output", type=_rtl_file, required=True, metavar="FILE.v|FILE.il", help="Verilog or RTLIL"
    )

    data = commands.add_parser("data", help="list and download data sets", formatter_class=_Help)
    actions = data.add_subparsers(metavar="ACTION", required=True)
    add("list", _data_list, "list the data sets that are known by name", "locallearn data list", actions)
    command = add(
        "fetch", _data_fetch, "download a data set and check it", "locallearn data fetch fashion-mnist", actions
    )
    command.add_argument("name", metavar="NAME", help=", ".join(datasets.NAMES))
    _add_data_dir(command, "where to put it")
    command.add_argument("--mirror", metavar="URL", help="fetch from here instead of the publisher")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0 or that of the error, which stderr names in one line."""
    args = _parser().parse_args(arguments)
    try:
        with Terminal() as terminal:
            summary, error = args.run(args, terminal)
        if args.json:
            print(json.dumps(summary))
        if error is not None:
            raise error
    except LocalLearnError as error:
        print(f"locallearn: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("locallearn: interrupted", file=sys.stderr)
        return InterruptedRun.exit_code
    return 0
