"""The chip as a process on this machine: its Verilog compiled, started, reached over a local socket."""

from collections.abc import Callable
from pathlib import Path

from locallearn.sim.build import build
from locallearn.sim.compiler import Compiler
from locallearn.sim.process import SimulatorProcess

__all__ = ["SimulatedChip"]


class SimulatedChip(SimulatorProcess):
    """A simulated chip, from construction to `close()`.

    url  where it is reached, one client at a time: "socket://127.0.0.1:PORT", for pyserial's serial_for_url

    Raises ToolError if the chip cannot be built or started; `verilog` and the options are those of `build`.
    """

    def __init__(
        self,
        verilog: str,
        *,
        port: int = 0,
        cache_dir: Path | None = None,
        compiler: Compiler | None = None,
        optimise: bool = True,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Build and start the chip; it listens on `port` of the loopback interface, 0 is any free one."""
        super().__init__(build(verilog, cache_dir, compiler, optimise, progress), str(port))
        self.url = f"socket://127.0.0.1:{self.port}"
