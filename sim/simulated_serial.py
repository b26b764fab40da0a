"""The chip as a process, serial port and all: its wires end, bit by bit, in a pseudo-terminal of the system."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from locallearn.quant.errors import ToolError
from locallearn.sim.build import build
from locallearn.sim.compiler import Compiler
from locallearn.sim.harness import SERIAL
from locallearn.sim.process import SimulatorProcess

__all__ = ["SerialSimulatedChip", "WireErrors"]

# More than 300 baud at 250 MHz; the simulator could count a thousand times as far.
_MOST_CYCLES = 1_000_000


@dataclass(frozen=True)
class WireErrors:
    """What has gone wrong on the wires since the start.

    lost     the chip's own light: a byte came that it could not take, or that had no stop bit
    framing  bytes from the chip that had no start or stop bit where the far end looked, which dropped them
    """

    lost: bool
    framing: int


class SerialSimulatedChip(SimulatorProcess):
    """A simulated `fpga.top.SerialChip`, or another design with its wires rx and tx, from construction to `close()`.

    The far end of the wires is a UART of its own, whose bits last `cycles` of the chip's clock times 1 + `clock_error`.
    It sends what the host writes at this rate, whether the chip can take it or not; whatever rate the host asks the
    system for is of no consequence.

    url  where it is reached, by opening and closing it as often as wanted: a serial port such as "/dev/pts/3". What the
         chip says while it is closed is lost; while it is open, simulated time stops before anything is.

    `verilog` and the options are those of `build`. Of the design's other outputs it needs `lost` and `busy`; once
    `busy` was low and both wires at rest for the time of two bytes, nothing happens without input, and time stops.

    Raises ToolError if the chip cannot be built or started, ValueError if a bit lasts less than a cycle.
    """

    def __init__(
        self,
        verilog: str,
        cycles: float,
        clock_error: float = 0,
        *,
        cache_dir: Path | None = None,
        compiler: Compiler | None = None,
        optimise: bool = True,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        bit = cycles * (1 + clock_error)
        if not 1 <= bit <= _MOST_CYCLES:
            raise ValueError(f"a bit of {bit:g} cycles: must be 1 to {_MOST_CYCLES}")
        super().__init__(build(verilog, cache_dir, compiler, optimise, progress, SERIAL), repr(bit))
        self.url = self.port

    def errors(self) -> WireErrors:
        """So far. Raises ToolError if the simulator has ended."""
        match self.ask().split():
            case ["lost", lost, "framing", framing]:
                return WireErrors(lost != "0", int(framing))
        raise ToolError("The simulated chip has ended")
