"""The commands, from their arguments to what they print and return."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.fpga.estimate_activity import Activity, counted, expected
from locallearn.host import datasets
from locallearn.host.augment import check as check_images
from locallearn.host.checkpoint import newest_checkpoint, remove_checkpoints
from locallearn.host.connect import connect
from locallearn.host.datasets import Dataset
from locallearn.host.device import ChipDevice, Device
from locallearn.host.extras import needing
from locallearn.host.initial import initial_weights
from locallearn.host.run import Run
from locallearn.host.stop import terminable
from locallearn.host.terminal import Terminal, accuracies
from locallearn.host.train import resume, train
from locallearn.host.verify import verify
from locallearn.quant import machine
from locallearn.quant.errors import (
    BuildError,
    DataError,
    DeviceError,
    InterruptedRun,
    LocalLearnError,
    Mismatch,
    RunError,
    SpecError,
    UsageError,
)
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec, load_spec, preset_names

__all__ = [
    "Outcome",
    "bench_command",
    "boards_command",
    "build_command",
    "data_fetch_command",
    "data_list_command",
    "data_source",
    "estimate_command",
    "eval_command",
    "exits_command",
    "generate_command",
    "plot_command",
    "program_command",
    "reference_command",
    "sweep_command",
    "traffic_command",
    "train_command",
    "verify_command",
]

Outcome = tuple[dict[str, Any], LocalLearnError | None]
"""A command's summary, and what makes it a failure all the same."""

_DEFAULT_DATA = {64: "digits", 784: "mnist", 3072: "cifar10"}
"""What a network of so many inputs trains on where no data set is named."""

_RUNS_OWN = {
    "spec": "PRESET|SPEC.toml",
    "set": "--set",
    "data": "--data",
    "data_dir": "--data-dir",
    "epochs": "--epochs",
    "seed": "--seed",
    "init": "--init",
    "freeze": "--freeze",
    "limit": "--limit",
    "validation": "--validation",
    "out": "--out",
}
"""What `train` takes and a run that goes on has already."""


def _load_spec(args: argparse.Namespace) -> NetworkSpec:
    return load_spec(args.spec or "digits").replaced(dict(args.set or ()))


@contextmanager
def _connect(args: argparse.Namespace, spec: NetworkSpec, terminal: Terminal) -> Iterator[Device]:
    with connect(spec, args.device, terminal.stage, args.baud) as device:
        if device.name == "numpy" and args.device == "model":
            terminal.say("numba is not installed (pip install 'locallearn[fast]'): the slow NumPy model")
        yield device


def data_source(named: str | None, size: int, option: str = "--data") -> str:
    """The data set that is named, or the one that networks of so many inputs take by default."""
    source = named or _DEFAULT_DATA.get(size)
    if source is None:
        raise DataError(f"no data set has {size} inputs by default: name one with {option}")
    return source


def _load_data(args: argparse.Namespace, spec: NetworkSpec) -> Dataset:
    args.data = data_source(args.data, spec.input.size)
    data = datasets.load(args.data, args.data_dir)
    datasets.check(data, spec)
    return data


def train_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    if args.resume is not None:
        return _resume(args, terminal)
    before = args.init and Run(args.init)
    described = before.spec if before and args.spec is None else load_spec(args.spec or "digits")
    seed = {} if args.seed is None else {"training.seed": args.seed}
    spec = described.replaced(dict(args.set or ()) | dict(args.freeze or ()) | seed)
    initial = initial_weights(before, spec) if before else None
    data = _load_data(args, spec)
    check_images(data.shape, spec.training.augment)
    if args.validation is not None:
        data = datasets.validation(data, args.validation)
    run = Run.create(args.out) if args.out else Run.create_under(Path("runs"), spec.name)
    epochs = args.epochs or spec.training.epochs
    terminal.say(
        f"{spec.name}: {spec.input.size} inputs, layers of {', '.join(str(layer.neurons) for layer in spec.layers)}, "
        f"{spec.classes} classes; {len(data.train_x)} training samples of {data.name}, "
        f"{len(data.test_x)} held out ({data.held_out})"
        + (f"; begins with the weights of {args.init}" if args.init else "")
    )
    args.device = args.device or "sim"
    with _connect(args, spec, terminal) as device:
        origin = {
            "data_source": args.data,
            "data_dir": args.data_dir and str(args.data_dir),
            "validation": args.validation,
            "init": args.init and str(args.init),
        }
        report = train(device, data, run, epochs, args.limit, terminal, origin, initial, args.checkpoint)
    return _trained(report, run, terminal)


