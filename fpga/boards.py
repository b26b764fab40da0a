"""The boards that a chip can be built for."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Any

from locallearn.quant.errors import BuildError, ToolError
from locallearn.rtl.target import ECP5, GOWIN, ICE40UP, NEXUS, Target

__all__ = ["BOARDS", "Board", "Capacity", "find_board"]


@dataclass(frozen=True)
class Capacity:
    """What a part has, as nextpnr counts it.

    lut        of 4 inputs; iCE40's come with a flip-flop each, which is not counted apart
    ff         flip-flops
    dsp        multipliers of 18 x 18 bits, 16 x 16 on iCE40
    block_ram  of 18 kbit, 4 kbit on iCE40
    spram      of 256 kbit, iCE40's only
    """

    lut: int
    ff: int
    dsp: int
    block_ram: int
    spram: int = 0


@dataclass(frozen=True)
class Board:
    """A board with its part.

    name           as the command line takes it
    title          as its maker has it
    part           with package and speed grade
    target         what the part's family offers the chip
    pll            its PLL in PLLS
    clock_mhz      the chip's clock where no other is asked for
    baud           of the serial port: what its USB bridge can do
    receive_bytes  that can wait for the chip, in block RAM: none of the boards has a wire to stop the host with, and
                   what it sends beyond them while the chip takes none is lost
    capacity       of the part
    make_platform  makes what `platform` returns
    """

    name: str
    title: str
    part: str
    target: Target
    pll: str
    clock_mhz: float
    baud: int
    link_bytes: int
    capacity: Capacity
    make_platform: Callable[[], Any]

    def platform(self) -> Any:
        """A new Amaranth platform, good for one build. Raises ToolError where amaranth-boards is not installed."""
        try:
            return self.make_platform()
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "amaranth_boards":
                raise
            raise ToolError("amaranth-boards is missing: `pip install 'locallearn[fpga]'`") from None


def _platform(module: str, name: str) -> Any:
    """Amaranth is imported only where it is needed."""
    return getattr(import_module(module), name)()


_BOARDS = (
    Board(
        name="ulx3s-85f",
        title="Radiona ULX3S, 85F",
        part="LFE5U-85F-6BG381C",
        target=ECP5,
        pll="ecp5",
        clock_mhz=100,
        # FT231X: 3 MHz divided by 1, its fastest.
        baud=3_000_000,
        link_bytes=4096,
        capacity=Capacity(lut=83640, ff=83640, dsp=156, block_ram=208),
        make_platform=partial(_platform, "amaranth_boards.ulx3s", "ULX3S_85F_Platform"),
    ),
    Board(
        name="ulx3s-25f",
        title="Radiona ULX3S, 25F",
        part="LFE5U-25F-6BG381C",
        target=ECP5,
        pll="ecp5",
        clock_mhz=100,
        baud=3_000_000,
        link_bytes=4096,
        capacity=Capacity(lut=24288, ff=24288, dsp=28, block_ram=56),
        make_platform=partial(_platform, "amaranth_boards.ulx3s", "ULX3S_25F_Platform"),
    ),
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker",
        part="iCE40UP5K-SG48",
        target=ICE40UP,
        pll="ice40up",
        clock_mhz=36,
        # FT2232H: 12 MHz divided by 4. It makes 6 Mbaud too, but then samples come as fast as 4 lanes learn from them.
        baud=3_000_000,
        link_bytes=1024,
        capacity=Capacity(lut=5280, ff=5280, dsp=8, block_ram=30, spram=4),
        make_platform=partial(_platform, "amaranth_boards.icebreaker", "ICEBreakerPlatform"),
    ),
    Board(
        name="tang-nano-20k",
        title="Sipeed Tang Nano 20K",
        part="GW2AR-LV18QN88C8/I7",
        target=GOWIN,
        pll="gw2a-18c",
        clock_mhz=54,
        # BL616: its UART divides 40 MHz by whole numbers; 3 Mbaud would be 2.6 % off.
        baud=2_000_000,
        link_bytes=4096,
        capacity=Capacity(lut=20736, ff=15552, dsp=48, block_ram=46),
        make_platform=partial(_platform, "locallearn.fpga.platforms", "TangNano20KPlatform"),
    ),
    Board(
        name="tang-nano-9k",
        title="Sipeed Tang Nano 9K",
        part="GW1NR-LV9QN88PC6/I5",
        target=GOWIN,
        pll="gw1n-9c",
        clock_mhz=27,
        # BL702: its UART divides 96 MHz by whole numbers.
        baud=3_000_000,
        link_bytes=2048,
        capacity=Capacity(lut=8640, ff=6480, dsp=20, block_ram=26),
        make_platform=partial(_platform, "amaranth_boards.tang_nano_9k", "TangNano9kPlatform"),
    ),
    Board(
        name="crosslink-nx-evn",
        title="Lattice CrossLink-NX Evaluation Board",
        part="LIFCL-40-9BG400C",
        target=NEXUS,
        pll="nexus",
        clock_mhz=12,
        # FT2232H: 12 MHz divided by 4, for a clock of 12 MHz.
        baud=3_000_000,
        link_bytes=4096,
        capacity=Capacity(lut=32256, ff=32256, dsp=56, block_ram=84),
        make_platform=partial(_platform, "locallearn.fpga.platforms", "CrossLinkNxEvnPlatform"),
    ),
)

BOARDS = {board.name: board for board in _BOARDS}
"""By name."""


def find_board(name: str) -> Board:
    """The board called `name`. Raises BuildError, naming those that are meant or all there are."""
    if name in BOARDS:
        return BOARDS[name]
    similar = get_close_matches(name.lower().replace("_", "-"), BOARDS)
    raise BuildError(f"{name}: no such board; there is {', '.join(similar or BOARDS)}")
