"""How many LUTs and flip-flops the chip takes: synthesise some networks for a board of every family, fit what
`locallearn estimate` knows about them, and compare its estimates with all of them.

    python benchmarks/calibrate.py

Writes results/estimate.json (what yosys and nextpnr made of each network), fpga/estimate_coefficients.json (the fit to
some of them) and results/estimate.md (the comparison with all). A network that is in results/estimate.json is not
synthesised again. Nothing is placed: each takes a minute or two.
"""

import json
import time
from collections import Counter
from math import prod
from pathlib import Path
from subprocess import DEVNULL, run
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.optimize import nnls

from locallearn.fpga.boards import Board, find_board
from locallearn.fpga.build import elaborate, tool_arguments
from locallearn.fpga.estimate_resources import COEFFICIENTS, chip_widths, estimate_resources, layer_widths
from locallearn.fpga.flows import FLOWS
from locallearn.fpga.nextpnr import uses
from locallearn.fpga.tools import find_tool
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.formats import QFormat
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, TrainingSpec, load_spec
from locallearn.rtl.target import GOWIN

HERE = Path(__file__).parent
RECORDS = HERE / "results" / "estimate.json"
TABLE = HERE / "results" / "estimate.md"


def network(name: str, inputs: int, layers: str, classes: int = 10, **changes: Any) -> NetworkSpec:
    """`layers` as in "128/16 64/8": neurons and lanes of each."""
    pairs = (map(int, layer.split("/")) for layer in layers.split())
    training = TrainingSpec(8, decay=(0, changes.pop("decay", 3)))
    if bits := changes.pop("weight_bits", None):
        changes["weight"] = QFormat(bits, bits - 1, signed=True)
    return NetworkSpec(
        name, classes, InputSpec(inputs), tuple(LayerSpec(*pair) for pair in pairs), training=training, **changes
    )


def convolutions(name: str, shape: tuple[int, int, int], *layers: ConvSpec | LayerSpec, **changes: Any) -> NetworkSpec:
    inputs = InputSpec(prod(shape), fraction=7, signed=True, shape=shape)
    return NetworkSpec(name, 10, inputs, layers, training=TrainingSpec(8, decay=(0, 3)), **changes)


LEARNED = ClassifierSpec("learned")

CONVOLUTIONS = [
    convolutions("convolution", (1, 12, 12), ConvSpec(8, pool=2, resolution=3, lanes=4)),
    convolutions("learned convolution", (3, 8, 8), ConvSpec(6, resolution=2, lanes=3, classifier=LEARNED)),
    convolutions("16 lanes of a convolution", (3, 16, 16), ConvSpec(16, pool=2, lanes=16, classifier=LEARNED)),
    convolutions(
        "stride",
        (1, 28, 28),
        ConvSpec(12, 5, stride=2, resolution=7, lanes=6),
        ConvSpec(24, pool=2, resolution=7, lanes=12),
    ),
    convolutions("dense behind", (2, 8, 8), ConvSpec(20, lanes=10, classifier=LEARNED), LayerSpec(24, 8)),
    load_spec("fashion-conv"),
    load_spec("cifar10-conv"),
]

NETWORKS = [
    load_spec("mnist-small"),
    network("one lane", 16, "8/1", classes=2, error_bits=3, decay=0),
    network("8 lanes", 100, "64/8", weight_bits=8, error_bits=4),
    network("wide weights", 196, "48/6", weight_bits=16),
    network("26 classes", 784, "32/2", classes=26, weight_bits=10),
    network("three layers", 36, "24/3 16/2 12/1", classes=5, activation=QFormat(4, 2)),
    network("2 lanes", 784, "64/2", error_bits=4),
    network("two layers", 64, "40/4 20/2", error_bits=4, decay=2),
    load_spec("digits"),
    network("16 lanes", 196, "96/16", weight_bits=10),
    network("100 classes", 64, "40/4", classes=100, error_bits=8),
    network("3 x 9 lanes", 100, "90/9 63/9 45/9", classes=20, error_bits=5, weight_bits=14),
    network("24 lanes", 64, "192/24", classes=47, error_bits=6),
    network("32 lanes", 784, "128/32 128/8", error_bits=4),
]