def _resume(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    given = [option for name, option in _RUNS_OWN.items() if getattr(args, name) is not None]
    if given:
        raise UsageError(f"--resume goes on as the run began: leave out {', '.join(given)}")
    run = Run(args.resume)
    if run.has_report and run.report.get("interrupted") is False:
        # They are there still if it was killed as it came to its end.
        remove_checkpoints(run.path)
        terminal.say(f"{run.path} is complete")
        return run.report, None
    checkpoint, damaged = newest_checkpoint(run.path)
    for line in damaged:
        terminal.say(f"{line}; the other one is used")
    spec, origin = run.spec, checkpoint.origin
    data = datasets.load(origin["data_source"], origin["data_dir"] and Path(origin["data_dir"]))
    if origin["validation"] is not None:
        data = datasets.validation(data, origin["validation"])
    checkpoint.check(run, data)
    terminal.say(
        f"{spec.name}: goes on in epoch {min(checkpoint.epoch + 1, checkpoint.epochs)} of {checkpoint.epochs}, "
        f"after {checkpoint.under_way.samples} of its samples"
    )
    args.device = args.device or checkpoint.device
    with _connect(args, spec, terminal) as device:
        report = resume(device, data, run, checkpoint, terminal, args.checkpoint)
    return _trained(report, run, terminal)


def _trained(report: dict[str, Any], run: Run, terminal: Terminal) -> Outcome:
    terminal.say(f"weights, metrics and report in {run.path}")
    if report["interrupted"]:
        again = f"`locallearn train --resume {run.path}` goes on"
        return report, InterruptedRun(f"interrupted; everything learned until then is in {run.path}, {again}")
    if report["weights_equal_golden"] is False:
        return report, Mismatch(f"weights differ from the golden model's: {report['first_difference']}")
    if report["weights_equal_golden"]:
        terminal.say("all weights read back from the chip are equal to the golden model's")
    return report, None


def _load_run(args: argparse.Namespace) -> tuple[Run, NetworkSpec, list[NDArray[np.int32]], Dataset]:
    """A run, its description and weights, and what it held out or the data that are named."""
    run = Run(args.folder)
    spec, weights = run.spec, run.weights()
    held_out = None
    if args.data is None:
        # Only a run that came to its end says what it was trained on.
        report = run.report
        args.data = report.get("data_source")
        held_out = report.get("validation")
        if args.data_dir is None and report.get("data_dir") is not None:
            args.data_dir = Path(report["data_dir"])
    data = _load_data(args, spec)
    return run, spec, weights, data if held_out is None else datasets.validation(data, held_out)


def eval_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    _, spec, weights, data = _load_run(args)
    exits = args.exit_layer is not None or args.exit_odds is not None
    if exits:
        spec = replace(spec, early_exit=True)
    with _connect(args, spec, terminal) as device:
        device.reset()
        device.write_weights(weights)
        if exits:
            device.set_exits(device.plan.exits(args.exit_layer, args.exit_odds))
        results = device.stream(data.test_x, None, terminal.task("test", len(data.test_x)))
        cycles = device.counters().cycles if exits else None
        name = device.name
    accuracy = results.accuracy(data.test_y)
    summary = {
        "device": name,
        "data": data.name,
        "held_out": data.held_out,
        "samples": len(results),
        "test_accuracy[%]": accuracy,
    }
    if not exits:
        terminal.say(f"{len(results)} samples of {data.name} ({data.held_out})   {accuracies(accuracy)}")
        return summary, None
    answered = results.shares(len(spec.layers))
    per_sample = None if cycles is None else round(cycles / len(results), 2)
    terminal.say(
        f"{len(results)} samples of {data.name} ({data.held_out})   held out: {accuracy[-1]:.2f} %"
        + "".join(f"   by layer {layer} {share:.1f} %" for layer, share in enumerate(answered))
        + ("" if per_sample is None else f"   {per_sample:.1f} cycles/sample")
    )
    return summary | {"answered[%]": answered, "cycles_per_sample": per_sample}, None


def exits_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.host.exits import best_point, exit_table, measure_exits

    run, spec, weights, data = _load_run(args)
    if len(spec.layers) == 1:
        raise SpecError(f"{spec.name}: has a single layer, early exit needs two at least")
    with _connect(args, replace(spec, early_exit=True), terminal) as device:
        device.reset()
        device.write_weights(weights)
        points = measure_exits(device, data, args.odds, terminal)
        measured = {"device": device.name, "data": data.name, "held_out": data.held_out, "samples": len(data.test_x)}
    best, whole = best_point(points, args.lose), points[-1]
    terminal.say(f"{spec.name}: {len(data.test_x)} samples of {data.name} ({data.held_out})")
    terminal.show(exit_table(points))
    if best.odds is None:
        terminal.say(f"at none of these odds no more than {args.lose:g} % of accuracy is lost")
    else:
        saved = [f"{_saved(best.words, whole.words)} of the weights read"]
        if best.cycles and whole.cycles and best.latency and whole.latency:
            saved.append(f"{_saved(best.cycles, whole.cycles)} of the cycles")
            saved.append(f"{_saved(best.latency, whole.latency)} of the latency")
        terminal.say(f"no more than {args.lose:g} % lost: --exit-odds {best.odds:g} saves {', '.join(saved)}")
    measured |= {"points": [asdict(point) for point in points], "best": asdict(best)}
    run.save_exits(measured)
    terminal.say(f"exits.json in {run.path}")
    return measured, None


def _saved(best: float, whole: float) -> str:
    return f"{100 * (1 - best / whole):.1f} %"


def verify_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    spec = _load_spec(args)
    if args.device in ("model", "numpy"):
        raise DeviceError("verify compares a chip with the golden model: --device is sim or the address of a chip")
    if args.data is None:
        pixels, labels = _made_samples(spec, args.samples)
    else:
        data = _load_data(args, spec)
        pixels, labels = data.train_x[: args.samples], data.train_y[: args.samples]
    with _connect(args, spec, terminal) as device:
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
    return np.where(kept, pixels, spec.input.zero).astype(np.uint8), rng.integers(0, spec.classes, count)


def bench_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.host.bench import bench
    from locallearn.host.bench_table import speed_table

    spec = _load_spec(args)
    data = _load_data(args, spec)
    report = bench(spec, data, args.samples, args.rounds, not args.no_sim, stage=terminal.stage)
    terminal.say(
        f"{spec.name}, layers of {', '.join(map(str, report['neurons']))}: second epoch of {data.name}, after a first "
        f"one of {report['warm_up[samples]']} samples; rounds: {args.rounds}, the median counts; {report['processor']}"
    )
    terminal.show(speed_table(report))
    for name, install in report["not_installed"].items():
        terminal.say(f"{name} is not installed: {install}")
    return report, None


def generate_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.rtl.linked import LinkedChip
    from locallearn.sim.export import to_rtlil, to_verilog

    spec = _load_spec(args)
    terminal.stage("writing RTL")
    text = (to_verilog if args.output.suffix == ".v" else to_rtlil)(LinkedChip(spec))
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


def sweep_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    with needing("sweep", "optuna", "Optuna", "sweep"):
        from locallearn.host.sweep import run_sweep
        from locallearn.host.sweep_spec import load_sweep
        from locallearn.host.sweep_store import local_storage
        from locallearn.host.sweep_worker import Work

    sweep = load_sweep(args.file)
    out = args.out or Path("sweeps") / sweep.name
    storage = args.storage or local_storage(out)
    job = Work(sweep, data_source(sweep.data, sweep.spec.input.size), args.data_dir, out, storage)
    summary = run_sweep(job, args.file, args.jobs or machine.cores(), terminal)
    terminal.say(f"trials.csv, summary.csv and the runs in {out}")
    if summary["interrupted"]:
        done = f"{summary['ended']} of {summary['trials']} trials"
        return summary, InterruptedRun(f"interrupted; {done} are in {out}, the same command goes on")
    if summary["failed"]:
        first, message = next(iter(summary["failed"].items()))
        count = f"{len(summary['failed'])} of {summary['trials']} trials"
        return summary, RunError(f"{count} failed, the same command tries them again; trial {first:04d}: {message}")
    return summary, None


def reference_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    with needing("reference", "torch", "PyTorch", "torch"):
        from locallearn.host.references import Study, run_study, study_summary, study_table
        from locallearn.reference.hidden import layer_of
        from locallearn.reference.rules import RULES

    spec = None if args.network is None else load_spec(args.network)
    data = datasets.load(args.data, args.data_dir)
    if spec is not None:
        datasets.check(data, spec)
    if args.validation is not None:
        data = datasets.validation(data, args.validation)
    layers = tuple(map(layer_of, args.layers))
    study = Study(data.name, data.held_out, args.limit, layers, args.epochs, args.batch, args.rate)
    if spec is not None:
        study = study.with_network(spec)
    out = args.out or Path("references") / study.name
    seeds = range(1, args.seeds + 1)
    try:
        with terminable():
            runs = run_study(study, data, args.rules or list(RULES), seeds, out, terminal)
    except KeyboardInterrupt:
        raise InterruptedRun(f"interrupted; runs that are over are in {out}, the same command goes on") from None
    rows = study_summary(runs)
    terminal.show(study_table(rows))
    terminal.say(f"{data.name}, {data.held_out}, {study.epochs} epochs; runs.jsonl in {out}")
    return {"study": study.settings, "rows": rows}, None


def plot_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.host.plots import plot

    terminal.stage("drawing")
    drawn = plot(args.folder, args.out or args.folder, args.format)
    for line in [*map(str, drawn.files), *drawn.notes]:
        terminal.say(line)
    return {"files": [str(path) for path in drawn.files], "notes": drawn.notes}, None


def _activity(args: argparse.Namespace, plan: NetworkPlan) -> tuple[Activity, dict[str, Any] | None]:
    """What samples are like, and the counters of the run that says so, if one does."""
    if args.activity is None:
        return expected(plan), None
    report = Run(args.activity).report
    return counted(plan, report, str(args.activity)), report["counters"]


def estimate_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.fpga.boards import BOARDS, find_board
    from locallearn.fpga.estimate import estimate
    from locallearn.fpga.estimate_fit import check_fit
    from locallearn.host.estimate_table import choice_table, resource_table, speed_table

    spec = _load_spec(args)
    activity, _ = _activity(args, NetworkPlan(spec))
    terminal.say(f"{spec.name}, estimated; samples as {activity.source}")
    if args.board is None:
        estimates = [estimate(spec, board, args.clock, activity) for board in BOARDS.values()]
        terminal.show(choice_table(estimates))
        return {found.board.name: found.figures() for found in estimates}, None
    found = estimate(spec, find_board(args.board), args.clock, activity)
    terminal.show(resource_table(found))
    terminal.show(speed_table(found))
    try:
        check_fit(found)
    except BuildError as error:
        return found.figures(), error
    return found.figures(), None


def traffic_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.host.traffic import traffic_rows, traffic_table

    spec = _load_spec(args)
    plan = NetworkPlan(spec)
    activity, counters = _activity(args, plan)
    rows = traffic_rows(plan, activity, args.batch, counters)
    terminal.say(f"{spec.name}, words and operations; samples as {activity.source}")
    terminal.show(traffic_table(rows))
    return {"activity": activity.source, "rows": {name: asdict(row) for name, row in rows.items()}}, None


def build_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.fpga.boards import find_board
    from locallearn.fpga.build import build
    from locallearn.host.build_table import build_table

    spec, board = _load_spec(args), find_board(args.board)
    out = args.out or Path("builds") / f"{spec.name}-{board.name}"
    try:
        with terminable():
            report = build(spec, board, out, terminal, args.clock, args.seed)
    except KeyboardInterrupt:
        raise InterruptedRun(f"interrupted; what is done is in {out}, the same command goes on") from None
    terminal.show(build_table(report))
    terminal.say(
        f"{spec.name} on {board.title} at {report.clock.wanted:g} MHz, of {report.clock.achieved:.2f} MHz possible; "
        f"{report.bitstream} and report.json in {out}"
    )
    speed = report.expected
    terminal.say(
        f"expected of samples as {speed.activity.source}: {speed.train:,.0f} a second learned from on the chip, "
        f"{speed.link:,.0f} over its serial port"
    )
    return report.figures(), None


def program_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.fpga.boards import find_board
    from locallearn.fpga.program import program

    board = find_board(args.board)
    terminal.stage(f"loading {board.name}")
    bitstream = program(board, args.folder)
    train = f"locallearn train {args.folder / 'spec.toml'} --device /dev/ttyUSB0 --baud {board.baud}"
    terminal.say(f"{board.title} has {bitstream}; train it with `{train}`, or whatever its port is called")
    return {"board": board.name, "bitstream": str(bitstream)}, None


def boards_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.fpga.boards import BOARDS
    from locallearn.fpga.estimate import estimate
    from locallearn.host.build_table import boards_table

    presets = [load_spec(name) for name in preset_names()]
    fitting = {name: [spec.name for spec in presets if estimate(spec, board).fits] for name, board in BOARDS.items()}
    terminal.show(boards_table(BOARDS.values(), fitting))
    return {
        name: {
            "title": board.title,
            "part": board.part,
            "fitting": fitting[name],
            "capacity": asdict(board.capacity),
            "clock[mhz]": board.clock_mhz,
            "link[baud]": board.baud,
        }
        for name, board in BOARDS.items()
    }, None


def data_fetch_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    from locallearn.host.fetch import fetch

    folder = fetch(args.name, args.data_dir, args.mirror)
    terminal.say(f"{args.name} is in {folder}")
    return {"name": args.name, "folder": str(folder)}, None


def data_list_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    for name, description in datasets.NAMES.items():
        terminal.say(f"{name:14} {description}")
    return dict(datasets.NAMES), None
