"""The price list of the learning rules: what each choice takes of an ECP5 and of cycles, against the usual chip.

    python benchmarks/prices.py --data-dir DIR

One layer of 784-128 with 16 lanes, that it may be seen what a layer pays; where a rule needs a last layer whose error
is passed down, or one that samples need not come to, a second of 128 with 16 lanes, the usual, in all such rows. LUTs,
flip-flops, DSP blocks and block RAM are what nextpnr counts after packing. Cycles are those of the simulated chip over
2,000 MNIST samples, after 10,000 that the compiled model learned from by the same rule. Writes results/prices.json,
where what is there is not done again, and results/prices.md.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from calibrate import synthesise

from locallearn.fpga.boards import find_board
from locallearn.host import datasets
from locallearn.host.connect import fastest_model
from locallearn.host.device import ChipDevice, ModelDevice
from locallearn.host.link import Link
from locallearn.host.report import counter_figures
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.spec import LayerSpec, NetworkSpec, load_spec
from locallearn.sim.design import chip_verilog
from locallearn.sim.simulated import SimulatedChip

RECORDS = Path(__file__).parent / "results" / "prices.json"
TABLE = RECORDS.with_suffix(".md")
BOARD = "ulx3s-85f"
SAMPLES = 2000
LEARNED_BEFORE = 10_000

USUAL = LayerSpec(128, 16, score_shift=2)
RULES = {
    "usual: M of ±1, symmetric, softmax": USUAL,
    "M ternary": replace(USUAL, classifier=ClassifierSpec("ternary")),
    "M uniform, 4 bits": replace(USUAL, classifier=ClassifierSpec(bits=4)),
    "M uniform, 8 bits": replace(USUAL, classifier=ClassifierSpec(bits=8)),
    "M learned, 12 bits": replace(USUAL, rate_shift=9, classifier=ClassifierSpec("learned")),
    "feedback sign-concordant, 4 bits": replace(USUAL, classifier=ClassifierSpec(feedback="sign-concordant")),
    "feedback random, 4 bits": replace(USUAL, classifier=ClassifierSpec(feedback="random")),
    "squared hinge": replace(USUAL, rate_shift=10, classifier=ClassifierSpec(loss="squared-hinge")),
    "dropout 1/4": replace(USUAL, dropout=0.25),
    "decay of its own": replace(USUAL, decay=(0, 3)),
    "DRTP": replace(USUAL, rate_shift=22, classifier=ClassifierSpec(error="label")),
}
PASSED_DOWN = {
    "two layers, both the usual": USUAL,
    "DFA below the usual": replace(USUAL, rate_shift=11, classifier=ClassifierSpec(error="top")),
}
EARLY_EXIT = "early exit between two layers, not used"
RESOURCES = ("lut", "ff", "dsp", "block_ram")


def networks() -> dict[str, NetworkSpec]:
    """By rule, the one that others are compared with first."""
    base = load_spec("mnist")
    one = {rule: replace(base, name=rule, layers=(layer,)) for rule, layer in RULES.items()}
    two = {rule: replace(base, name=rule, layers=(layer, USUAL)) for rule, layer in PASSED_DOWN.items()}
    return one | two | {EARLY_EXIT: replace(base, name=EARLY_EXIT, layers=(USUAL, USUAL), early_exit=True)}


def count(spec: NetworkSpec, data_dir: Path) -> dict[str, Any]:
    """The counters of a chip that trains, then of one that infers."""
    data = datasets.load("mnist", data_dir)
    order = np.random.default_rng(0).permutation(len(data.train_x))[: LEARNED_BEFORE + SAMPLES]
    pixels, labels = data.train_x[order], data.train_y[order]
    counted: dict[str, Any] = {}
    with (
        SimulatedChip(chip_verilog(spec)) as chip,
        ChipDevice(spec, Link(chip.url)) as device,
        ModelDevice(spec, fastest_model()) as model,
    ):
        model.stream(pixels[:LEARNED_BEFORE], labels[:LEARNED_BEFORE])
        device.reset()
        device.write_weights(model.read_weights())
        for what, given in (("train", labels[LEARNED_BEFORE:]), ("infer", None)):
            device.clear_counters()
            device.stream(pixels[LEARNED_BEFORE:], given)
            counted[what] = counter_figures(device.counters())
    return counted


def measure(data_dir: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(RECORDS.read_text()) if RECORDS.exists() else []
    done = {record["spec"] for record in records}
    for rule, spec in networks().items():
        if spec.to_toml() not in done:
            print(rule, flush=True)
            records.append({"rule": rule, **synthesise(spec, find_board(BOARD)), **count(spec, data_dir)})
            RECORDS.write_text(json.dumps(records, indent=1) + "\n")
    return records


def table(records: list[dict[str, Any]]) -> str:
    """As Markdown: the usual chip's counts, and what the others have more."""
    head = ["rule", *RESOURCES, "cycles, training", "learned from", "cycles, inference"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    by_rule = {record["rule"]: record for record in records}
    for rules in (RULES, (*PASSED_DOWN, EARLY_EXIT)):
        usual = by_rule[next(iter(rules))]
        for rule in rules:
            record = by_rule[rule]
            sign = "" if record is usual else "+"
            cells = [f"{record['used'][r] - (0 if record is usual else usual['used'][r]):{sign}}" for r in RESOURCES]
            for what in ("train", "infer"):
                cycles = record[what]["cycles"] / SAMPLES
                more = "" if record is usual else f" ({100 * (cycles * SAMPLES / usual[what]['cycles'] - 1):+.0f} %)"
                cells.append(f"{cycles:.1f}{more}")
            cells.insert(
                -1, ", ".join(f"{100 * layer['learned'] / SAMPLES:.0f} %" for layer in record["train"]["layers"])
            )
            lines.append(f"| {' | '.join([rule, *cells])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=datasets.default_data_dir())
    records = measure(parser.parse_args().data_dir)
    TABLE.write_text(f"The usual chip's counts, and what others have more.\n\n{table(records)}")


if __name__ == "__main__":
    main()
