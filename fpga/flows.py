"""What the tools of each family are called, and what their files and cells are."""

from dataclasses import dataclass

__all__ = ["FLOWS", "UNDEFINED_COLLISIONS", "Flow"]

UNDEFINED_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 a:ram_style=block %m t:$memrd_v2 %i"
"""For yosys, before synthesis. What a block RAM answers for a word that is written in the same cycle costs registers
and multiplexers where the part leaves it undefined. So do we: it is formally proven that no memory of ours is asked for
such a word."""


@dataclass(frozen=True)
class Flow:
    """From RTLIL to a bitstream for the parts of one family. Files are named as Amaranth's platforms name them.

    synthesis    the family's synth command in yosys, and its options
    netlist      what yosys leaves
    constraints  pins and clocks, as Amaranth writes them
    router       the nextpnr of the family
    options      that nextpnr is run with
    routed       what nextpnr leaves
    packer       the tool that makes the bitstream of it
    bitstream    what is loaded into the part
    cells        the cells that nextpnr counts, by resource, each with how many of it one takes
    while_ending options of nextpnr beside the others, dropped where it comes to no end with them
    haste        what nextpnr is asked for, in clocks of the chip
    """

    synthesis: tuple[str, ...]
    netlist: str
    constraints: str
    router: str
    options: tuple[str, ...]
    routed: str
    packer: str
    bitstream: str
    cells: dict[str, dict[str, float]]
    while_ending: tuple[str, ...] = ()
    haste: float = 1.0


FLOWS = {
    "ecp5": Flow(
        synthesis=("synth_ecp5",),
        netlist="top.json",
        constraints="top.lpf",
        router="nextpnr-ecp5",
        # Wires are a sixth shorter than with the default placer: behind that one router2 does not come to an end with
        # `cifar10-conv`, 63 % of the LUTs of an 85F.
        # router2 takes a third of the default router's time; without the second it takes no notice of time where wires
        # are short: 64 lanes reached 95 MHz with it, 81 MHz without. But it never ends where the clock is out of reach.
        options=("--placer", "static", "--router", "router2"),
        while_ending=("--tmg-ripup",),
        # router2 ends where its own analysis meets the constraint; the one after it has found up to 1.3 % less.
        haste=1.02,
        routed="top.config",
        packer="ecppack",
        bitstream="top.bit",
        cells={
            "lut": {"TRELLIS_COMB": 1},
            "ff": {"TRELLIS_FF": 1},
            "dsp": {"MULT18X18D": 1},
            "block_ram": {"DP16KD": 1},
        },
    ),
    "ice40up": Flow(
        # The delays of an UltraPlus instead of an HX. Eight flip-flops share an enable: those of rare ones leave gaps
        # wherever they are. At 93 % of the cells nextpnr finds no place for `mnist-small` without this.
        synthesis=("synth_ice40", "-device", "u", "-dffe_min_ce_use", "4"),
        netlist="top.json",
        constraints="top.pcf",
        router="nextpnr-ice40",
        options=(),
        routed="top.asc",
        packer="icepack",
        bitstream="top.bin",
        # A logic cell is a LUT and a flip-flop, which are not counted apart.
        cells={
            "lut": {"ICESTORM_LC": 1},
            "dsp": {"ICESTORM_DSP": 1},
            "block_ram": {"ICESTORM_RAM": 1},
            "spram": {"ICESTORM_SPRAM": 1},
        },
    ),
    "gowin": Flow(
        synthesis=("synth_gowin",),
        netlist="top.syn.json",
        constraints="top.cst",
        router="nextpnr-himbaechel",
        options=(),
        routed="top.pnr.json",
        packer="gowin_pack",
        bitstream="top.fs",
        # An ALU is made of a LUT, for which there is no other use then; what memories take is among LUT4.
        cells={
            "lut": {"LUT4": 1, "ALU": 1},
            "ff": {"DFF": 1},
            "dsp": {"MULT18X18": 1, "MULT9X9": 0.5},
            "block_ram": {"BSRAM": 1},
        },
    ),
    "nexus": Flow(
        synthesis=("synth_nexus",),
        netlist="top.json",
        constraints="top.pdc",
        router="nextpnr-nexus",
        # The default router finds no way from the oscillator's pin to the clock network.
        options=("--router", "router1"),
        routed="top.fasm",
        packer="prjoxide",
        bitstream="top.bit",
        cells={
            "lut": {"OXIDE_COMB": 1},
            "ff": {"OXIDE_FF": 1},
            "dsp": {"MULT18_CORE": 1},
            "block_ram": {"OXIDE_EBR": 1},
        },
    ),
}
"""By the name of the target."""
