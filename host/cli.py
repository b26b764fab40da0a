"""The command line: what can be asked for, and how it ends."""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from locallearn.host import commands, commands_doctor, commands_onnx, datasets
from locallearn.host.commands import Outcome
from locallearn.host.link import DEFAULT_BAUD
from locallearn.host.plots import FORMATS
from locallearn.host.terminal import Terminal
from locallearn.host.train import CHECKPOINT_EVERY
from locallearn.quant.errors import InterruptedRun, LocalLearnError
from locallearn.quant.spec import preset_names

__all__ = ["main"]

Command = Callable[[argparse.Namespace, Terminal], Outcome]

_Add = Callable[..., argparse.ArgumentParser]
"""Makes a command's parser: name, function, help, example, and the parent where it is an action of another."""

_ANYWHERE = (
    "sim (the RTL in Verilator), model (the golden model, compiled where numba is installed), "
    "numpy (the same in NumPy), or a chip's port: /dev/ttyUSB0, socket://host:port"
)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they were typed; defaults are shown where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action.default, tuple):
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
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


def _number(needed: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text}: needed is {needed}")
        return value

    return number


_frequency = _number("a number of MHz above 0", lambda value: 0 < value < inf)
_rate = _number("a number above 0", lambda value: 0 < value < inf)
_real = _number("a number", isfinite)
_odds = _number("a number that is at least 1", lambda value: 1 <= value < inf)


def _setting(text: str) -> tuple[str, Any]:
    path, _, value = text.partition("=")
    try:
        (parsed,) = tomllib.loads(f"value = {value}").values()
    except ValueError:  # not TOML, or more than one value
        raise argparse.ArgumentTypeError(
            f"{text}: needed is PATH=VALUE with a value of TOML: training.seed=3, training.decay='[0, 1]', "
            "weight='{ bits = 8, fraction = 7 }', name='\"mine\"'"
        ) from None
    return path, parsed


def _frozen(text: str) -> tuple[str, str]:
    """As `_setting` would say it."""
    found = re.fullmatch(r"([0-9]+)(:weights)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: needed is a layer's number, such as 0, the first, or 0:weights")
    return f"layers.{int(found[1])}.frozen", "weights" if found[2] else "all"


def _rtl_file(text: str) -> Path:
    if not text.endswith((".v", ".il")):
        raise argparse.ArgumentTypeError(f"{text}: must end in .v (Verilog) or .il (RTLIL)")
    return Path(text)


def _onnx_file(text: str) -> Path:
    if not text.endswith(".onnx"):
        raise argparse.ArgumentTypeError(f"{text}: must end in .onnx")
    return Path(text)


def _add_spec(command: argparse.ArgumentParser, default: str = "digits") -> None:
    presets = ", ".join(preset_names())
    command.add_argument(
        "spec", nargs="?", metavar="PRESET|SPEC.toml", help=f"{presets}, or a file (default: {default})"
    )
    command.add_argument(
        "--set",
        type=_setting,
        action="append",
        metavar="PATH=VALUE",
        help="another value in the description, as often as wanted: --set layers.0.lanes=64 "
        "--set 'layers.*.score_shift=3' --set training.decay='[0,1,2]'",
    )


def _add_data(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--data",
        metavar="NAME|DIR|FILE",
        help=f"{', '.join(datasets.NAMES)}; a folder of IDX, CIFAR, SVHN or STL-10 files; or an .npz with x and y "
        f"(default: {default})",
    )
    _add_data_dir(command, "where data sets are")


def _add_device(command: argparse.ArgumentParser, default: str | None, text: str) -> None:
    command.add_argument("--device", metavar="DEVICE", default=default, help=text)
    _add_baud(command)


def _add_baud(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--baud",
        type=_whole(1),
        metavar="N",
        default=DEFAULT_BAUD,
        help="rate of a serial port: its board's, which `locallearn boards` lists",
    )


def _add_data_dir(command: argparse.ArgumentParser, text: str) -> None:
    folder = datasets.default_data_dir()
    command.add_argument("--data-dir", metavar="DIR", type=Path, help=f"{text} (default: {folder})")


def _add_run(command: argparse.ArgumentParser) -> None:
    """A trained network, what it is tested on, and where."""
    command.add_argument("folder", type=Path, metavar="RUN", help="a folder that train made")
    _add_data(command, "what the run was trained on, with what it held out")
    _add_device(command, "model", _ANYWHERE)


