"""What is said of the boards, against their platforms and against nextpnr."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth import Module

from locallearn.fpga.boards import BOARDS, Board, find_board
from locallearn.fpga.flows import FLOWS
from locallearn.fpga.nextpnr import uses
from locallearn.fpga.pll import PLLS, best_clock
from locallearn.fpga.tools import find_tool
from locallearn.quant.errors import BuildError, ToolError
from locallearn.rtl.uart import MIN_CYCLES

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def test_found_by_name() -> None:
    assert [find_board(name).name for name in BOARDS] == list(BOARDS)


@pytest.mark.parametrize(
    ("name", "there_is"),
    [
        ("ulx3s", "ulx3s-85f, ulx3s-25f"),
        ("iCEBreaker", "icebreaker"),
        ("tang_nano_9k", "tang-nano-9k, tang-nano-20k"),
        ("abacus", ", ".join(BOARDS)),
    ],
)
def test_no_such_board(name: str, there_is: str) -> None:
    with pytest.raises(BuildError) as caught:
        find_board(name)
    assert str(caught.value) == f"{name}: no such board; there is {there_is}"


@pytest.mark.parametrize("name", ["ulx3s-85f", "tang-nano-20k"])
def test_without_amaranth_boards(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [*sys.modules]:
        if module.startswith(("amaranth_boards", "locallearn.fpga.platforms")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "amaranth_boards", None)
    with pytest.raises(ToolError, match=re.escape("amaranth-boards is missing: `pip install 'locallearn[fpga]'`")):
        BOARDS[name].platform()


@each_board
def test_part_is_the_platforms(board: Board) -> None:
    platform = board.platform()
    if hasattr(platform, "part"):
        part = platform.part
    elif hasattr(platform, "speed"):
        part = f"{platform.device}-{platform.speed}{platform.package}{platform.grade}"
    else:
        part = f"{platform.device}-{platform.package}"
    assert board.part == part


@each_board
def test_default_clock(board: Board) -> None:
    """It can be made as it is, and is fast enough for the serial port."""
    clock = best_clock(board.pll, board.platform().default_clk_frequency, board.clock_mhz * 1e6)
    assert clock.hz == board.clock_mhz * 1e6 >= MIN_CYCLES * board.baud
    assert board.pll in PLLS


@each_board
def test_capacity_as_nextpnr_counts_it(board: Board, tmp_path: Path) -> None:
    """Of the part that Amaranth names to nextpnr, for a design of nothing."""
    plan = board.platform().prepare(Module())
    _, (_, *arguments), _ = json.loads(plan.files["build_top.json"])["commands"]
    line = re.sub(r"--family (\S+)", r"--vopt family=\1", " ".join(arguments))
    part = line.split(" --json")[0].split("top.tim ")[1].replace("--pdc top.pdc", "").split()
    module = {"attributes": {"top": "1"}, "ports": {}, "cells": {}, "netnames": {}}
    (tmp_path / "top.json").write_text(json.dumps({"creator": "", "modules": {"top": module}}))
    flow = FLOWS[board.target.name]
    command = [*find_tool(flow.router).command, *part, "--json", "top.json", "--pack-only", "--report", "report.json"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = {name: use.available for name, use in uses((tmp_path / "report.json").read_text(), flow).items()}
    assert found
    assert found == {name: getattr(board.capacity, name) for name in found}


def test_nexus_is_helped() -> None:
    """Where yosys and nextpnr do not agree; that they do then is for the builds to show."""
    plan = BOARDS["crosslink-nx-evn"].platform().prepare(Module(), synth_opts="-abc9")
    before, after = plan.files["top.ys"].split("techmap -map %carries\n")
    assert "design -stash carries" in before
    assert before.rstrip().endswith("synth_nexus -abc9 -top top -run begin:map_cells")
    assert after.startswith("synth_nexus -abc9 -top top -run map_cells:")