LEARNED_NETWORKS = [
    NetworkSpec("learned", 10, InputSpec(64), (LayerSpec(48, 8, classifier=LEARNED),)),
    NetworkSpec("26 learned classes", 26, InputSpec(196), (LayerSpec(64, 16, classifier=LEARNED),)),
]

FAMILIES = {
    "ulx3s-85f": [*NETWORKS, *LEARNED_NETWORKS, *CONVOLUTIONS],
    "icebreaker": [*NETWORKS[:8], *LEARNED_NETWORKS, *CONVOLUTIONS[:2]],
    "tang-nano-20k": [*NETWORKS[:10], *LEARNED_NETWORKS, *CONVOLUTIONS[:3]],
    "crosslink-nx-evn": [*NETWORKS[:10], *LEARNED_NETWORKS, *CONVOLUTIONS[:3]],
}
"""What is synthesised for which board."""

CHECKED = ("mnist-small", "two layers", "16 lanes", "3 x 9 lanes", "dense behind", "cifar10-conv")
"""Left out of the fit."""


def synthesise(spec: NetworkSpec, board: Board) -> dict[str, Any]:
    """What nextpnr counts after packing, in all and, as the netlist has it, by layer."""
    flow = FLOWS[board.target.name]
    tools = {name: find_tool(name) for name in ("yosys", flow.router)}
    begun = time.monotonic()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        elaborate(spec, board, board.clock_mhz * 1e6, folder)
        synthesis, placing, _ = tool_arguments(folder)
        run([*tools["yosys"].command, *synthesis], cwd=folder, check=True, stdout=DEVNULL)
        # It cannot write what it has not routed.
        place = placing.index(flow.routed)
        packing = [*placing[: place - 1], *placing[place + 1 :], "--pack-only", "--report", "packed.json"]
        run([*tools[flow.router].command, *packing], cwd=folder, check=True, stdout=DEVNULL, stderr=DEVNULL)
        packed = (folder / "packed.json").read_text()
        used = {name: use.used for name, use in uses(packed, flow).items()}
        cells = json.loads((folder / flow.netlist).read_text())["modules"]["top"]["cells"]
        if board.target == GOWIN:
            used["lut"] = json.loads(packed)["utilization"]["ALU"]["used"] + gowin_luts(cells)
    return {
        "network": spec.name,
        "board": board.name,
        "spec": spec.to_toml(),
        "used": used,
        "layers": [share(cells, used, number) for number in range(len(spec.layers))],
        "wall_time[s]": round(time.monotonic() - begun, 1),
        "tools": {name: tool.version for name, tool in tools.items()},
    }


def gowin_luts(cells: dict[str, Any]) -> int:
    """The LUTs that a netlist will have when it is placed: a flip-flop that neither a LUT of its own nor an ALU feeds
    is fed through a further one, most of which nextpnr adds behind the placement. With the ALUs: 5,851 of the network
    `8 lanes`, 13,288 of `mnist-small` with 56 neurons in 28 lanes; placed, they had 5,873 and 13,417."""
    drivers, readers = dict[int, str](), Counter[int]()
    for cell in cells.values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                drivers |= dict.fromkeys(bits, cell["type"])
            else:
                readers.update(bits)

    def has_its_own(cell: dict[str, Any]) -> bool:
        (bit,) = cell["connections"]["D"]
        driver = drivers.get(bit, "")
        return driver == "ALU" or (driver.startswith("LUT") and readers[bit] == 1)

    luts = sum(cell["type"].startswith("LUT") for cell in cells.values())
    memories = sum(cell["type"] == "RAM16SDP4" for cell in cells.values())
    through = sum(cell["type"].startswith("DFF") and not has_its_own(cell) for cell in cells.values())
    return luts + 4 * memories + through


WEIGHTS = {
    "lut": {
        **{"LUT": 1, "SB_LUT4": 1, "ALU": 1, "CCU2": 2},
        **{"TRELLIS_DPR16X4": 6, "DPR16X4": 6, "RAM16SDP4": 4},
        # So many have a logic cell of their own.
        **{"SB_DFF": 0.4, "DFF": 0.66},
    },
    "ff": {"TRELLIS_FF": 1, "DFF": 1, "FD1P3": 1},
}
"""Of cells whose type begins so, in LUTs and in flip-flops."""


