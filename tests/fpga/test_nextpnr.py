"""nextpnr's words: phases, and why a design does not fit."""

import json

import pytest

from locallearn.fpga.flows import FLOWS
from locallearn.fpga.nextpnr import Clock, Use, clocks, phase, too_big, uses

UTILISATION = """
Info: Device utilisation:
Info: \t          TRELLIS_IO:       5/    197     2%
Info: \t              DP16KD:      {block_ram}/     56     0%
Info: \t          MULT18X18D:      {dsp}/     28   114%
Info: \t          TRELLIS_FF:    6793/  24288    27%
Info: \t        TRELLIS_COMB:   {lut}/  24288    45%

Info: Placed 6 cells based on constraints.
{error}
0 warnings, 1 error
"""

NO_BEL = "ERROR: Unable to place cell 'lane_2.dsp', no BELs remaining to implement cell type 'MULT18X18D'"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Info: Packing constants..\n", "packing"),
        ("Info: Pack BSRAMs...\n", "packing"),
        ("Info:     at initial placer iter 3, wirelen = 1440\n", "first placement 3"),
        ("Info:     at iteration #12, type ALL: wirelen solved = 10480, spread = 16992; time = 0.2s\n", "placing 12"),
        ("Info:   at iteration #15: temp = 0.000000, timing cost = 807, wirelen = 14102\n", "refining 15"),
        ("Info: Routing globals...\n", "routing"),
        ("Info:     iter=7 wires=56757 overused=138 overuse=139 archfail=NA\n", "routing 7"),
        (
            "Info:       3000 |      656       2249 |  487   464 |     11426|       0.40       3.31|\n",
            "routing, 11426 arcs left",
        ),
        ("Info: Checksum: 0xcdafd9d0\n", None),
        ("Warning: Packing\n", None),
    ],
)
def test_phases(line: str, name: str | None) -> None:
    assert phase(line) == name


@pytest.mark.parametrize(
    ("counts", "needs"),
    [
        ({"dsp": 32, "block_ram": 9, "lut": 11057}, "32 dsp (it has 28)"),
        ({"dsp": 32, "block_ram": 90, "lut": 11057}, "32 dsp (it has 28), 90 block_ram (it has 56)"),
        ({"dsp": 4, "block_ram": 9, "lut": 24289}, "24289 lut (it has 24288)"),
    ],
)
def test_too_much_of_something(counts: dict[str, int], needs: str) -> None:
    error = too_big(UTILISATION.format(**counts, error=NO_BEL), FLOWS["ecp5"], "mnist", "LFE5U-25F")
    assert str(error) == f"mnist does not fit LFE5U-25F: needed are {needs}"


@pytest.mark.parametrize(
    "said",
    [
        "Unable to find legal placement for all cells, design is probably at utilisation limit.",
        "failed to place chain starting at cell 'chip.adder'",
        "Unable to find a placement location for cell 'chip.x'",
    ],
)
def test_no_place_though_there_is_enough(said: str) -> None:
    counts = {"dsp": 28, "block_ram": 56, "lut": 24000}
    error = too_big(UTILISATION.format(**counts, error=f"ERROR: {said}"), FLOWS["ecp5"], "mnist", "LFE5U-25F")
    assert str(error) == (
        "mnist does not fit LFE5U-25F, if only just: needed are 24000 of 24288 lut, 6793 of 24288 ff, 28 of 28 dsp, "
        f"56 of 56 block_ram; nextpnr says: {said}"
    )


@pytest.mark.parametrize("error", ["ERROR: Loop found in carry chain", "ERROR: Failed to route net 'x'"])
def test_failures_for_other_reasons(error: str) -> None:
    counts = {"dsp": 4, "block_ram": 9, "lut": 11057}
    assert too_big(UTILISATION.format(**counts, error=error), FLOWS["ecp5"], "mnist", "LFE5U-25F") is None


def test_failures_before_packing() -> None:
    assert too_big("ERROR: Failed to open JSON file top.json\n", FLOWS["ecp5"], "mnist", "LFE5U-25F") is None


@pytest.mark.parametrize(
    ("family", "cells", "resources"),
    [
        (
            "ecp5",
            {"TRELLIS_COMB": (9, 90), "TRELLIS_FF": (8, 90), "MULT18X18D": (2, 28), "DP16KD": (1, 56), "JTAGG": (0, 1)},
            {"lut": Use(9, 90), "ff": Use(8, 90), "dsp": Use(2, 28), "block_ram": Use(1, 56)},
        ),
        (
            "ice40up",
            {"ICESTORM_LC": (9, 90), "ICESTORM_DSP": (2, 8), "ICESTORM_RAM": (3, 30), "ICESTORM_SPRAM": (4, 4)},
            {"lut": Use(9, 90), "dsp": Use(2, 8), "block_ram": Use(3, 30), "spram": Use(4, 4)},
        ),
        # The LUTs that adders take the place of are counted among them; two small multipliers make a large one.
        (
            "gowin",
            {
                **{"LUT4": (9, 90), "ALU": (5, 60), "DFF": (8, 60)},
                **{"MULT18X18": (2, 20), "MULT9X9": (3, 40), "BSRAM": (1, 26)},
            },
            {"lut": Use(14, 90), "ff": Use(8, 60), "dsp": Use(4, 20), "block_ram": Use(1, 26)},
        ),
    ],
)
def test_report(family: str, cells: dict[str, tuple[int, int]], resources: dict[str, Use]) -> None:
    asked = 12.00004768371582 * FLOWS[family].haste
    report = json.dumps(
        {
            "utilization": {name: {"used": used, "available": there} for name, (used, there) in cells.items()},
            "fmax": {"clk": {"achieved": 71.29107666015625, "constraint": asked}},
        }
    )
    assert uses(report, FLOWS[family]) == resources
    assert clocks(report, FLOWS[family]) == {"clk": Clock(12.0, 71.291)}
