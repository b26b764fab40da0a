"""The paper's comparison of local classifiers, and two rivals, in the chip's integers: MNIST, five seeds a rule.

    python benchmarks/rules.py 784-128-128 --data-dir DIR

Trains on the compiled model, which is the chip to the bit, and tests after the last epoch. Rates were chosen by
learning 784-128-128 from 50,000 training samples and testing on the last 10,000: in 6 epochs, those of DRTP and direct
feedback alignment in all. Writes results/rules/NAME.jsonl, a run a line, where what is there is not done again, and
results/rules/NAME.md. Direct feedback alignment passes sample by sample through the layers: it is slow.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from locallearn.host import datasets
from locallearn.host.connect import fastest_model
from locallearn.host.device import Device, ModelDevice
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.spec import LayerSpec, NetworkSpec, load_spec

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "rules"
SEEDS = range(1, 6)

NETWORKS = {"784-128-128": ("mnist-128-128", 128), "784-3x1000": ("mnist-3x1024", 1000)}
"""The description in networks/ and the neurons of its layers."""


def rules(layers: tuple[LayerSpec, ...]) -> dict[str, tuple[LayerSpec, ...]]:
    """Every rule's layers, from the usual ones and their rates."""

    def slower(layer: LayerSpec, shift: int, choice: ClassifierSpec) -> LayerSpec:
        assert layer.rate_shift is not None
        return replace(layer, rate_shift=layer.rate_shift + shift, classifier=choice)

    def every(shift: int = 0, **choices: Any) -> tuple[LayerSpec, ...]:
        return tuple(slower(layer, shift, ClassifierSpec(**choices)) for layer in layers)

    def below_the_last(shift: int, error: str) -> tuple[LayerSpec, ...]:
        return (*every(shift, error=error)[:-1], layers[-1])

    return {
        "M of ±1": layers,
        "M ternary": every(matrix="ternary"),
        "M uniform, 4 bits": every(bits=4),
        "M learned": every(matrix="learned"),
        "sign-concordant feedback": every(feedback="sign-concordant"),
        "random feedback": every(feedback="random"),
        "squared hinge": every(1, loss="squared-hinge"),
        "DRTP": below_the_last(14, "label"),
        "direct feedback alignment": below_the_last(3, "top"),
    }


RULES = [*rules((LayerSpec(1, rate_shift=0),))]


def networks(name: str) -> dict[str, list[NetworkSpec]]:
    """By rule, with every seed."""
    file, neurons = NETWORKS[name]
    base = load_spec(HERE / "networks" / f"{file}.toml").replaced({"name": name, "layers.*.neurons": neurons})
    return {
        rule: [
            base.replaced({"training.seed": seed, "layers": [layer.to_table() for layer in layers]}) for seed in SEEDS
        ]
        for rule, layers in rules(base.layers).items()
    }


def learn(device: Device, data: datasets.Dataset) -> None:
    """All epochs."""
    spec = device.spec
    for epoch in range(spec.training.epochs):
        order = datasets.epoch_order(spec.training.seed, epoch, len(data.train_x), None)
        device.set_decay(spec.decay_at(epoch))
        device.stream(data.train_x[order], data.train_y[order])


def run(spec: NetworkSpec, data: datasets.Dataset) -> list[float]:
    """Test accuracy of every layer in % after the last epoch."""
    with ModelDevice(spec, fastest_model()) as device:
        learn(device, data)
        return device.stream(data.test_x, None).accuracy(data.test_y)


def measure(name: str, chosen: list[str], data_dir: Path) -> list[dict[str, Any]]:
    """Of these rules and all seeds; those that are there already are not run again."""
    path = RESULTS / f"{name}.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {record["spec"] for record in records}
    data = datasets.load("mnist", data_dir)
    for rule, specs in networks(name).items():
        if rule not in chosen:
            continue
        for seed, spec in zip(SEEDS, specs, strict=True):
            if spec.to_toml() in done:
                continue
            begun = time.monotonic()
            accuracy = run(spec, data)
            seconds = round(time.monotonic() - begun, 1)
            records.append(
                {
                    "rule": rule,
                    "seed": seed,
                    "test_accuracy[%]": accuracy,
                    "wall_time[s]": seconds,
                    "spec": spec.to_toml(),
                }
            )
            print(
                f"{rule}, seed {seed}: {', '.join(f'{share:.2f}' for share in accuracy)} % in {seconds} s", flush=True
            )
            RESULTS.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    return records


def table(name: str, records: list[dict[str, Any]]) -> str:
    """Mean and sample deviation, as Markdown."""
    layers = [f"layer {number}" for number in range(len(records[0]["test_accuracy[%]"]))]
    lines = [f"| rule | {' | '.join(layers)} |", f"|{' --- |' * (1 + len(layers))}"]
    for rule in dict.fromkeys(record["rule"] for record in records):
        runs = np.array([record["test_accuracy[%]"] for record in records if record["rule"] == rule])
        pairs = zip(runs.mean(axis=0), runs.std(axis=0, ddof=1), strict=True)
        lines.append(f"| {rule} | {' | '.join(f'{mean:.2f} ± {deviation:.2f}' for mean, deviation in pairs)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES, metavar="RULE", help="(default: all)")
    parser.add_argument("--data-dir", type=Path, default=datasets.default_data_dir())
    arguments = parser.parse_args()
    records = measure(arguments.network, arguments.rules, arguments.data_dir)
    (RESULTS / f"{arguments.network}.md").write_text(
        f"Test accuracy in %, {len(SEEDS)} seeds.\n\n{table(arguments.network, records)}"
    )


if __name__ == "__main__":
    main()
