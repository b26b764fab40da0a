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

__all__ = ["Netlist", "chip_netlist", "synthesise"]


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
    yosys = find_tool("yosys")
    script = "\n".join(
        [
            "read_rtlil top.il",
            UNDEFINED_COLLISIONS,
            " ".join([*FLOWS[target.name].synthesis, "-top top"]),
            "tee -q -o cells.json stat -json",
            "write_verilog -noattr top.v",
        ]
    )
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "top.il").write_text(to_rtlil(component))
        (folder / "top.ys").write_text(script)
        done = subprocess.run([*yosys.command, "-q", "top.ys"], cwd=folder, capture_output=True, encoding="utf-8")
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise ToolError(f"yosys failed to synthesise (exit status {done.returncode}): {last}")
        cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
        return Netlist(primitive_models(target) + (folder / "top.v").read_text(), cells)
