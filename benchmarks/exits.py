"""Early exit on MNIST: what is saved at no more than 0.1 % of accuracy lost, five seeds a network.

    python benchmarks/exits.py --data-dir DIR

Every network learns from 50,000 training samples on the compiled model. The odds are chosen on the last 10,000: those
that read fewest weights and lose no more than LOSE. Then the test set is inferred with these odds and without any exit,
on the simulated chip where it is small enough to be simulated. Writes results/exits.jsonl, a run a line, where what is
there is not done again, and results/exits.md.
"""

import argparse
import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rules import learn

from locallearn.host import datasets
from locallearn.host.connect import fastest_model
from locallearn.host.device import ChipDevice, Device, ModelDevice
from locallearn.host.exits import best_point, measure_exits
from locallearn.host.link import Link
from locallearn.host.train import Display
from locallearn.quant.spec import NetworkSpec, load_spec
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip

HERE = Path(__file__).parent
RECORDS = HERE / "results" / "exits.jsonl"
SEEDS = range(1, 6)
ODDS = [2.0**power for power in range(11)]
LOSE = 0.1

_LAYER = {"neurons": 128, "score_shift": 2}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "784-128-128, 64 and 16 lanes": ("mnist", {}),
    "784-128-128, 64 and 4 lanes": ("mnist", {"layers.1.lanes": 4}),
    "784-128-128-128, 64, 4 and 4 lanes": (
        "mnist",
        {"layers": [_LAYER | {"lanes": 64}, _LAYER | {"lanes": 4}, _LAYER | {"lanes": 4}]},
    ),
    "784-1024-1024-1024": (str(HERE / "networks" / "mnist-3x1024.toml"), {}),
}
COSTS = {"words": "weights read", "cycles": "cycles", "latency": "latency [cycles]"}
SIMULATED = list(NETWORKS)[:3]


def network(name: str, seed: int) -> NetworkSpec:
    preset, changes = NETWORKS[name]
    return load_spec(preset).replaced({"early_exit": True, "training.seed": seed, **changes})


def measure(name: str, seed: int, whole: datasets.Dataset) -> dict[str, Any]:
    """Of one run: the odds, and the test set with them and without."""
    spec, chosen_on = network(name, seed), datasets.validation(whole, 10_000)
    with ExitStack() as stack:
        model = stack.enter_context(ModelDevice(spec, fastest_model()))
        learn(model, chosen_on)
        odds = best_point(measure_exits(model, chosen_on, ODDS, Display()), LOSE).odds
        device: Device = model
        if name in SIMULATED:
            chip = stack.enter_context(SimulatedChip(chip_verilog(spec)))
            device = stack.enter_context(ChipDevice(spec, Link(chip.url)))
            device.reset()
            device.write_weights(model.read_weights())
        points = measure_exits(device, whole, [] if odds is None else [odds], Display())
    return {"network": name, "seed": seed, "spec": spec.to_toml(), "points": [asdict(point) for point in points]}


def table(records: list[dict[str, Any]]) -> str:
    """Mean of the seeds, and the deviation of accuracies, as Markdown."""
    head = ["network", "odds by seed", "no exit [%]", "early exit [%]", "stopped at layers", *COSTS.values()]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name in dict.fromkeys(record["network"] for record in records):
        points = [record["points"] for record in records if record["network"] == name]
        first, last = [run[0] for run in points], [run[-1] for run in points]
        cells = [name, ", ".join("none" if point["odds"] is None else f"{point['odds']:g}" for point in first)]
        for column in (last, first):
            accuracy = np.array([point["accuracy"] for point in column])
            cells.append(f"{accuracy.mean():.2f} ± {accuracy.std(ddof=1):.2f}")
        answered = np.mean([point["answered"] for point in first], axis=0)
        cells.append(", ".join(f"{share:.1f} %" for share in answered[:-1]))
        for cost in COSTS:
            if last[0][cost] is None:
                cells.append("")
                continue
            before, after = (np.mean([point[cost] for point in column]) for column in (last, first))
            cells.append(f"{before:,.0f} to {after:,.0f} ({100 * (after / before - 1):+.0f} %)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=datasets.default_data_dir())
    whole = datasets.load("mnist", parser.parse_args().data_dir)
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    done = {record["spec"] for record in records}
    for name in NETWORKS:
        for seed in SEEDS:
            if network(name, seed).to_toml() in done:
                continue
            records.append(measure(name, seed, whole))
            print(name, seed, [(point["odds"], point["accuracy"]) for point in records[-1]["points"]], flush=True)
            with RECORDS.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    RECORDS.with_suffix(".md").write_text(f"Test set, {len(SEEDS)} seeds, at most {LOSE} % lost.\n\n{table(records)}")


if __name__ == "__main__":
    main()
