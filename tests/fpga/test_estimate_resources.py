"""Estimated resources against what yosys and nextpnr make of networks."""

import json
from pathlib import Path
from typing import Any

import pytest

from locallearn.fpga.boards import BOARDS, Board, find_board
from locallearn.fpga.estimate import LOGIC_ERROR, estimate
from locallearn.fpga.estimate_resources import estimate_layer_resources, estimate_resources
from locallearn.fpga.netlist import count_blocks
from locallearn.quant.classifier_spec import ClassifierSpec
from locallearn.quant.formats import QFormat
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import ConvSpec, InputSpec, LayerSpec, NetworkSpec, load_spec
from locallearn.rtl.linked import LinkedChip
from tests.fpga.test_netlist import BLOCK_RAMS, MULTIPLIERS, count

RECORDS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "estimate.json").read_text()
)

TWO_BANKS = NetworkSpec("two banks", 3, InputSpec(300), (LayerSpec(18, 9), LayerSpec(5, 2)))
LEARNED = NetworkSpec("learned", 3, InputSpec(20), (LayerSpec(6, 3, classifier=ClassifierSpec("learned")),))
CONVOLUTIONS = NetworkSpec(
    "convolutions",
    3,
    InputSpec(2 * 64, fraction=7, signed=True, shape=(2, 8, 8)),
    (
        ConvSpec(10, pool=2, resolution=0, lanes=9, classifier=ClassifierSpec("learned")),
        ConvSpec(2, resolution=2),
    ),
    sum_scores=True,
)
NARROW = NetworkSpec("narrow", 3, InputSpec(20), (LayerSpec(6, 3),), weight=QFormat(6, 5, signed=True), error_bits=3)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['network']} on {record['board']}")
def test_what_was_counted(record: dict[str, Any]) -> None:
    """DSP and memories exact, logic within the stated error."""
    spec, used = NetworkSpec.from_toml(record["spec"]), record["used"]
    estimated = estimate_resources(NetworkPlan(spec), find_board(record["board"]))
    assert set(estimated) == set(used)
    for resource, counted in used.items():
        error = LOGIC_ERROR if resource in ("lut", "ff") else 0
        assert estimated[resource] == pytest.approx(counted, rel=error), resource


@pytest.mark.parametrize(
    ("spec", "board"),
    [
        pytest.param(TWO_BANKS, BOARDS["icebreaker"], id="ice40up"),
        pytest.param(NARROW, BOARDS["tang-nano-9k"], id="gowin, small multipliers"),
        pytest.param(LEARNED, BOARDS["icebreaker"], id="learned matrix, ice40up"),
        pytest.param(LEARNED, BOARDS["ulx3s-85f"], id="learned matrix, ecp5"),
        pytest.param(CONVOLUTIONS, BOARDS["ulx3s-85f"], id="convolutions, ecp5"),
    ],
)
def test_the_rtl_has_what_is_estimated(spec: NetworkSpec, board: Board) -> None:
    """Of today, where records are of the day that they were made."""
    target = board.target
    found = count_blocks(LinkedChip(spec, target, board.link_bytes), target)
    estimated = estimate_resources(NetworkPlan(spec), board)
    assert count(found, BLOCK_RAMS[target]) == estimated["block_ram"]
    assert found.get("SB_SPRAM256KA", 0) == estimated.get("spram", 0)
    multipliers = count(found, MULTIPLIERS[target] - {"MULT9X9"}) + found.get("MULT9X9", 0) / 2
    assert estimated["dsp"] == pytest.approx(multipliers, abs=0.5)


def test_the_whole_is_more_than_its_layers() -> None:
    spec = load_spec("digits")
    for board in BOARDS.values():
        layers = [estimate_layer_resources(layer, board.target) for layer in NetworkPlan(spec).layers]
        found = estimate(spec, board)
        assert list(found.layers) == layers
        for resource, use in found.resources.items():
            parts = sum(layer[resource] for layer in layers)
            assert use.used == parts if resource in ("dsp", "spram") else use.used > parts
            assert use.available == getattr(board.capacity, resource)


def test_multipliers_that_yosys_makes_of_luts() -> None:
    """The narrowest on Gowin, the widest on iCE40."""
    two_bits = NetworkSpec("2 bits", 3, InputSpec(4, bits=2, fraction=2), (LayerSpec(4, 4),))
    wide = load_spec("digits").replaced(
        {"error_bits": 8, "training.decay": [0, 8], "weight": {"bits": 8, "fraction": 7}}
    )
    dsps = {
        (spec.name, name): estimate_resources(NetworkPlan(spec), find_board(name))["dsp"]
        for spec in (two_bits, wide)
        for name in ("tang-nano-20k", "icebreaker", "ulx3s-85f")
    }
    assert dsps == {
        ("2 bits", "tang-nano-20k"): 0,
        ("2 bits", "icebreaker"): 4,
        ("2 bits", "ulx3s-85f"): 4,
        ("digits", "tang-nano-20k"): 32,
        ("digits", "icebreaker"): 0,
        ("digits", "ulx3s-85f"): 32,
    }
