"""Cycles a sample: what `locallearn estimate` says of some networks, against the simulated chip.

    python benchmarks/cycles.py --data-dir DIR

DIR is a folder with MNIST in DIR/mnist. Weights are those that the model has learned before, then the chip learns from
2,000 samples, and infers as many. Writes results/cycles.json (what was counted) and results/cycles.md (the comparison).
What is in results/cycles.json is not simulated again; each network takes a minute or two.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from locallearn.fpga.estimate_activity import counted
from locallearn.fpga.estimate_cycles import ChipCycles, estimate_cycles
from locallearn.host import datasets
from locallearn.host.connect import fastest_model
from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.host.link import Link
from locallearn.host.report import counter_figures
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec, load_spec
from locallearn.rtl.linked import LinkedChip
from locallearn.rtl.target import GENERIC, SINGLE_PORT, Target
from locallearn.sim.design import SIMULATED_LINK_BYTES
from locallearn.sim.export import to_verilog
from locallearn.sim.simulated import SimulatedChip

RECORDS = Path(__file__).parent / "results" / "cycles.json"
TABLE = RECORDS.with_suffix(".md")

SAMPLES = 2000
LEARNED_BEFORE = (500, 60000)
"""Samples: at first most leave something to learn, later few do."""


def preset(name: str, *layers: tuple[int, int]) -> NetworkSpec:
    """With layers of other neurons and lanes."""
    spec = load_spec(name)
    table = [{"neurons": neurons, "lanes": lanes, "score_shift": 2} for neurons, lanes in layers]
    return spec.replaced({"layers": table}) if table else spec


NETWORKS = [
    (preset("digits"), GENERIC),
    (preset("digits"), SINGLE_PORT),
    (preset("digits", (64, 64)), GENERIC),
    (preset("digits", (100, 3), (40, 5)), SINGLE_PORT),
    (preset("mnist-small"), GENERIC),
    (preset("mnist-small", (64, 16)), GENERIC),
    (preset("mnist-small", (48, 48)), GENERIC),
    (preset("mnist-small", (56, 28)), GENERIC),
    (preset("mnist-small"), SINGLE_PORT),
    (preset("mnist"), GENERIC),
    (preset("mnist", (128, 32), (128, 8)), GENERIC),
    (preset("mnist", (128, 32), (100, 16), (60, 7)), GENERIC),
]


def count(spec: NetworkSpec, target: Target, data_dir: Path) -> list[dict[str, Any]]:
    """The counters of a chip, for each of LEARNED_BEFORE."""
    data = datasets.load("digits" if spec.input.size == 64 else "mnist", data_dir)
    records = []
    with (
        SimulatedChip(to_verilog(LinkedChip(spec, target, SIMULATED_LINK_BYTES))) as chip,
        ChipDevice(spec, Link(chip.url)) as device,
        ModelDevice(spec, fastest_model()) as model,
    ):
        for before in LEARNED_BEFORE:
            order = np.random.default_rng(before).integers(0, len(data.train_x), before + SAMPLES)
            pixels, labels = data.train_x[order], data.train_y[order]
            model.reset()
            model.stream(pixels[:before], labels[:before])
            device.reset()
            device.write_weights(model.read_weights())
            record = {"spec": spec.to_toml(), "target": target.name, "learned_before": before}
            for what, given in (("train", labels[before:]), ("infer", None)):
                device.clear_counters()
                device.stream(pixels[before:], given)
                record[what] = counter_figures(device.counters())
            records.append(record)
    return records


def measure(data_dir: Path) -> list[dict[str, Any]]:
    """Of all networks; those that are there already are taken from RECORDS."""
    records: list[dict[str, Any]] = json.loads(RECORDS.read_text()) if RECORDS.exists() else []
    done = {(record["spec"], record["target"]) for record in records}
    for spec, target in NETWORKS:
        if (spec.to_toml(), target.name) not in done:
            print(f"{spec.name}: {lanes(spec)} lanes, {target.name}", flush=True)
            records += count(spec, target, data_dir)
            RECORDS.write_text(json.dumps(records, indent=1) + "\n")
    return records


def lanes(spec: NetworkSpec) -> str:
    return ", ".join(f"{layer.neurons}/{layer.lanes}" for layer in spec.layers)


def table(records: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| network | neurons / lanes | weights | learned before | learned from | train | infer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in records:
        spec = NetworkSpec.from_toml(record["spec"])
        single_port = record["target"] == SINGLE_PORT.name
        cells = [spec.name, lanes(spec), "one port" if single_port else "two ports", str(record["learned_before"])]
        cells.append(", ".join(f"{100 * layer['learned'] / SAMPLES:.0f} %" for layer in record["train"]["layers"]))
        for what in ("train", "infer"):
            estimated = getattr(estimate(spec, single_port, record[what]), what)
            actual = record[what]["cycles"] / SAMPLES
            cells.append(f"{estimated:.1f} / {actual:.1f} ({100 * (estimated / actual - 1):+.1f} %)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def estimate(spec: NetworkSpec, single_port: bool, counters: dict[str, Any]) -> ChipCycles:
    plan = NetworkPlan(spec)
    return estimate_cycles(plan, counted(plan, {"counters": counters}, "counters"), single_port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=datasets.default_data_dir())
    records = measure(parser.parse_args().data_dir)
    TABLE.write_text(f"Cycles a sample, estimated from what was counted / counted.\n\n{table(records)}")


if __name__ == "__main__":
    main()