def _add_samples(command: argparse.ArgumentParser) -> None:
    command.add_argument("--limit", type=_whole(1), metavar="N", help="samples an epoch, at random (default: all)")
    command.add_argument(
        "--validation",
        type=_whole(1),
        metavar="N",
        help="hold out the last N training samples instead of the test part, which is not looked at",
    )


def _add_network_commands(add: _Add) -> None:
    """What is done with one network."""
    command = add(
        "train",
        commands.train_command,
        "train a network, on the simulated chip unless told otherwise",
        "locallearn train mnist --data-dir ~/data --epochs 3",
    )
    _add_spec(command, "digits, or that of --init")
    _add_data(command, "digits for 64 inputs, mnist for 784")
    _add_device(command, None, f"{_ANYWHERE} (default: sim, or that of --resume)")
    command.add_argument(
        "--epochs", type=_whole(1), metavar="N", help="passes over the data (default: the spec's decay has one each)"
    )
    command.add_argument(
        "--seed", type=_whole(0), metavar="N", help="of weights, classifiers, noise, order (default: the spec's)"
    )
    command.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="begin with another run's weights: of the same input, formats and layers, and the same seed unless all "
        "classifiers are learned",
    )
    command.add_argument(
        "--freeze",
        type=_frozen,
        nargs="+",
        metavar="LAYER[:weights]",
        help="layers that learn nothing, or only their learned classifiers: --freeze 0 1:weights",
    )
    _add_samples(command)
    command.add_argument("--out", type=Path, metavar="RUN", help="a new folder (default: runs/NAME-DATE-TIME)")
    command.add_argument(
        "--checkpoint",
        type=_whole(1),
        metavar="N",
        default=CHECKPOINT_EVERY,
        help="samples after which the run saves where it is; it does at an epoch's end as well",
    )
    command.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that was interrupted or killed, in its folder; with it go --device, which may be "
        "another, --baud and --checkpoint alone: --resume runs/digits-20261121-160000",
    )

    command = add(
        "eval",
        commands.eval_command,
        "measure a trained network's held-out accuracy",
        "locallearn eval runs/digits --device sim",
    )
    _add_run(command)
    command.add_argument(
        "--exit-layer", type=_whole(0), metavar="N", help="let this layer answer: no sample goes further"
    )
    command.add_argument(
        "--exit-odds",
        type=_odds,
        metavar="X",
        help="let the first layer answer to which the best class is X times as likely as the second",
    )

    command = add(
        "exits",
        commands.exits_command,
        "measure what a trained network loses and saves where samples stop at the first layer that is sure",
        "locallearn exits runs/mnist --device sim",
    )
    _add_run(command)
    command.add_argument(
        "--odds",
        type=_odds,
        nargs="+",
        metavar="X",
        default=tuple(2**power for power in range(11)),
        help="best class against second, for a layer to be sure",
    )
    command.add_argument(
        "--lose", type=_rate, metavar="PCT", default=0.1, help="accuracy that may be lost by the odds to choose"
    )

    command = add(
        "export",
        commands_onnx.export_command,
        "write a trained network as ONNX: integers that every runtime computes as the chip does",
        "locallearn export runs/digits digits.onnx",
    )
    command.add_argument("folder", type=Path, metavar="RUN", help="a folder that train made")
    command.add_argument("model", type=_onnx_file, metavar="MODEL.onnx", help="the file")
    command.add_argument("--layers", action="store_true", help="with the outputs of every layer and its classifier")
    command.add_argument(
        "--float", action="store_true", help="in float, the numbers that the integers stand for: to go on in PyTorch"
    )

    command = add(
        "import",
        commands_onnx.import_command,
        "make a network for the chip of an ONNX model, float or quantised: dense layers and convolutions with ReLU",
        "locallearn import model.onnx -o imported --mean 0.1307 --std 0.3081",
    )
    command.add_argument("model", type=_onnx_file, metavar="MODEL.onnx", help="the file")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="SPEC_DIR", help="a new folder, as of a run"
    )
    command.add_argument(
        "--calibration",
        metavar="NAME|DIR|FILE",
        help="as for train --data: training samples choose the units, held-out ones show the accuracy (default: "
        "digits for 64 inputs, mnist for 784, cifar10 for 3072)",
    )
    _add_data_dir(command, "where data sets are")
    command.add_argument(
        "--mean",
        type=_real,
        nargs="+",
        metavar="M",
        help="the model takes (pixel / 255 - M) / S (default: 0); one, or one a channel",
    )
    command.add_argument(
        "--std", type=_rate, nargs="+", metavar="S", help="the same (default: 1; of a model that takes bytes 1 / 255)"
    )
    command.add_argument(
        "--weight-bits", type=int, choices=range(8, 17), metavar="N", default=12, help="of the chip's weights, 8 to 16"
    )

    command = add(
        "verify",
        commands.verify_command,
        "compare a chip with the golden model after every sample",
        "locallearn verify mnist --samples 5",
    )
    _add_spec(command)
    command.add_argument(
        "--samples", type=_whole(1), metavar="N", default=20, help="how many; every fourth goes without its label"
    )
    _add_data(command, "made at random")
    _add_device(command, "sim", "sim (the RTL in Verilator) or a chip's port")

    command = add(
        "doctor",
        commands_doctor.doctor_command,
        "examine a chip: its link, its memories, what its layers make of some samples",
        "locallearn doctor /dev/ttyUSB0",
    )
    command.add_argument("url", nargs="?", metavar="URL", default="sim", help="sim (default) or a chip's port")
    command.add_argument(
        "--network",
        metavar="PRESET|SPEC.toml",
        help="what it was built from; by default the preset with its fingerprint, of sim digits",
    )
    _add_baud(command)

    command = add(
        "generate", commands.generate_command, "write a network's RTL", "locallearn generate mnist -o mnist.v"
    )
    _add_spec(command)
    command.add_argument(
        "-o", "--output", type=_rtl_file, required=True, metavar="FILE.v|FILE.il", help="Verilog or RTLIL"
    )


