"""Boards that amaranth-boards does not have: what the chip needs of them."""

# The stubs leave out what a platform's attributes are.
# mypy: disable-error-code="assignment, override"

from typing import Any

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.vendor import GowinPlatform, LatticePlatform
from amaranth_boards.resources import LEDResources, UARTResource  # type: ignore[import-untyped]

__all__ = ["CrossLinkNxEvnPlatform", "TangNano20KPlatform"]

_LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


class TangNano20KPlatform(GowinPlatform):
    """Sipeed Tang Nano 20K. Pins as in Sipeed's schematic and LiteX-Boards; all of them are plain I/O in Apicula."""

    part = "GW2AR-LV18QN88C8/I7"
    family = "GW2AR-18C"
    # The die is that of the GW2A; the R stands for memory beside it.
    _chipdb_device = "GW2A-18C"
    default_clk = "clk27"
    resources = (
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), _LVCMOS33),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=_LVCMOS33),
        UARTResource(0, rx="70", tx="69", attrs=Attrs(PULL_MODE="UP", IO_TYPE="LVCMOS33")),
    )
    connectors = ()


# The low carry of an adder is 0 where it is not connected; connected to a 0, as yosys has it, nextpnr knows no place
# for it (yosys issue 4081).
_CARRIES = """
read_verilog <<end_of_carries
module CCU2(input CIN, A1, B1, C1, D1, A0, B0, C0, D0, output S1, S0, COUT);
    parameter INIT0 = "", INIT1 = "", INJECT = "", _TECHMAP_CONSTMSK_CIN_ = 0, _TECHMAP_CONSTVAL_CIN_ = 0;
    wire _TECHMAP_FAIL_ = !_TECHMAP_CONSTMSK_CIN_ || _TECHMAP_CONSTVAL_CIN_ !== 1'b0;
    CCU2 #(.INIT0(INIT0), .INIT1(INIT1), .INJECT(INJECT)) _TECHMAP_REPLACE_ (
        .A1(A1), .B1(B1), .C1(C1), .D1(D1), .A0(A0), .B0(B0), .C0(C0), .D0(D0), .S1(S1), .S0(S0), .COUT(COUT)
    );
endmodule
end_of_carries
design -stash carries
"""


class CrossLinkNxEvnPlatform(LatticePlatform):
    """Lattice CrossLink-NX Evaluation Board. Pins as in its user guide (FPGA-EB-02028) and LiteX-Boards.

    Its UART needs 0-ohm resistors at R15 and R17, which are not there when it is sold.
    """

    device = "LIFCL-40"
    speed = "9"
    package = "BG400"
    default_clk = "clk12"
    resources = (
        Resource("clk12", 0, Pins("L13", dir="i"), Clock(12e6), _LVCMOS33),
        *LEDResources(pins="E17 F13 G13 F14 L16 L15 L20 L19", invert=True, attrs=_LVCMOS33),
        UARTResource(0, rx="F16", tx="F18", attrs=_LVCMOS33),
    )
    connectors = ()

    @property
    def file_templates(self) -> dict[str, str]:
        """With `_CARRIES` applied in yosys before constants become cells."""
        templates: dict[str, Any] = super().file_templates
        script = templates["{{name}}.ys"]
        synthesis = 'synth_nexus {{get_override("synth_opts")|options}} -top {{name}}'
        assert synthesis in script
        in_two = f"{synthesis} -run begin:map_cells\ntechmap -map %carries\n{synthesis} -run map_cells:"
        return templates | {"{{name}}.ys": _CARRIES + script.replace(synthesis, in_two)}