def share(cells: dict[str, Any], used: dict[str, int], layer: int) -> dict[str, float]:
    """Of the LUTs and flip-flops that are used, those whose names are below a layer's."""
    kinds = {"lut": Counter[bool](), "ff": Counter[bool]()}
    for name, cell in cells.items():
        inside = f"chip.layer_{layer}." in name
        for resource, weights in WEIGHTS.items():
            weight = next((weight for start, weight in weights.items() if cell["type"].startswith(start)), 0)
            kinds[resource][inside] += weight
    return {
        resource: round(used[resource] * counts[True] / counts.total(), 1)
        for resource, counts in kinds.items()
        if resource in used
    }


def measure() -> list[dict[str, Any]]:
    """Of all networks; those that are there already are taken from RECORDS."""
    records: list[dict[str, Any]] = json.loads(RECORDS.read_text()) if RECORDS.exists() else []
    done = {(record["board"], record["spec"]) for record in records}
    for board, specs in FAMILIES.items():
        for spec in specs:
            if (board, spec.to_toml()) not in done:
                print(f"{board}: {spec.name}", flush=True)
                records.append(synthesise(spec, find_board(board)))
                print(f"    {records[-1]['used']} in {records[-1]['wall_time[s]']} s", flush=True)
                RECORDS.write_text(json.dumps(records, indent=1) + "\n")
    return records


def fit(records: list[dict[str, Any]], resource: str) -> dict[str, float]:
    """What each of `chip_widths` and `layer_widths` takes of a resource, at least nothing: the relative error of every
    layer, and of what is around them, is smallest."""
    rows: list[dict[str, float]] = []
    counts, totals = [], []
    for record in records:
        plan, target = NetworkPlan(NetworkSpec.from_toml(record["spec"])), find_board(record["board"]).target
        total, layers = record["used"][resource], [layer[resource] for layer in record["layers"]]
        rows += [chip_widths(plan), *(layer_widths(layer, target) for layer in plan.layers)]
        counts += [total - sum(layers), *layers]
        totals += [total] * (1 + len(layers))
    names = list(dict.fromkeys(name for row in rows for name in row))
    matrix = np.array([[row.get(name, 0) for name in names] for row in rows])
    factors, _ = nnls(matrix / np.array(totals)[:, None], np.array(counts) / totals)
    return {name: round(float(factor), 3) for name, factor in zip(names, factors, strict=True)}


def fit_all(records: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """By target and resource."""
    coefficients = {}
    for board in FAMILIES:
        of_board = [record for record in records if record["board"] == board and record["network"] not in CHECKED]
        logic = [resource for resource in ("lut", "ff") if resource in of_board[0]["used"]]
        coefficients[find_board(board).target.name] = {resource: fit(of_board, resource) for resource in logic}
    return coefficients


def table(records: list[dict[str, Any]]) -> str:
    """What was estimated, what came out, and the difference, as Markdown."""
    lines = [
        "| board | network | in the fit | lut | ff | dsp | block RAM | SPRAM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in records:
        spec, used = NetworkSpec.from_toml(record["spec"]), record["used"]
        estimated = estimate_resources(NetworkPlan(spec), find_board(record["board"]))
        cells = [record["board"], spec.name, "" if spec.name in CHECKED else "yes"]
        for resource in ("lut", "ff", "dsp", "block_ram", "spram"):
            cell = f"{estimated[resource]} / {used[resource]}" if resource in used else ""
            if cell and resource in ("lut", "ff"):
                cell += f" ({100 * (estimated[resource] / used[resource] - 1):+.1f} %)"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    records = measure()
    coefficients = json.dumps(fit_all(records), indent=2) + "\n"
    (HERE.parent / "fpga" / COEFFICIENTS).write_text(coefficients)
    TABLE.write_text(
        f"Estimated / counted by nextpnr after packing (Gowin's LUTs: as they will be placed).\n\n{table(records)}"
    )


if __name__ == "__main__":
    main()