def _add_board_commands(add: _Add) -> None:
    """What brings a network onto an FPGA."""
    command = add(
        "estimate",
        commands.estimate_command,
        "say whether a network fits a board and how fast it is there, before anything is built",
        "locallearn estimate mnist --board ulx3s-85f --set layers.0.lanes=64",
    )
    _add_spec(command)
    command.add_argument("--board", metavar="NAME", help="one that `locallearn boards` lists (default: all of them)")
    command.add_argument("--clock", type=_frequency, metavar="MHZ", help="of the chip (default: the board's)")
    _add_activity(command)

    command = add(
        "build",
        commands.build_command,
        "build a board's bitstream, with yosys and nextpnr; the same command again goes on where it was",
        "locallearn build mnist --board ulx3s-85f",
    )
    _add_spec(command)
    _add_board(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="of all files (default: builds/NAME-BOARD)")
    command.add_argument(
        "--seed", type=_whole(1), metavar="N", default=1, help="of place and route: another one, another clock"
    )
    command.add_argument("--clock", type=_frequency, metavar="MHZ", help="of the chip (default: the board's)")

    command = add(
        "program",
        commands.program_command,
        "load a bitstream into a board, with openFPGALoader",
        "locallearn program --board ulx3s-85f builds/mnist-ulx3s-85f",
    )
    _add_board(command)
    command.add_argument("folder", type=Path, metavar="DIR", help="a folder that build made")

    add("boards", commands.boards_command, "list the boards, with the presets that fit", "locallearn boards")


def _add_activity(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--activity",
        type=Path,
        metavar="RUN",
        help="a folder that train made: samples are as in its last epoch (default: as counted on MNIST or digits)",
    )


def _add_board(command: argparse.ArgumentParser) -> None:
    command.add_argument("--board", required=True, metavar="NAME", help="one that `locallearn boards` lists")


