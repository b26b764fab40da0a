"""What synthesis makes of the chip, for simulation: the last thing before place and route that can be run."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from amaranth.lib import wiring

from locallearn.fpga.flows import FLOWS, UNDEFINED_COLLISIONS
from locallearn.fpga.primitives import primitive_models
from locallearn.fpga.tools import find_tool
from locallearn.quant.errors import ToolError
from locallearn.quant.spec import NetworkSpec
from locallearn.rtl.linked import LinkedChip
from locallearn.rtl.target import ECP5, Target
from locallearn.sim.export import to_rtlil

__all__ = ["Netlist", "chip_netlist", "count_blocks", "synthesise"]


@dataclass(frozen=True)
class Netlist:
    """A design in the primitives of a part.

    verilog  module `top` with the ports that `to_verilog` gives it, and the models of the primitives of ECP5 and
             iCE40 UltraPlus; those of other parts cannot be simulated
    cells    how many of each primitive it has, by the names of the part's maker
    """

    verilog: str
    cells: dict[str, int]


def chip_netlist(spec: NetworkSpec, target: Target = ECP5, link_bytes: int = 1024) -> Netlist:
    """The chip of `spec` behind its link as builds for parts of `target` have it, for `SimulatedChip`.

    Raises ToolError if yosys is missing or fails.
    """
    return synthesise(LinkedChip(spec, target, link_bytes), target)


def synthesise(component: "wiring.Component[Any]", target: Target) -> Netlist:
    """Any component, by the same steps."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cells = _synthesise(component, target, folder, "", "write_verilog -noattr top.v")
        return Netlist(primitive_models(target) + (folder / "top.v").read_text(), cells)


def count_blocks(component: "wiring.Component[Any]", target: Target) -> dict[str, int]:
    """How many memories and multipliers of each kind `synthesise` makes, in half the time: the rest is logic."""
    with TemporaryDirectory() as scratch:
        return _synthesise(component, target, Path(scratch), "-run begin:map_ffram")


def _synthesise(
    component: "wiring.Component[Any]", target: Target, folder: Path, options: str, *more: str
) -> dict[str, int]:
    """How many cells of each kind there are in the end; `more` is done with them, in the folder."""
    yosys = find_tool("yosys")
    script = "\n".join(
        [
            "read_rtlil top.il",
            UNDEFINED_COLLISIONS,
            " ".join([*FLOWS[target.name].synthesis, "-top top", options]),
            "tee -q -o cells.json stat -json",
            *more,
        ]
    )
    (folder / "top.il").write_text(to_rtlil(component))
    (folder / "top.ys").write_text(script)
    done = subprocess.run([*yosys.command, "-q", "top.ys"], cwd=folder, capture_output=True, encoding="utf-8")
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ToolError(f"yosys failed to synthesise (exit status {done.returncode}): {last}")
    cells: dict[str, int] = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    return cells