def _add_study_commands(add: _Add) -> None:
    """What compares many, or shows what came out."""
    command = add(
        "bench",
        commands.bench_command,
        "measure training speed: models, simulated chip and PyTorch in one run",
        "locallearn bench mnist --data-dir ~/data",
    )
    _add_spec(command)
    _add_data(command, "digits for 64 inputs, mnist for 784")
    command.add_argument("--samples", type=_whole(1), metavar="N", help="of an epoch, at random (default: all)")
    command.add_argument("--rounds", type=_whole(1), metavar="N", default=5, help="turns of each; the median counts")
    command.add_argument("--no-sim", action="store_true", help="without the simulated chip, which takes long to build")

    command = add(
        "reference",
        commands.reference_command,
        "train float networks by the chip's rule and its rivals; the same command again goes on where it was",
        "locallearn reference mnist --layers 1000 1000 1000 --epochs 20 --data-dir ~/data",
    )
    command.add_argument(
        "data", nargs="?", default="digits", metavar="NAME|DIR|FILE", help="as for train --data (default: digits)"
    )
    _add_data_dir(command, "where data sets are")
    network = command.add_mutually_exclusive_group()
    network.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        default=("128", "128"),
        help="128 is a dense layer, conv32 a convolution of 5 x 5 with 32 channels and 2 x 2 max pooling",
    )
    network.add_argument(
        "--network",
        metavar="PRESET|SPEC.toml",
        help="layers, inputs and augmentation of the images as a network for the chip has them",
    )
    command.add_argument("--rules", nargs="+", metavar="RULE", help="local, backprop, dfa ... (default: all)")
    command.add_argument("--seeds", type=_whole(1), metavar="N", default=5, help="1 to N")
    command.add_argument("--epochs", type=_whole(1), metavar="N", default=10, help="passes over the data")
    command.add_argument("--batch", type=_whole(1), metavar="N", default=64, help="samples an update")
    command.add_argument(
        "--rate", type=_rate, metavar="R", default=0.003, help="of Adam at the start; it falls to 0 as a cosine does"
    )
    _add_samples(command)
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="of the runs (default: references/DATA-LAYERS or DATA-SPECNAME)"
    )

    command = add(
        "traffic",
        commands.traffic_command,
        "count the words that a training sample moves: backpropagation, local errors, and the chip",
        "locallearn traffic mnist --activity runs/mnist",
    )
    _add_spec(command)
    _add_activity(command)
    command.add_argument(
        "--batch", type=_whole(1), metavar="N", default=1, help="samples an update, but for the chip: its is 1"
    )

    command = add(
        "sweep",
        commands.sweep_command,
        "train with every combination of values, on all cores; the same command again goes on where it was",
        "locallearn sweep bits.toml --jobs 4",
    )
    command.add_argument("file", type=Path, metavar="SWEEP.toml", help="what to vary")
    command.add_argument("--out", type=Path, metavar="DIR", help="of trials and tables (default: sweeps/NAME)")
    command.add_argument("--jobs", type=_whole(1), metavar="N", help="processes (default: one a core)")
    command.add_argument(
        "--storage",
        metavar="URL",
        help="a database that several machines share, postgresql://... or mysql://... (default: a file in DIR)",
    )
    _add_data_dir(command, "where data sets are")

    command = add(
        "plot",
        commands.plot_command,
        "draw learning curves, confusion matrices and trade-offs",
        "locallearn plot runs/digits",
    )
    command.add_argument("folder", type=Path, metavar="RUN|SWEEP", help="a folder that train or sweep made")
    command.add_argument("--out", type=Path, metavar="DIR", help="for the pictures (default: the folder itself)")
    command.add_argument("--format", choices=FORMATS, default="svg", help="of the files")


def _add_data_commands(add: _Add, subparsers: Any) -> None:
    data = subparsers.add_parser("data", help="list and download data sets", formatter_class=_Help)
    actions = data.add_subparsers(metavar="ACTION", required=True)
    add(
        "list", commands.data_list_command, "list the data sets that are known by name", "locallearn data list", actions
    )
    command = add(
        "fetch",
        commands.data_fetch_command,
        "download a data set and check it",
        "locallearn data fetch fashion-mnist",
        actions,
    )
    command.add_argument("name", metavar="NAME", help=", ".join(datasets.NAMES))
    _add_data_dir(command, "where to put it")
    command.add_argument("--mirror", metavar="URL", help="fetch from here instead of the publisher")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="locallearn",
        description="Train neural networks inside an FPGA.",
        formatter_class=_Help,
        epilog="exit codes: 0 done, 2 wrong arguments, 3 impossible description, 4 data, 5 missing or failed tool,\n"
        "6 device, 7 run folder, 8 chip and golden model differ, 9 build, 10 model file, 130 interrupted\n\n"
        "example: locallearn train",
    )
    parser.add_argument("--version", action="version", version=metadata.version("locallearn"))
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, text: str, example: str, parent: Any = subparsers) -> argparse.ArgumentParser:
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

    _add_network_commands(add)
    _add_board_commands(add)
    _add_study_commands(add)
    _add_data_commands(add, subparsers)
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
